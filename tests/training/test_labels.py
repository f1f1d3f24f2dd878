from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.studies import Study, study_frame
from xray_captioning.errors import DataError
from xray_captioning.training.labels import finding_labels, intercept_shift, prevalence, rarity


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


def test_a_classifier_that_sees_nothing_answers_with_the_usual_share():
    rng = np.random.default_rng(0)
    shares = np.array([0.4, 0.1, 0.01, 0.7])
    labels = np.where(rng.random((200, 4)) < 0.3, np.nan, 0.0)
    labels[:, 3] = np.nan
    shift = intercept_shift(np.full(labels.shape, 2.0, "float32"), labels, shares)
    np.testing.assert_allclose(expit(2 + shift[:3]), shares[:3], rtol=1e-9)
    assert shift[3] == 0  # no label is known


def test_a_classifier_that_sees_everything_is_held_to_what_is_there():
    """12 of these 200 images show a finding that 30 of 200 usually show: 12 are right."""
    labels = (np.arange(200) < 12).astype(float)[:, None]
    logits = np.where(labels > 0, 9.0, -9.0) + 3
    shift = intercept_shift(logits, labels, np.array([0.15]))
    np.testing.assert_allclose(expit(logits + shift).mean(), 0.06, atol=0.002)


@pytest.mark.parametrize("spread", [0.5, 4, 12])  # of logits: from nearly blind to nearly sure
def test_the_mean_is_as_near_to_the_truth_as_by_either_source_alone(spread):
    rng = np.random.default_rng(0)
    z = rng.normal(-4, spread, (150, 200, 1))
    labels = (rng.random(z.shape) < expit(z)).astype(float)
    usual, errors = expit(z).mean(axis=(0, 1)), []
    for logits, truth in zip(z, labels):
        own = truth.mean(axis=0)
        shifts = [intercept_shift(logits, truth, usual), _held_to(logits, usual), _held_to(logits, own)]
        errors.append([expit(z + shift).mean() / usual[0] - 1 for shift in shifts])
    both, by_usual, by_own = np.sqrt(np.square(errors).mean(axis=0))
    assert both <= 1.1 * min(by_usual, by_own)


def _held_to(logits, share):
    """Return the shift to one share, by halving."""
    low, high = -60.0, 60.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if expit(logits + middle).mean() > share else (middle, high)
    return np.array([low])
