import csv
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xray_captioning.batch.caption_table import COLUMNS, PACK, PackedStudies, Study, check_out, write_rows
from xray_captioning.errors import ConfigError, MissingExtraError

MEASURED = {"method": "attention", "words": "edema", "hits": 0.8, "chance": 0.2}
SOUND = {
    "study": "1,2",
    "images": ["a,b.png", 'c"d.png'],
    "caption": "Small effusion.\nÜber",
    "log_probability": -1.5,
    "sentences": [{"text": "Small effusion.", "log_probability": -0.25, "confidence": None}],
    "regions": [{"sentence": 0, "finding": "Edema", "view": 1, "box": [0.0, 0.25, 0.5, 1.0], **MEASURED}],
    "novelty": 0.5,
    "unfamiliar": False,
    "findings": {"Edema": 0.25},
    "error": None,
}
FAILED = {**dict.fromkeys(COLUMNS), "study": "x", "images": [], "error": "x: is empty"}
ROWS = [SOUND, FAILED]
WORDS = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.just("\udc80")))  # a path may be no UTF-8
STUDIES = st.builds(
    Study,
    WORDS,
    st.lists(st.none() | WORDS, max_size=3),
    st.none() | st.lists(WORDS, max_size=3),
    st.dictionaries(st.sampled_from(["indication", "prior"]), st.none() | WORDS),
)


@given(st.lists(STUDIES, max_size=4), st.sampled_from([1, PACK]))
def test_packed_studies_are_what_they_were(studies, times):
    packed = PackedStudies(studies * times)
    assert len(packed) == len(studies) * times
    assert list(packed) == list(packed) == studies * times


@given(st.lists(STUDIES, max_size=9), st.integers(1, 5))
def test_parts_of_studies_are_all_of_them_in_their_order(studies, size):
    parts = [list(part) for part in PackedStudies(studies).in_parts(size)]
    assert [study for part in parts for study in part] == studies
    assert [len(part) for part in parts[:-1]] == [size] * (len(parts) - 1)
    assert len(parts) == max(1, -(-len(studies) // size))


def test_csv(tmp_path):
    write_rows(ROWS, tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    for name in ("images", "sentences", "findings"):
        assert json.loads(rows[0][name]) == SOUND[name]
    assert rows[0]["caption"] == SOUND["caption"]
    assert [row["unfamiliar"] for row in rows] == ["false", ""]
    assert [row["error"] for row in rows] == ["", "x: is empty"]


def test_json_lines(tmp_path):
    write_rows(ROWS, tmp_path / "t.jsonl")
    lines = (tmp_path / "t.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == ROWS


@pytest.mark.parametrize("rows", [ROWS, [FAILED], [SOUND]])
def test_parquet(tmp_path, rows):
    parquet = pytest.importorskip("pyarrow.parquet")
    write_rows(rows, tmp_path / "t.parquet", ["Edema"])
    found = parquet.read_table(tmp_path / "t.parquet")
    assert found.to_pylist() == rows
    assert found.schema.field("sentences").type.value_type.field("confidence").type == "double"


def test_parquet_without_findings(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{**SOUND, "findings": None}]
    write_rows(rows, tmp_path / "t.parquet")
    assert parquet.read_table(tmp_path / "t.parquet").to_pylist() == rows


def test_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'xray-captioning\[parquet\]'"):
        check_out(tmp_path / "t.parquet", False)


def test_what_cannot_be_written_is_said_first(tmp_path):
    with pytest.raises(ConfigError, match=r"let its name end in \.csv, \.parquet or \.jsonl"):
        check_out(tmp_path / "t.txt", False)
    (tmp_path / "t.csv").write_text("")
    for resume in (False, True):
        with pytest.raises(ConfigError, match="is there already"):
            check_out(tmp_path / "t.csv", resume)
    (tmp_path / "t.csv.part").write_text("")
    check_out(tmp_path / "t.csv", True)  # killed between the last two steps of a run
