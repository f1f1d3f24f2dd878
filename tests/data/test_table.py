"""Tables of every usual format say the same; a damaged row is one error that names it."""

import csv
import gzip
import io
import json
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xray_captioning.data.records import as_text, unlisted
from xray_captioning.data.table import Table, column_key, image_names, joined_texts
from xray_captioning.errors import DataError

COLUMNS = ("image", "Image Caption", "n")
ROWS = [["a.png", "Clear, no effusion; nothing.", "007"], ["b.png", 'A "round"\nopacity | mass', ""]]


def delimited(rows, sign=",", encoding="utf-8"):
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=sign).writerows(rows)
    return text.getvalue().encode(encoding)


def as_json(rows):
    header, *others = rows
    return json.dumps([dict(zip(header, row)) for row in others]).encode()


def json_lines(rows):
    header, *others = rows
    return "".join(json.dumps(dict(zip(header, row))) + "\n" for row in others).encode()


def parquet(rows):
    stream = io.BytesIO()
    pd.DataFrame(rows[1:], columns=rows[0], dtype=object).to_parquet(stream)
    return stream.getvalue()


def workbook(rows):
    stream = io.BytesIO()
    pd.DataFrame(rows[1:], columns=rows[0]).to_excel(stream, index=False)
    return stream.getvalue()


def zipped(rows):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("in/table.csv", delimited(rows))
        archive.writestr("a.png", b"no table")
    return stream.getvalue()


FORMATS = {
    "t.csv": delimited,
    "bom.csv": lambda rows: delimited(rows, encoding="utf-8-sig"),
    "tabs.csv": lambda rows: delimited(rows, "\t"),
    "t.tsv": lambda rows: delimited(rows, "\t"),
    "semicolons.csv": lambda rows: delimited(rows, ";"),
    "bars.txt": lambda rows: delimited(rows, "|"),
    "hint.csv": lambda rows: b"sep=;\r\n" + delimited(rows, ";"),
    "utf16.csv": lambda rows: delimited(rows, encoding="utf-16"),
    "t.csv.gz": lambda rows: gzip.compress(delimited(rows)),
    "gzip_by_content.csv": lambda rows: gzip.compress(delimited(rows)),
    "t.json": as_json,
    "t.jsonl": json_lines,
    "lines.json": json_lines,
    "list.jsonl.txt": as_json,
    "columns.json": lambda rows: pd.DataFrame(rows[1:], columns=rows[0]).to_json().encode(),
    "t.parquet": parquet,
    "t.xlsx": workbook,
    "t.zip": zipped,
}


def written(tmp_path, name, rows):
    path = tmp_path / name
    path.write_bytes(FORMATS[name](rows))
    return path


def values(table):
    return [list(row.values()) for row in table]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_says_the_same(tmp_path, name):
    table = Table(written(tmp_path, name, [COLUMNS, *ROWS]))
    assert table.columns == COLUMNS
    assert values(table) == ROWS
    assert values(table) == ROWS  # a table can be read twice
    first, second = table
    assert (first["Image Caption"], second.text("n"), second.text(None)) == (ROWS[0][1], "", "")
    assert name in first.place


def test_values_become_text_as_people_write_them():
    values = [None, 7.0, 0.5, float("nan"), True, "007", "half a pair \ud83d", [1.0]]
    assert list(map(as_text, values)) == ["", "7", "0.5", "", "True", "007", "half a pair ?", [1.0]]


