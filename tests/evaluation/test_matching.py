"""Texts go to the studies that their ids mean, or to none."""

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xray_captioning.errors import DataError
from xray_captioning.evaluation.caption_files import TextColumn
from xray_captioning.evaluation.matching import (
    ResultsWarning,
    Studies,
    by_row,
    common_rows,
    in_order,
    later_id,
    scored_section,
)

STUDIES = Studies(["7", "12"], [["/data/a/p7/0.png"], ["/data/a/p12/0.png", "/data/a/p12/x.dcm"]])
TEXTS = ["seven", "twelve"]


def test_what_programs_add_to_an_id_is_left_out() -> None:
    written = ("7", 7.0, "0007", "s7", "CXR7", "p10/s7.txt", "CXR7_IM-2263", " 7 ", "a7", "")
    assert [later_id(one) for one in written] == [*["7"] * 8, "a7", ""]


def test_texts_are_put_in_order() -> None:
    assert in_order("x", {"12": "b", "7": "a"}, STUDIES) == ["a", "b"]
    assert in_order("x", ["a", "b"], STUDIES) == ["a", "b"]
    with pytest.raises(DataError, match=r"x has no text for study 12 \(1 of 2.*--only-common"):
        in_order("x", {"7": "a"}, STUDIES)
    with pytest.raises(DataError, match="x has 1 texts without a study_id, but 2"):
        in_order("x", ["a"], STUDIES)


@pytest.mark.parametrize(
    "ids",
    [
        ("7", "12"),
        (7, 12.0),
        ("7.0", "12.0"),
        ("0007", "0012"),
        ("s7", "s12"),
        ("CXR7_IM-2263", "CXR12_IM-0001"),
        ("files/p10/s7.txt", "files/p10/s12.txt"),
        ("a/p7/0.png", "a/p12/x.dcm"),
        ("other\\place\\a\\p7\\0.jpg", "other\\place\\a\\p12\\0.jpg"),
        (["a/p7/0.png"], ["a/p12/0.png", "a/p12/x.dcm"]),
        ("['a/p7/0.png']", "['a/p12/0.png', 'a/p12/x.dcm']"),
        ("P7/0", "x"),
    ],
)
def test_ids_as_others_write_them(ids: tuple) -> None:
    written = TextColumn(TEXTS[::-1], {"key": list(ids[::-1])})
    if "x" in ids:
        assert by_row("x", written, STUDIES) == dict(enumerate(range(len(TEXTS))[::-1]))
    assert in_order("x", written, STUDIES) == TEXTS


@pytest.mark.parametrize(
    "ids",
    [
        ("70", "120"),
        ("a7", "a12"),
        ("b/p8/0.png", "b/p9/0.png"),  # 0.png alone may be either's
        ("0.png", "1.png"),
    ],
)
def test_other_ids_are_nobody(ids: tuple) -> None:
    with pytest.raises(DataError, match=r"f\.csv: system x: no id is that of .* \(key .*data has 7\)"):
        by_row("x", TextColumn(TEXTS, {"key": list(ids)}, "f.csv"), STUDIES)


def test_the_column_that_names_most_studies_counts() -> None:
    written = TextColumn(TEXTS, {"study_id": ["u", "v"], "dicom_id": ["x", "p7/0"]})
    assert in_order("x", written, STUDIES) == TEXTS[::-1]


def test_spellings_that_mean_two_studies_mean_none() -> None:
    two = Studies(["7", "s7"], [[], []])
    assert in_order("x", {"s7": "b", "7": "a"}, two) == ["a", "b"]
    with pytest.raises(DataError, match="no id"):
        by_row("x", {"CXR7": "a"}, two)
    with pytest.raises(DataError, match="no id"):  # the other one is in another part
        by_row("x", {"CXR7": "a"}, Studies(["7"], others=frozenset(["s7"])))
    elsewhere = Studies(["7"], [["p7/0.png"]], frozenset(["8"]), [["p8/0.png"]])
    with pytest.raises(DataError, match="no id"):
        by_row("x", {"p9/0.png": "a"}, elsewhere)


def test_two_texts_of_one_study_are_refused() -> None:
    with pytest.raises(DataError, match="x names a study twice, the second time as id s7"):
        by_row("x", {"07": "a", "s7": "b", "012": "c"}, STUDIES)
    elsewhere = TextColumn(["a", "b", "c"], {"id": ["7", "9", "9"]}, "f.csv")
    with pytest.raises(DataError, match=r"f\.csv: system x names a study twice, .* as id 9"):
        by_row("x", elsewhere, STUDIES)


def test_unknown_studies_are_counted_and_others_not() -> None:
    studies = Studies(["7"], others=frozenset(["8", "s9"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert by_row("x", {"7": "a", "8": "b", "9": "c"}, studies) == {0: 0}
    with pytest.warns(ResultsWarning, match=r"x: 2 of 3 texts are of no study .* such as .* of u"):
        by_row("x", {"7": "a", "u": "b", "v": "c"}, studies)
    with pytest.warns(ResultsWarning, match="1 of 2 texts are empty .* first that of 7"):
        in_order("x", {"7": " ", "12": "c"}, STUDIES)


def test_what_all_have_in_common() -> None:
    texts = {"x": [{"7": "a", "12": "b"}], "y": [{"12": "c"}, ["d", "e"]]}
    assert common_rows(texts, STUDIES) == [1]
    with pytest.raises(DataError, match="no study has a text of every system"):
        common_rows({"x": [{"7": "a"}], "y": [{"12": "c"}]}, STUDIES)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"7": float("nan"), "12": "x"}, "system x, study 7: is float, not one text"),
        (["a", None], "system x, text 2: is NoneType"),
        ({"7": "NaN", "12": "x"}, "is 'NaN', as a missing value is written"),
    ],
)
def test_what_is_no_text_is_refused(given: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        in_order("x", given, STUDIES)


@given(st.lists(st.text(max_size=8), min_size=1, max_size=6, unique=True), st.randoms())
def test_ids_as_they_stand_always_match(ids: list[str], random) -> None:
    texts = {study: f"text of {number}" for number, study in enumerate(ids)}
    shuffled = dict(random.sample(list(texts.items()), len(ids)))
    assert in_order("x", shuffled, Studies(ids, [[]] * len(ids))) == list(texts.values())


def test_of_a_whole_report_the_section_is_scored_that_references_are() -> None:
    texts = ["FINDINGS: Clear. IMPRESSION: Normal.", "findings : small effusion .", "No edema."]
    with pytest.warns(ResultsWarning, match="x: 2 of 3 texts have headings; their findings is"):
        found = scored_section("x", texts, "findings")
    assert found == ["Clear.", "small effusion .", "No edema."]
    with pytest.warns(ResultsWarning, match="2 of 3"):
        assert scored_section("x", texts, "impression") == ["Normal.", *texts[1:]]
    assert scored_section("x", texts, "report") == texts
