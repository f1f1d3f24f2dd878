"""What every reader's studies have in common."""

import gc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xray_captioning.data.studies import SECTIONS, VIEWS, Study, collected_seldom, select_images, study_frame


@pytest.mark.parametrize("missing", ["nan", "NaN", "None", "N/A", "n.a.", "[]", "-", "<NA>", " ", "startseq endseq"])
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


# --- each view has its own place in a model; an image never stands in the other view's ---


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        ("F", ["a"]),
        ("L", [None, "a"]),
        ("U", ["a"]),
        ("FL", ["a", "b"]),
        ("LF", ["b", "a"]),
        ("UU", ["a", "b"]),
        ("LU", ["b", "a"]),
        ("FU", ["a", "b"]),
        ("LL", [None, "a"]),
        ("FF", ["a"]),
        ("LFF", ["b", "a"]),
        ("UUU", ["a", "b"]),
        ("FFL", ["a", "c"]),
        ("FFU", ["a", "c"]),
        ("LUU", ["b", "a"]),
    ],
)
def test_each_image_stands_in_the_place_of_its_view(views, expected):
    names = [{"F": "frontal", "L": "lateral", "U": "unknown"}[letter] for letter in views]
    assert select_images("abc"[: len(names)], names, 2) == expected


def test_a_lone_image_is_repeated_only_where_asked():
    assert select_images(["a"], ["frontal"], 2) == ["a"]
    assert select_images(["a"], ["lateral"], 2, repeat=True) == ["a", "a"]


def test_a_model_of_one_view_looks_at_what_there_is():
    assert select_images(["a", "b", "c"], ["unknown"] * 3, 1) == ["a"]
    assert select_images(["a", "b"], ["lateral", "frontal"], 1) == ["b"]
    assert select_images(["a", "b"], ["lateral", "unknown"], 1) == ["b"]
    assert select_images(["a"], ["lateral"], 1) == ["a"]


def test_a_third_place_takes_what_is_left():
    assert select_images("abc", ["frontal", "frontal", "lateral"], 3) == ["a", "c", "b"]
    assert select_images("abc", ["lateral"] * 3, 3) == [None, "a", "b"]


@given(st.lists(st.sampled_from(VIEWS), max_size=5), st.integers(2, 4))
def test_no_named_view_stands_in_the_others_place(views, count):
    chosen = select_images(range(len(views)), views, count)
    assert len(chosen) <= count
    present = [image for image in chosen if image is not None]
    assert len(set(present)) == len(present)
    assert bool(present) == bool(views)
    for place, other in enumerate(("lateral", "frontal")):
        assert chosen[place : place + 1] == [None] or other not in [views[image] for image in chosen[place : place + 1]]
