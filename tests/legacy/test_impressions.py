"""The older project's table of impressions, on reports the tests write and on the real archive."""

import tarfile
from pathlib import Path

import pandas as pd
import pytest

from xray_captioning.errors import DataError
from xray_captioning.legacy.impressions import (
    COLUMNS,
    SECTIONS,
    drop_incomplete,
    impression_table,
    pair_images,
    pair_table,
    read_report,
)


def report(images: str = "", **sections: str) -> str:
    """Write XML in the layout of the Open-i files: one element a line."""
    lines = ["<?xml version='1.0' encoding='utf-8'?>", "<eCitation>", '<uId id="CXR1"/>']
    lines += [f'<AbstractText Label="{k.upper()}">{v}</AbstractText>' for k, v in sections.items()]
    lines += [f'<parentImage id="{name}">\n<figureId>F1</figureId></parentImage>' for name in images]
    return "\n".join([*lines, "</eCitation>", ""])


def sections(text: str) -> dict[str, str | None]:
    (row,) = read_report(text.encode(), "folder/7.xml")
    return {name: row[name] for name in SECTIONS}


def folder_of(path: Path, **texts: str) -> Path:
    path.mkdir()
    for name, text in texts.items():
        (path / f"{name.removeprefix('n')}.xml").write_text(text, "utf-8")
    return path


@pytest.mark.parametrize(
    ("images", "pairs"),
    [
        ("", [(None, None)]),
        ("a", [("a", "a")]),
        ("ab", [("a", "b")]),
        ("abc", [("a", "b"), ("b", "c")]),
        ("abcd", [("a", "b"), ("b", "c"), ("c", "d")]),
        ("abcde", [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e")]),
        ("aab", [("a", "a"), ("a", "b")]),
    ],
)
def test_pairs(images: str, pairs: list[tuple[str | None, str | None]]) -> None:
    assert pair_images(list(images)) == pairs


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("No effusion. Clear lungs.", "no effusion . clear lungs ."),
        ("Heart &amp; lungs &lt; normal.", "heart amp lungs lt normal ."),
        ("XXXX-year-old with XXXX. ", "year old with"),
        ("1. A 10 mm nodule. 2. Stable.", "a mm nodule . stable ."),
        ("seen in 2012.", "seen in"),  # the digit takes the full stop along
        ("a ratio > 3", "a ratio"),
        ("It's up/down, (left)", "it s up down left"),
        ("caf\u00e9 \u2013 x\u00b2", "caf x"),
        ("XXXX", None),
        ("12", None),
        ("  ", None),
        ("", None),
        (".", "."),
    ],
)
def test_text_rule(raw: str, cleaned: str | None) -> None:
    assert sections(report(impression=raw))["impression"] == cleaned


def test_the_first_element_with_a_label_counts() -> None:
    doubled = report(findings="first", impression="kept").replace(
        "</eCitation>", '<AbstractText Label="FINDINGS">second</AbstractText>\n</eCitation>'
    )
    assert sections(doubled)["findings"] == "first"
    empty = doubled.replace(">first</AbstractText>", "/>")
    assert sections(empty) == dict.fromkeys(SECTIONS) | {"impression": "kept"}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_text_that_does_not_end_on_its_line_is_missing(end: str) -> None:
    text = report(findings="one\ntwo", impression="kept").replace("\n", end)
    assert sections(text)["findings"] is None
    assert sections(text)["impression"] == "kept"


def test_elements_on_one_line_stay_apart() -> None:
    text = report(comparison="", findings="one", impression="two").replace("\n", "")
    assert sections(text) == {"comparison": None, "indication": None, "findings": "one", "impression": "two"}


def test_table(tmp_path: Path) -> None:
    whole = {"comparison": "None.", "indication": "Cough", "findings": "X", "impression": "Ok."}
    folder = folder_of(
        tmp_path / "reports",
        n10=report("ab", **whole),
        n2=report("c", impression="Stable"),
        n3=report("", impression="No image."),
        n4=report("d", findings="No impression."),
        n5=report("efg", impression="Three."),
    )
    before = pair_table(folder)
    assert tuple(before.columns) == COLUMNS
    assert list(before["xml"]) == ["2.xml", "3.xml", "4.xml", "5.xml", "5.xml", "10.xml"]
    after = impression_table(folder)
    assert list(after.index) == [0, 1, 2, 3]
    assert after[["xml", "image_1", "image_2", "impression"]].to_numpy().tolist() == [
        ["2.xml", "c.png", "c.png", "stable"],
        ["5.xml", "e.png", "f.png", "three ."],
        ["5.xml", "f.png", "g.png", "three ."],
        ["10.xml", "a.png", "b.png", "ok ."],
    ]
    assert after["findings"].isna().all()
    assert list(after["indication"].fillna("missing")) == ["missing"] * 3 + ["cough"]
    pd.testing.assert_frame_equal(drop_incomplete(before), after)


def test_nested_and_packed_folders_are_the_same(tmp_path: Path) -> None:
    inner = folder_of(tmp_path / "reports", n1=report("a", impression="One"), n2=report("bc", impression="Two"))
    expected = impression_table(inner)
    with tarfile.open(tmp_path / "reports.tgz", "w:gz") as archive:
        archive.add(inner, "ecgen-radiology")
    pd.testing.assert_frame_equal(impression_table(tmp_path / "reports.tgz"), expected)
    (tmp_path / "reports.tgz").unlink()
    pd.testing.assert_frame_equal(impression_table(tmp_path), expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<eCitation>", r"1\.xml: is not well-formed XML"),
        (b"", r"1\.xml: is not well-formed XML"),
        (b"<html/>", r"1\.xml: is XML but no Open-i report"),
        (b"<?xml version='1.0' encoding='latin-1'?><eCitation>\xe9</eCitation>", r"1\.xml: is not UTF-8"),
        (b"<!DOCTYPE x [<!ENTITY y 'z'>]><eCitation/>", r"1\.xml: defines XML entities"),
    ],
)
def test_bad_reports_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "1.xml").write_bytes(content)
    with pytest.raises(DataError, match=message):
        impression_table(tmp_path)


def test_no_reports(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        impression_table(tmp_path / "none")
    with pytest.raises(DataError, match="holds no XML report"):
        impression_table(tmp_path)
    (tmp_path / "reports.tgz").write_bytes(b"no archive")
    with pytest.raises(DataError, match="is not a whole"):
        impression_table(tmp_path / "reports.tgz")


def test_the_real_archive(shared_data: Path) -> None:
    before = pair_table(shared_data / "iu" / "ecgen-radiology.tgz")
    after = drop_incomplete(before)
    assert (len(before), len(after)) == (4169, 4033)
    assert before["xml"].nunique() == 3955
    missing = before[list(SECTIONS)].isna().mean() * 100  # as the older notebook printed them
    assert missing.to_list() == pytest.approx([33.605181, 6.308467, 13.504438, 0.839530], abs=1e-6)
    assert after["image_1"].str.fullmatch(r"CXR[\d_]+_IM-[\d-]+\.png").all()
    assert (after["impression"] == "no acute cardiopulmonary abnormality .").sum() > 300
