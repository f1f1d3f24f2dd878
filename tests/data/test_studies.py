"""What every reader's studies have in common."""

import gc
from pathlib import Path

import pytest

from xray_captioning.data.studies import SECTIONS, Study, collected_seldom, study_frame


@pytest.mark.parametrize("missing", ["nan", "NaN", "None", "null", "<NA>", " ", "startseq endseq"])
def test_a_report_that_is_no_text_is_missing(missing: str) -> None:
    study = Study("1", [], [], findings=missing, impression=f"Clear. {missing}")
    assert study.findings is None
    if missing in ("nan", "NaN"):
        assert study.impression == "Clear."


def test_none_is_what_a_reader_may_compare_with() -> None:
    assert Study("1", [], [], comparison="None").comparison == "None"
    assert Study("1", [], [], comparison="nan").comparison is None


def test_words_of_programs_never_stay() -> None:
    texts = {name: f"<start> {name} . endseq" for name in SECTIONS}
    study = Study("1", [], [], **texts)
    assert [getattr(study, name) for name in SECTIONS] == [f"{name} ." for name in SECTIONS]


def test_start_and_end_around_every_text_are_marks() -> None:
    studies = [Study(str(n), [], [], findings=f"start text {n} end") for n in range(3)]
    studies[1].impression = "start of treatment"
    frame = study_frame(studies, Path("captions.csv"))
    assert list(frame["findings"]) == ["text 0", "text 1", "text 2"]
    assert list(frame["impression"]) == [None, "start of treatment", None]


@pytest.mark.parametrize("threshold", [700, 0])
def test_garbage_is_looked_for_seldom_and_afterwards_as_before(threshold: int) -> None:
    before = gc.get_threshold()
    gc.set_threshold(threshold, 9, 8)
    try:
        with pytest.raises(KeyError) as raised, collected_seldom():
            raise KeyError(*gc.get_threshold())
        assert gc.get_threshold() == (threshold, 9, 8)
        assert (raised.value.args[0] > 10_000) is bool(threshold)  # 0: it is never looked for
    finally:
        gc.set_threshold(*before)