# What a workbook can hold, which leaves control characters out, carriage returns change, and "=" begins a formula.
LETTERS = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])
TEXTS = st.text(LETTERS, max_size=8).map(lambda text: text.lstrip("=")) | st.sampled_from(
    ["None", "NA", "007", "1.0", "a, b;c", "{"]
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(FORMATS)), rows=st.lists(st.lists(TEXTS, min_size=2, max_size=2)))
def test_any_texts_are_read_as_they_were_written(tmp_path, name, rows):
    full = [["x.png", *row] for row in rows] + [["x.png", "a", "b"]] * 2
    if name == "columns.json":  # pandas makes numbers of nothing, but its own dates
        full = [row for row in full if all(cell.isascii() for cell in row)]
    assert values(Table(written(tmp_path, name, [COLUMNS, *full]))) == full


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"t.zip", "t.parquet", "t.xlsx"}))
def test_a_damaged_row_is_one_error_with_its_place(tmp_path, name):
    """A cut file never passes for a whole one, and any format names what is wrong and where."""
    path = written(tmp_path, name, [COLUMNS, ROWS[0], ["b.png", "Round opacity", "x"]])
    packed = gzip.decompress(path.read_bytes()) if "gz" in name else path.read_bytes()
    cut = packed[: packed.rindex("ity".encode("utf-16-le" if "16" in name else "utf-8"))]
    path.write_bytes(gzip.compress(cut) if "gz" in name else cut)
    with pytest.raises(DataError, match=rf"{name}, line \d: .*; ") as error:
        values(Table(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2,3\n", "line 2: 3 fields where the header has 2; put text .* in quotes"),
        ("a,b\n1,2\n\n1\n", "line 4: 1 field where the header has 2; write every field"),
        ('a,b\n1,"2\n3,4\n', "lines 2 to 3: is not valid CSV"),
        ('a,b\n1,2\n3,"4\n5,6\n7,"8"\n', "lines 3 to 5: is not valid CSV"),
        ("a,b,a\n1,2,3\n", "has the column a twice"),
        ("a;b,c\n1;2,3\n", "separated by comma or semicolon"),
        ('{"a": 1}\n{"a": 2\n', "line 2: is not valid JSON"),
        ('{"a": 1}\n3\n', "line 2: is no JSON object"),
        ('[{"a": 1}, 3]', "entry 2: is neither"),
        ('{"a": 1, "b": 2}\n{"b": 3}\n', "line 2: lacks 'a', which the first has; write null"),
        ("<!DOCTYPE html>\n<html>", "is a web page"),
        ("version https://git-lfs.github.com/spec/v1\noid", "Git LFS"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, content, message):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(DataError, match=rf"t\.csv.*{message}"):
        values(Table(tmp_path / "t.csv"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n1,\xe9\n".encode("latin-1"), "line 3: is not UTF-8"),
        (b"\x89PNG\r\n\x1a\n", "is a PNG image"),
        (b"a,b\0\0\0,", "is no text"),
        (gzip.compress(bytes(range(256)) * 9, mtime=0)[:-30], "not a whole archive"),
        (parquet([COLUMNS, *ROWS])[:-10], "not a whole Parquet file"),
        (workbook([COLUMNS, *ROWS])[:-30], "not a whole archive"),
    ],
)
def test_other_bytes_are_named(tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        values(Table(tmp_path / "t.csv"))


def test_rows_of_empty_cells_and_commas_at_the_end_are_harmless(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2,\n,\n\n3,4\n")
    assert values(Table(tmp_path / "t.csv")) == [["1", "2"], ["3", "4"]]
    (tmp_path / "one.csv").write_text('caption\n""\nx\n')
    assert values(Table(tmp_path / "one.csv")) == [[""], ["x"]]


def test_nested_values_stay_and_numbers_become_the_text_they_were(tmp_path):
    rows = [{"a": 7.0, "b": ["x"], "c": {"d": 1}}, {"a": None, "b": [1, 2], "c": None}]
    (tmp_path / "t.json").write_text(json.dumps(rows))
    first, second = Table(tmp_path / "t.json")
    assert first == {"a": "7", "b": ["x"], "c": {"d": 1}}
    assert (second["a"], second["c"], first.text("b")) == ("", "", "x")
    with pytest.raises(DataError, match=r"t\.json, entry 2: b is a list of 2, not one text"):
        second.text("b")


def test_objects_of_ids_are_rows(tmp_path):
    (tmp_path / "t.json").write_text('{"S1": {"r": "x"}, "S2": {"r": null, "s": 1}}')
    assert list(Table(tmp_path / "t.json")) == [{"id": "S1", "r": "x", "s": ""}, {"id": "S2", "r": "", "s": "1"}]
    (tmp_path / "t.json").write_text('{"S2": "y", "S3": ["z"]}')
    table = Table(tmp_path / "t.json")
    assert [(row.text("id"), row.text("text")) for row in table] == [("S2", "y"), ("S3", "z")]
    (tmp_path / "t.json").write_text('{"data": [{"a": 1}, {"a": 2}]}')
    assert list(Table(tmp_path / "t.json")) == [{"a": "1"}, {"a": "2"}]


def test_a_member_of_an_archive(tmp_path):
    path = tmp_path / "two.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in "ab":
            archive.writestr(f"x/{name}.csv", f"c\n{name}\n")
    assert values(Table(path / "x" / "b.csv")) == [["b"]]
    with pytest.raises(DataError, match=r"holds 2 tables \(x/a.csv, x/b.csv\); name one"):
        Table(path)
    with pytest.raises(DataError, match="not in the archive"):
        Table(path / "c.csv")


def test_columns_are_found_under_their_usual_names(tmp_path):
    (tmp_path / "t.csv").write_text(",Image Index,imageIndex,Note\n0,a,b,c\n")
    table = Table(tmp_path / "t.csv")
    assert table.column("text", "caption", "comment|note") == "Note"
    assert table.column("text", "caption") is None
    assert table.asked("image", "imageIndex") == "imageIndex"
    with pytest.raises(DataError, match=r"'Image Index' and 'imageIndex' .* --columns image=NAME"):
        table.column("image", "image_index")
    with pytest.raises(DataError, match="no column 'x' for image; found: 'Image Index', imageIndex"):
        table.asked("image", "x")
    with pytest.raises(DataError, match=r"for caption \(looked for report, text\); found: .*Note"):
        raise table.lacks({"caption": ["report|text"]})
    assert column_key("Patient-ID ") == column_key("patient_id")


def test_excel_without_its_package_names_it(tmp_path, monkeypatch):
    path = written(tmp_path, "t.xlsx", [COLUMNS, *ROWS])
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    with pytest.raises(ImportError, match=r"openpyxl is needed for .*t\.xlsx.*\[excel\]"):
        Table(path)


def test_a_workbook_of_two_sheets_is_refused(tmp_path):
    with pd.ExcelWriter(tmp_path / "t.xlsx") as book:
        for name in ("first", "second"):
            pd.DataFrame([["a.png", "x"]], columns=["image", "caption"]).to_excel(book, sheet_name=name)
    with pytest.raises(DataError, match=r"2 sheets \(first, second\); save the one"):
        Table(tmp_path / "t.xlsx")


@pytest.mark.parametrize(
    ("field", "value"), [(28, b"\0\0"), (46, b"\xc2("), (10, b"\x63")], ids=["no name", "no UTF-8", "method"]
)
def test_an_archive_whose_list_of_members_is_damaged_is_refused(tmp_path, field, value):
    path, packed = tmp_path / "captions.csv.zip", io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("\u00e4.csv", "image,caption\na.png,no effusion\n")  # a name in UTF-8, as a flag says
    whole = packed.getvalue()
    place = whole.index(b"PK\x01\x02") + field
    path.write_bytes(whole[:place] + value + whole[place + len(value) :])
    with pytest.raises(DataError, match=r"captions\.csv\.zip: is not a whole archive|holds 0 tables"):
        list(Table(path))


def images_of(folder, cell):
    (folder / "t.csv").write_bytes(delimited([["image", "caption"], [cell, "Clear."]]))
    (row,) = Table(folder / "t.csv")
    return image_names(row, "image")


@pytest.mark.parametrize(
    "cell",
    [
        "a.png;b.png",
        "a.png+b.png",
        "a.png & b.png",
        "a.png / b.png",
        "['a.png' 'b.png']",
        "{'a.png', 'b.png'}",
        '{"frontal": "a.png", "lateral": "b.png"}',
        "{'frontal': 'a.png', 'lateral': 'b.png'}",
    ],
)
def test_a_cell_names_several_images(tmp_path, cell):
    assert images_of(tmp_path, cell) == ["a.png", "b.png"]


@pytest.mark.parametrize("cell", ["one+two.png", "a & b.png", "folder / a.png", "{a}.png"])
def test_a_name_of_one_image_is_not_divided(tmp_path, cell):
    assert images_of(tmp_path, cell) == [cell]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"a.png": "x", "a.png": "y"}', r"t\.json"),
        ('[{"a.png": "x", "b": [{"a.png": 1, "a.png": 1}]}]', r"t\.json"),
        ('{"b": 1}\n{"a.png": "x", "a.png": "y"}\n', r"t\.json, line 2"),
    ],
)
def test_a_key_that_stands_twice_in_json_is_refused(tmp_path: Path, text: str, place: str) -> None:
    (path := tmp_path / "t.json").write_text(text)
    with pytest.raises(DataError, match=rf"{place}: has the key 'a\.png' twice in one object; keep one of them$"):
        Table(path)


LISTS = {
    "['a b']": ["a b"],
    '["a b"]': ["a b"],
    "('a b',)": ["a b"],
    "{'a b'}": ["a b"],
    " [['a b']]\n": ["a b"],
    "['a b', 'c']": ["a b", "c"],
    "['a b' 'c']": ["a b", "c"],  # NumPy, and not "a bc", as Python reads it
    "['a b'\n \"it's\"]": ["a b", "it's"],
    "array(['a b', 'c'], dtype='<U3')": ["a b", "c"],
    "array(['a b'], dtype=object)": ["a b"],
    "[np.str_('a b')]": ["a b"],
    '["caf\\u00e9"]': ["café"],
    r"['it\'s \"so\"']": ['it\'s "so"'],
    "[]": [],
}
NO_LISTS = (
    "[unk] heart",
    "no edema (stable)",
    "()",
    "(a)",
    "{'a': 'b'}",
    "[1, 2]",
    "['a', None]",
    "['no]",
    "['it's']",
    "",
)


@pytest.mark.parametrize("cell", [*LISTS, *NO_LISTS])
def test_a_list_of_texts_is_read_as_python_json_and_numpy_write_it(cell: str) -> None:
    assert unlisted(cell) == LISTS.get(cell, cell)


def test_texts_of_a_list_are_joined_however_it_is_written(tmp_path: Path) -> None:
    (path := tmp_path / "t.csv").write_text("report\n\"['a b.' 'c.']\"\n\"('a b.',)\"\n")
    assert [joined_texts(row, "report") for row in Table(path)] == ["a b. c.", "a b."]
