"""What every reader's studies have in common."""

import gc
from pathlib import Path

import pytest

from xray_captioning.data.studies import SECTIONS, Study, collection_paused, study_frame


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


@pytest.mark.parametrize("was_on", [True, False])
def test_circular_garbage_is_looked_for_afterwards_as_before(was_on: bool) -> None:
    before = gc.isenabled()
    (gc.enable if was_on else gc.disable)()
    try:
        with pytest.raises(KeyError), collection_paused():
            raise KeyError(gc.isenabled())
        assert gc.isenabled() is was_on
    finally:
        (gc.enable if before else gc.disable)()
