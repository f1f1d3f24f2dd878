from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.studies import Study, study_frame
from xray_captioning.errors import DataError
from xray_captioning.training.labels import (
    finding_labels,
    intercept_shift,
    prevalence,
    rarity,
)


def table(*studies: dict[str, object]) -> pd.DataFrame:
    rows = [Study(str(i), [], [], **values) for i, values in enumerate(studies)]
    return study_frame(rows, Path("here"))


def column(studies: pd.DataFrame, name: str) -> list[float]:
    names, labels = finding_labels(studies)
    return labels[:, names.index(name)].tolist()


def test_codes_count_where_there_are_some() -> None:
    studies = table(
        {"problems": ["Cardiomegaly", "Effusion"], "findings": "No pneumothorax."},
        {"problems": [], "findings": "There is a pneumothorax."},
        {"problems": ["Nodule"]},
    )
    names, labels = finding_labels(studies)
    assert "Pneumothorax" not in names  # said, but not coded
    assert column(studies, "Cardiomegaly") == [1, 0, 0]
    assert labels.dtype == np.float32
    assert labels.shape == (3, len(names))
    assert not np.isnan(labels).any()


def test_codes_of_the_collection_are_translated() -> None:
    names, labels = finding_labels(table({"problems": ["Pleural Effusion"]}, {"problems": []}))
    assert names == ["Pleural Effusion"]
    assert labels.tolist() == [[1], [0]]


def test_words_count_where_nothing_is_coded() -> None:
    studies = table(
        {"findings": "There is a large left pleural effusion."},
        {"impression": "No pleural effusion."},
        {"findings": "Possible pleural effusion."},
        {"findings": "The heart is normal."},
        {"indication": "effusion"},
    )
    effusion = column(studies, "Pleural Effusion")
    assert effusion[:2] == [1, 0]
    assert np.isnan(effusion[2])  # uncertain is unknown
    assert effusion[3] == 0  # not mentioned
    assert np.isnan(effusion[4])  # a study without words is unknown throughout


def test_both_sections_are_read() -> None:
    studies = table({"findings": "Cardiomegaly.", "impression": "Left pneumothorax."})
    assert set(finding_labels(studies)[0]) >= {"Cardiomegaly", "Pneumothorax"}


def test_only_findings_that_somebody_has_are_learned() -> None:
    names, labels = finding_labels(table({"problems": ["Edema", "unheard of"]}, {}))
    assert names == ["Edema"]
    assert labels.tolist() == [[1], [0]]


@pytest.mark.parametrize("study", [{}, {"findings": "The lungs are clear."}, {"problems": ["x"]}])
def test_nothing_to_learn(study: dict[str, object]) -> None:
    with pytest.raises(DataError, match="none of 1 studies has a finding to learn; give data"):
        finding_labels(table(study))


def test_phantoms_are_labelled_by_their_codes(phantoms: Path) -> None:
    studies = read_studies(phantoms)
    names, labels = finding_labels(studies)
    assert len(names) >= 5
    normal = [not problems for problems in studies["problems"]]
    assert (labels[normal] == 0).all()
    assert (labels[np.logical_not(normal)].sum(axis=1) > 0).all()


def test_real_labels(shared_data: Path) -> None:
    studies = read_studies(shared_data / "nih14")
    names, labels = finding_labels(studies)
    assert len(names) == 14
    assert labels.sum(axis=0).min() >= 1
    assert set(np.unique(labels)) == {0.0, 1.0}


def test_rare_findings_are_drawn_more_often_and_normal_studies_count_as_a_finding():
    labels = np.array([[1, 0], [1, 1], [1, np.nan], [1, 0], [0, 0], [0, 0]], "float32")
    found = rarity(labels)
    np.testing.assert_allclose(found, [0.5, 1, 0.5, 0.5, 2**-0.5, 2**-0.5], rtol=1e-6)


def test_prevalence_is_the_share_of_known_labels_and_never_0_or_1():
    labels = np.array([[1, 0, 1, np.nan], [0, 0, 1, np.nan], [0, 0, 1, np.nan], [np.nan] * 4])
    np.testing.assert_allclose(prevalence(labels), [1 / 3, 1 / 6, 5 / 6, 0.5])


def test_a_shifted_classifier_answers_with_the_prevalence_on_average():
    rng = np.random.default_rng(0)
    shares = np.array([0.4, 0.1, 0.01, 0.7])
    labels = np.where(rng.random((200, 4)) < 0.3, np.nan, 0.0)
    labels[:, 3] = np.nan
    logits = rng.normal(4, 6, labels.shape).astype("float32")
    shift = intercept_shift(logits, labels, shares)
    found = np.where(np.isnan(labels), np.nan, expit(logits + shift))
    np.testing.assert_allclose(np.nanmean(found[:, :3], axis=0), shares[:3], rtol=1e-9)
    assert shift[3] == 0  # no label is known
    same = intercept_shift(np.full((3, 1), 2.0), np.zeros((3, 1)), np.array([0.2]))
    np.testing.assert_allclose(expit(2 + same), 0.2)
