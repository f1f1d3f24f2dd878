"""What a model may read beside a study's images: whose text it is, and that it is never a later one's."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xray_captioning.config import Config
from xray_captioning.data.datasets import with_context
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.targets import context_tokens, contexts, usable_studies, with_priors
from xray_captioning.errors import DataError
from xray_captioning.text.tokenizer import Tokenizer

BOTH = Config().replace({"text.context": ["indication", "prior"], "text.maximum_length": 6})
DAY = st.none() | st.integers(1, 4).map(str)


def table(*rows):
    """Return studies of (patient, date, impression)."""
    patients, dates, texts = zip(*rows)
    ids = [f"s{number}" for number in range(len(rows))]
    columns = {"study_id": ids, "patient_id": patients, "date": dates, "impression": texts}
    return pd.DataFrame(columns, dtype=object)


def priors(studies):
    return [one["prior"] for one in contexts(with_priors(studies, BOTH), BOTH)]


@given(st.lists(st.tuples(st.sampled_from("ab"), DAY, st.sampled_from([None, "one", "two", "three"])), min_size=1))
def test_the_prior_is_the_last_text_of_an_earlier_day_of_the_patient(rows):
    found = priors(table(*rows))
    for (patient, day, _), prior in zip(rows, found):
        known = [(int(d), n, t) for n, (p, d, t) in enumerate(rows) if p == patient and d and day and int(d) < int(day)]
        texts = [text for _, _, text in sorted(known, key=lambda one: one[:2]) if text]
        assert prior == (texts[-1] if texts else None)


@pytest.mark.parametrize("missing", [None, "", np.nan])
def test_patients_that_are_not_named_are_others(missing):
    studies = table((missing, "1", "one"), (missing, "2", "two"), ("a", "1", "three"), ("a", "2", "four"))
    assert priors(studies) == [None, None, None, "three"]


def test_no_prior_is_of_another_part_of_a_published_split():
    studies = table(("a", "1", "one"), ("a", "2", "two"), ("a", "3", "three"), ("a", "4", "four"))
    assert priors(studies.assign(split=["train", "test", "train", "test"])) == [None, None, "one", "two"]
    assert priors(studies.assign(split=None)) == [None, "one", "two", "three"]


def test_dates_are_days_or_numbers_and_others_are_refused_without_being_shown():
    days = ["2024-02-01", "20240131", "2024-01-30T23:59", "2024-01-30 00:01:07.5"]
    studies = table(*(("a", day, f"of {day}") for day in days))
    assert priors(studies) == ["of 20240131", f"of {days[3]}", None, None]
    with pytest.raises(DataError, match=r"^study 's0': its date does not tell an order; ") as caught:
        with_priors(table(("a", "31/01/2024", "x")), BOTH)
    assert "31/01" not in str(caught.value)
    mixed = table(("a", "2019", "x"), ("a", "20200501", "y"), ("b", "2", "z"))
    with pytest.raises(
        DataError, match=r"'s1': its date is a day, another one's of its patient a number; write all alike"
    ):
        with_priors(mixed, BOTH)
    written_as_numbers = table(("a", "20240131.0", "one"), ("a", "NaT", "two"), ("a", "2024-02-01", "three"))
    assert priors(written_as_numbers) == [None, None, "one"]
    indication = Config().replace({"text.context": ["indication"]})
    assert with_priors(wrong := table(("a", "31/01/2024", "x")), indication) is wrong  # it does not matter then


def test_a_table_names_dates_and_priors_and_the_prior_may_have_no_image(tmp_path):
    lines = ["image,caption,patient_id,study_date,prior,indication", "a.png,Clear lungs.,p,2024-01-01,,"]
    lines += ["b.png,Small effusion.,p,2024-01-02,,Cough.", "c.png,Large heart.,p,2024-01-03,Told beside.,"]
    (tmp_path / "captions.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "b.png").touch()
    (tmp_path / "c.png").touch()
    usable = usable_studies(read_studies(tmp_path), BOTH)
    assert contexts(usable, BOTH) == [
        {"indication": "Cough.", "prior": "Clear lungs."},
        {"indication": None, "prior": "Told beside."},
    ]
    assert contexts(usable, Config()) is None


def test_kaggle_tables_may_name_patients_and_dates(tmp_path):
    (tmp_path / "indiana_reports.csv").write_text(
        "uid,findings,impression,patient_id,study_date\n1,,A.,p,1\n2,,B.,p,2\n"
    )
    (tmp_path / "indiana_projections.csv").write_text("uid,filename,projection\n1,1.png,Frontal\n2,2.png,Frontal\n")
    studies = read_studies(tmp_path)
    assert list(studies["patient_id"]) == ["p", "p"]
    assert priors(studies) == [None, "A."]


def test_token_ids_are_zero_where_there_is_no_text():
    tokenizer = Tokenizer.fit(["cough .", "clear lungs ."])
    given = [{"indication": "Cough!", "prior": None}, {}, {"prior": "Clear lungs, clear lungs, clear lungs."}]
    rows = context_tokens(given, tokenizer, BOTH)
    assert rows.shape == (3, 2, 6)
    assert rows.dtype == np.int32
    assert tokenizer.decode(rows[0, 0]) == "cough ."
    assert rows[2, 1].all()  # cut
    assert not rows[0, 1].any()
    assert not rows[1:, 0].any()


def test_each_kind_is_withheld_by_itself_and_never_outside_training():
    rows = np.ones((400, 2, 3), "int32")
    make = with_context(lambda numbers, rng: {"regions": numbers}, rows, 0.5)
    found = make(np.arange(400), np.random.default_rng(0))["context"]
    kept = found[..., 0]
    assert (found == kept[..., None]).all()
    assert 150 < kept[:, 0].sum() < 250
    assert 60 < (kept[:, 0] * kept[:, 1]).sum() < 140
    whole = with_context(lambda numbers, rng: {}, rows, 0)(np.arange(400), np.random.default_rng(0))["context"]
    assert whole.all()
