"""Texts of other systems in every format they come in."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xray_captioning.errors import DataError
from xray_captioning.evaluation.caption_files import in_order, read_captions


def read(folder: Path, name: str, content: str | object) -> dict:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_text(text, "utf-8", newline="")
    return read_captions(folder / name)


def test_csv_has_a_column_a_system(tmp_path: Path) -> None:
    found = read(tmp_path, "t.csv", 'study_id,reference,R2Gen CMN,b\n1,x,"one , two .",y\n2,x,,z\n')
    assert found == {"R2Gen CMN": {"1": "one , two .", "2": ""}, "b": {"1": "y", "2": "z"}}


def test_r2gen_result_files_have_one_column_and_no_header(tmp_path: Path) -> None:
    assert read(tmp_path, "res.csv", 'heart normal .\n""\n"a, b ."\n') == {
        "res": ["heart normal .", "", "a, b ."]
    }


def test_plain_text_is_a_text_a_line(tmp_path: Path) -> None:
    assert read(tmp_path, "mine.txt", "\ufeffone\r\n\r\nth\x0cree\n") == {
        "mine": ["one", "", "th\x0cree"]
    }


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"1": "a", "2": ["b"]}, {"t": {"1": "a", "2": "b"}}),
        ({"x": {"1": "a"}, "y": {"1": "b"}}, {"x": {"1": "a"}, "y": {"1": "b"}}),
        (["a", "b"], {"t": ["a", "b"]}),
        ([{"study_id": 1, "x": "a"}, {"study_id": 2, "x": "b"}], {"x": {"1": "a", "2": "b"}}),
        ([{"image_id": "7", "caption": "a", "ground_truth": "r"}], {"caption": {"7": "a"}}),
        ({"1": "half \ud800"}, {"t": {"1": "half ?"}}),
    ],
)
def test_json(tmp_path: Path, content: object, expected: object) -> None:
    assert read(tmp_path, "t.json", content) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "study_id,a\n", "has no row"),
        ("t.csv", "study_id,reference\n1,x\n", "no column beside study_id"),
        ("t.csv", "study_id,a\n1,x\n1,y\n", "study 1 is named twice"),
        ("t.csv", "uid,a\n1,x\n", "lacks the column study_id"),
        ("t.txt", "", "is empty"),
        ("t.json", "{", "not valid JSON"),
        ("t.json", {}, "holds no texts"),
        ("t.json", 3, "holds no texts"),
        ("t.json", {"1": None}, "study 1: is NoneType, not one text"),
        ("t.json", {"1": ["a", "b"]}, "study 1: is list, not one text"),
        ("t.json", ["a", 3], "entry 2: is int"),
        ("t.json", [{"x": "a"}], "entry 1: needs a study_id"),
        ("t.json", [{"id": 1, "x": "a"}, {"id": 2}], "entry 2: lacks x"),
        ("t.json", [{"id": 1, "x": "a"}, "b"], "entry 2: lacks id"),
        ("t.json", [{"id": 1, "x": "a"}, {"id": 1, "x": "b"}], "study 1 is named twice"),
    ],
)
def test_what_is_no_system_is_refused(
    tmp_path: Path, name: str, content: object, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, name, content)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", ["t.csv", "t.txt", "t.json"])
def test_bytes_that_are_no_text_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"study_id,a\n1,\xff\n")
    with pytest.raises(DataError, match="UTF-8"):
        read_captions(tmp_path / name)


def test_texts_are_put_in_order() -> None:
    assert in_order("x", {"1": "a", "2": "b", "3": "c"}, ["2", "1"]) == ["b", "a"]
    assert in_order("x", ["a", "b"], ["2", "1"]) == ["a", "b"]
    with pytest.raises(DataError, match=r"x has no text for study 2 \(1 of 2"):
        in_order("x", {"1": "a"}, ["1", "2"])
    with pytest.raises(DataError, match="x has 1 texts without a study_id, but 2"):
        in_order("x", ["a"], ["1", "2"])


@given(st.text(max_size=60))
def test_any_json_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(text, "utf-8", errors="replace")
    try:
        assert read_captions(path)
    except DataError as error:
        assert "\n" not in str(error)  # noqa: PT017
