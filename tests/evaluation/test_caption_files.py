"""Texts of other systems in every format and under every name they come in."""

import csv
import gzip
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_captioning.batch.caption_table import COLUMNS, SUFFIXES, write_rows
from xray_captioning.errors import DataError
from xray_captioning.evaluation.caption_files import TextColumn, read_captions, read_references
from xray_captioning.evaluation.result_columns import json_columns
from xray_captioning.text.cleaning import without_marks

IDS = ("a", "b", "c")
REPORTS = ("small left effusion .", "no acute disease .", "cardiomegaly , stable .")
TEXTS = ("the lungs are clear .", 'mild "basilar" atelectasis , left .', "no effusion ; no edema .")


def read(folder: Path, name: str, content: str | bytes | object, *asked: str) -> dict:
    """Write a file and return its systems: texts by the first id column, or in order."""
    text = content if isinstance(content, str | bytes) else json.dumps(content)
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return {name: plain(w) for name, w in read_captions(folder / name, asked).items()}


def plain(written: TextColumn) -> dict | list:
    ids = next(iter(written.ids.values()), None)
    return list(written.texts) if ids is None else dict(zip(map(str, ids), written.texts))


def table(rows: list, sign: str = ",") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=sign, lineterminator="\n").writerows(rows)
    return text.getvalue()


def test_csv_has_a_column_a_system(tmp_path: Path) -> None:
    content = 'study_id,reference,R2Gen CMN,b\n1,x,"one , two .",y z\n2,x,,z y\n'
    assert read(tmp_path, "t.csv", content) == {
        "R2Gen CMN": {"1": "one , two .", "2": ""},
        "b": {"1": "y z", "2": "z y"},
    }


def test_r2gen_result_files_have_one_column_and_no_header(tmp_path: Path) -> None:
    assert read(tmp_path, "res.csv", 'heart normal .\n""\n"a, b ."\n') == {"res": ["heart normal .", "", "a, b ."]}
    assert read(tmp_path, "res.txt", '"no ""old"" edema"\n"a, b ."\n') == {"res": ['no "old" edema', "a, b ."]}


@pytest.mark.parametrize("name", ["mine.txt", "mine.tok", "mine"])
def test_plain_text_is_a_text_a_line(tmp_path: Path, name: str) -> None:
    content = "\ufeffone, [XXXX]\r\n\r\nth\x0cree, 'x'\n"
    assert read(tmp_path, name, content) == {"mine": ["one, [XXXX]", "", "th\x0cree, 'x'"]}


def test_plain_text_may_hold_commas_and_brackets(tmp_path: Path) -> None:
    lines = ["[unk] heart normal, lungs clear", "results normal, no change", "true, no effusion"]
    assert read(tmp_path, "mine.txt", "\n".join(lines)) == {"mine": lines}


ROWS = [("study_id", "reference", "prediction"), *zip(IDS, REPORTS, TEXTS)]
OBJECTS = [dict(zip(ROWS[0], row)) for row in ROWS[1:]]
LINES = "".join(json.dumps(row) + "\n" for row in OBJECTS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("t.csv", table(ROWS, sign)) for sign in ",;\t|"),
        ("t.tsv", table(ROWS, "\t")),
        ("t.txt", table(ROWS)),
        ("t.txt", table(ROWS, "\t")),
        ("t.log", LINES),
        ("t.csv", table(ROWS).encode("utf-16")),
        ("t.csv", "\ufeff" + table(ROWS)),
        ("t.csv.gz", gzip.compress(table(ROWS).encode(), mtime=0)),
        ("t.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)),
        ("t.jsonl", LINES),
        ("t.json", LINES),
        ("t.txt", LINES),
        ("t.json", OBJECTS),
        ("t.txt", OBJECTS),
        ("t.json", {row["study_id"]: {**row, "extra": {"bleu": 0.3}} for row in OBJECTS}),
        ("t.json", {name: [row[name] for row in OBJECTS] for name in ROWS[0]}),
        ("t.json", {n: {str(i): row[n] for i, row in enumerate(OBJECTS)} for n in ROWS[0]}),
        ("t.json", {"test": OBJECTS[:2], "val": OBJECTS[2:]}),
        ("t.json", {"model": "x", "predictions": OBJECTS, "bleu": 0.3}),
        ("t.json", {"results": OBJECTS, "config": {"beam": 3, "name": "m"}, "bleu": 0.3}),
        ("t.json", [{"id": r["study_id"], "out": {"prediction": r["prediction"]}} for r in OBJECTS]),
        ("t.json", [{**row, "prediction": [row["prediction"]]} for row in OBJECTS]),
    ],
)
def test_the_content_tells_the_format(tmp_path: Path, name: str, content: object) -> None:
    [(system, found)] = read(tmp_path, name, content).items()
    assert system in ("prediction", "out.prediction")
    assert found == dict(zip(IDS, TEXTS))


@pytest.mark.parametrize("name", ["t.parquet", "t.xlsx"])
def test_other_tables(tmp_path: Path, name: str) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow" if name.endswith("parquet") else "openpyxl")
    frame = pandas.DataFrame(OBJECTS)
    getattr(frame, "to_parquet" if name.endswith("parquet") else "to_excel")(tmp_path / name)
    [found] = map(plain, read_captions(tmp_path / name).values())
    assert found == dict(zip(IDS, TEXTS))


def test_columns_without_a_name_shift_no_other(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("openpyxl")
    frame = pandas.DataFrame({"study_id": IDS, "": range(3), "prediction": TEXTS})
    frame.to_excel(tmp_path / "t.xlsx")  # its index has no name either
    [found] = map(plain, read_captions(tmp_path / "t.xlsx").values())
    assert found == dict(zip(IDS, TEXTS))


# What the code of published systems writes, with made-up texts.
PUBLISHED = {
    # CvT2DistilGPT2, tools/metrics/report_logger.py
    "report": ("t.csv", table([("report", "dicom_id"), *zip(TEXTS, IDS)])),
    # LLaVA-Rad, llava/eval/model_mimic_cxr.py
    "prediction": (
        "t.jsonl",
        "".join(
            json.dumps({"id": i, "query": "Describe the image.", "reference": r, "prediction": t}) + "\n"
            for i, r, t in zip(IDS, REPORTS, TEXTS)
        ),
    ),
    # CheXagent, evaluation_chexbench/axis_3_text_generation/run_findings_generation.py
    "candidate_findings": (
        "t.json",
        {
            "MIMIC-CXR": [
                {
                    "sample_idx": n,
                    "image_path": [f"files/{i}/1.jpg", f"files/{i}/2.jpg"],
                    "section_indication": "cough and fever",
                    "section_findings": r,
                    "candidate_findings": t,
                }
                for n, (i, r, t) in enumerate(zip(IDS, REPORTS, TEXTS))
            ]
        },
    ),
    # pycocoevalcap's results
    "caption": ("t.json", [{"image_id": i, "caption": t} for i, t in zip(IDS, TEXTS)]),
    # LLaVA's answers
    "text": (
        "t.jsonl",
        "".join(
            json.dumps({"question_id": i, "prompt": "What is seen?", "text": t, "model_id": "m"}) + "\n"
            for i, t in zip(IDS, TEXTS)
        ),
    ),
    # CXR-Report-Metric and this project's own captions.csv
    "mine greedy": (
        "t.csv",
        table(
            [
                ("study_id", "reference", "mine greedy", "constant", "mine shuffled greedy"),
                *zip(IDS, REPORTS, TEXTS, ["no acute disease ."] * 3, TEXTS[::-1]),
            ]
        ),
    ),
    # a pandas index, metadata, scores, numbers
    "generated_report": (
        "t.csv",
        table(
            [
                ("", "Study ID", "split", "view", "gt", "generated_report", "bleu", "beams", "notes"),
                *(
                    (n, i, "test", "PA", r, t, 0.3, 3, "read in a hurry")
                    for n, (i, r, t) in enumerate(zip(IDS, REPORTS, TEXTS))
                ),
            ]
        ),
    ),
}


@pytest.mark.parametrize("system", PUBLISHED)
def test_files_of_published_systems(tmp_path: Path, system: str) -> None:
    name, content = PUBLISHED[system]
    [(found, texts)] = read(tmp_path, name, content).items()
    assert found == system
    assert list(texts.values()) == list(TEXTS)


NAMES = "pred prediction hyp hypothesis generated output candidate res model_prediction response"


@pytest.mark.parametrize("name", [*NAMES.split(), "Generated Report", "report_pred"])
@pytest.mark.parametrize("true", ["gt", "ground_truth", "true_report", "target", "label", "report"])
def test_predictions_are_told_from_references(tmp_path: Path, name: str, true: str) -> None:
    rows = [("id", true, name, "rouge"), *((i, r, t, "0.3") for i, r, t in zip(IDS, REPORTS, TEXTS))]
    assert read(tmp_path, "t.csv", table(rows)) == {name: dict(zip(IDS, TEXTS))}
    assert plain(read_references(tmp_path / "t.csv")) == dict(zip(IDS, REPORTS))


def test_a_column_may_be_named(tmp_path: Path) -> None:
    rows = [("study_id", "findings", "notes"), *zip(IDS, REPORTS, TEXTS)]
    assert read(tmp_path, "t.csv", table(rows), "notes") == {"notes": dict(zip(IDS, TEXTS))}
    with pytest.raises(DataError, match="has no column x; its columns are: study_id, findings, no"):
        read(tmp_path, "t.csv", table(rows), "x")


def test_an_index_is_no_id_and_ids_without_a_name_are_no_index(tmp_path: Path) -> None:
    assert read(tmp_path, "t.csv", table([("", "0"), *enumerate(TEXTS)])) == {"0": list(TEXTS)}
    found = read(tmp_path, "t.csv", table([("", "0"), *zip(IDS, TEXTS)]))
    assert found == {"0": dict(zip(IDS, TEXTS))}
    with pytest.raises(DataError, match="idx does not count the rows, and none names the study"):
        read(tmp_path, "t.csv", table([("idx", "pred"), (2, "a"), (0, "b")]))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"1": "a", "2": ["b"]}, {"t": {"1": "a", "2": "b"}}),
        ({"x": {"1": "a b"}, "y": {"1": "b c"}}, {"x": {"1": "a b"}, "y": {"1": "b c"}}),
        ({"gts": {"0": ["r s"]}, "res": {"0": ["a b"]}}, {"res": {"0": "a b"}}),
        (["a", "b"], {"t": ["a", "b"]}),
        ([["a"], ["b"]], {"t": ["a", "b"]}),
        ({"id": 1, "pred": "a"}, {"pred": {"1": "a"}}),
        (
            {
                "info": {},
                "images": [{"id": 5, "file_name": "a.png"}],
                "annotations": [{"id": 1, "image_id": 5, "caption": "x y"}],
            },
            {"caption": {"5": "x y"}},
        ),
        ([{"study_id": 1, "x": "a b"}, {"study_id": 2, "x": "b c"}], {"x": {"1": "a b", "2": "b c"}}),
        ([{"image_id": "7", "caption": "a", "ground_truth": "r"}], {"caption": {"7": "a"}}),
        ([{"id": 1, "pred": "a"}, {"id": 2}, {"id": 3, "pred": None}], {"pred": {"1": "a"}}),
        ({"1": "half \ud800"}, {"t": {"1": "half ?"}}),
    ],
)
def test_json(tmp_path: Path, content: object, expected: object) -> None:
    assert read(tmp_path, "t.json", content) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "study_id,a\n", "has no row"),
        ("t.csv", "study_id,reference\n1,x y\n", "no column is what the system wrote"),
        ("t.csv", "study_id,bleu\n1,0.3\n", "its columns are: study_id, bleu"),
        ("t.csv", "study_id,findings,impression\n1,x y,z y\n", "each of findings, impression may"),
        ("t.csv", "study_id,report,mine\n1,x y,z y\n", "each of report, mine may be"),
        ("t.csv", "study_id,pred,output\n1,x y,z y\n", "name the one: --prediction COLUMN"),
        ("t.csv", "study_id,pred\n1,x, y\n", "line 2"),
        ("t.csv", "study_id,pred\n1,nan\n", "is 'nan', as a missing value is written"),
        ("t.txt", "study_id,pred\n1,x, y\n", "line 2"),
        ("t.txt", "s1,x y\ns2,z y\n", "looks like a table"),
        ("t.txt", "s1\tx y\ns2\tz y\n", "looks like a table"),
        ("t.txt", '{"id": 1, "pred": "a"}\n{"id": 2,\n', "not valid JSON"),
        ("t.txt", "", "is empty"),
        ("t.csv", "", "has no row"),
        ("t.json", "{", "not valid JSON"),
        ("t.json", {}, "holds no texts"),
        ("t.json", 3, "holds no texts"),
        ("t.json", {"1": 3}, "text 1: is int, not one text"),
        ("t.json", {"a": "x", "b": ["y", 3]}, "text 2: is a list of 2, not one text"),
        ("t.json", ["a", 3], "entry 2: is int"),
        ("t.json", [{"id": 1, "x": "a b"}, "b"], "entry 1: is dict"),
        ("t.json", {"pred": ["a"], "ref": ["a", "b"]}, "different lengths"),
        ("t.json", [["s1", "x y"], ["s2", "z y"]], "text 1: is a list of 2, not one text"),
        ("t.csv", "s1,x y\ns2,z y\n", "let the first line name the columns"),
        ("t.csv", "mine,theirs\na b,c d\n", "none of its columns .mine, theirs. names the study"),
        ("t.json", [{"id": 1, "bleu": 0.5}], "its columns are: id, bleu"),
    ],
)
def test_what_is_no_system_is_refused(tmp_path: Path, name: str, content: object, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, name, content)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", ["t.csv", "t.txt", "t.json"])
def test_bytes_that_are_no_text_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"study_id,a\n1,\xff\n")
    with pytest.raises(DataError, match="UTF-8"):
        read_captions(tmp_path / name)


REPORT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30).filter(
    lambda text: text.strip().lower() not in ("nan", "null", "<na>") and without_marks(text) == text.strip()
)


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(deadline=None, max_examples=25)
@given(captions=st.lists(REPORT, min_size=1, max_size=5))
def test_what_the_command_caption_writes_is_read(tmp_path_factory, suffix, captions) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    rows = [
        {
            "study": f"s{number}",
            "images": [f"s{number}/a.png", f"s{number}/b, c.png"],
            "caption": text,
            "log_probability": -1.5,
            "sentences": [{"text": text, "log_probability": -1.5, "confidence": 0.9}],
            "novelty": 0.5,
            "unfamiliar": not text,  # whose caption is left empty
            "findings": {"Edema": 0.25},
            "error": None,
        }
        for number, text in enumerate(captions)
    ]
    rows = [{name: row.get(name) for name in COLUMNS} for row in rows]
    failed = dict.fromkeys(COLUMNS) | {"study": "bad", "images": ["bad.png"], "error": "is damaged"}
    path = tmp_path_factory.getbasetemp() / f"own{suffix}"
    write_rows([*rows, failed], path, ["Edema"])
    found = {name: plain(w) for name, w in read_captions(path).items()}
    assert found == {"caption": {row["study"]: row["caption"] for row in rows}}


@given(st.text(max_size=60))
def test_any_json_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(text, "utf-8", errors="replace")
    try:
        assert read_captions(path)
    except DataError as error:
        assert "\n" not in str(error)  # noqa: PT017


VALUES = st.recursive(
    st.none() | st.text(max_size=5) | st.integers() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)


@given(VALUES)
def test_any_shape_of_json_becomes_columns_of_one_length_or_is_refused(content: object) -> None:
    try:
        columns = json_columns(content, Path("x.json"))
    except DataError:
        return
    assert len({len(values) for values in columns.values()}) <= 1


@pytest.mark.parametrize("name", ["dicom_ids", "study ids", "Folder Path", "which"])
def test_ids_of_another_name_are_told_by_their_values(tmp_path: Path, name: str) -> None:
    ids = ["CXR12_IM-1", "CXR7_IM-2", "p10/s3"]
    rows = [["", name, "report"], *zip(range(3), ids, TEXTS)]
    assert read(tmp_path, "t.csv", table(rows)) == {"report": dict(zip(ids, TEXTS))}


def test_numbers_that_do_not_count_the_rows_are_ids(tmp_path: Path) -> None:
    rows = [{"nr": number, "report": text} for number, text in zip((9, 7, 8), TEXTS)]
    assert read(tmp_path, "t.json", rows) == {"report": dict(zip("978", TEXTS))}


def test_numbers_and_times_of_rows_are_no_ids(tmp_path: Path) -> None:
    times = [f"2024-01-01T10:0{minute}Z" for minute in range(3)]
    rows = [["n", "bleu", "at", "report"], *zip((1, 2, 3), ("0.1", "1e-5", "3"), times, TEXTS)]
    assert read(tmp_path, "t.csv", table(rows)) == {"report": list(TEXTS)}


def test_words_that_programs_add_are_none_of_a_prediction(tmp_path: Path) -> None:
    marks = [f"<s> {TEXTS[0]} </s>", f"startseq {TEXTS[1]} endseq", f"{TEXTS[2]}<|endoftext|>"]
    rows = [["id", "pred"], *zip(IDS, marks)]
    assert read(tmp_path, "a.csv", table(rows)) == {"pred": dict(zip(IDS, TEXTS))}
    rows = [["id", "pred"], *((i, f"start {text} end") for i, text in zip(IDS, TEXTS))]
    assert read(tmp_path, "b.csv", table(rows)) == {"pred": dict(zip(IDS, TEXTS))}


CELLS = {
    "Python": "['{}']",
    "JSON": '["{}"]',
    "a tuple": "('{}',)",
    "NumPy": "array(['{}'], dtype='<U40')",
    "NumPy's texts": "[np.str_('{}')]",
    "nested": "[['{}']]",
}
PLAIN = ("the lungs are clear .", "no effusion ; no edema .", "mild atelectasis , left .")


@pytest.mark.parametrize("way", CELLS)
@pytest.mark.parametrize("name", ["prediction", "mine"])
def test_the_only_text_of_a_list_in_a_cell_is_that_text(tmp_path: Path, way: str, name: str) -> None:
    cells = [CELLS[way].format(text) for text in PLAIN]
    expected = dict(zip(IDS, PLAIN))
    assert read(tmp_path, "t.csv", table([("study_id", name), *zip(IDS, cells)])) == {name: expected}
    assert read(tmp_path, "t.json", dict(zip(IDS, cells))) == {"t": expected}
    (tmp_path / "r.csv").write_text(table([("study_id", "report"), *zip(IDS, cells)]))
    assert plain(read_references(tmp_path / "r.csv")) == expected


@pytest.mark.parametrize("cell", ["['a b', 'c d']", "['a b' 'c d']", "[]"])
def test_several_texts_in_a_cell_are_not_one(tmp_path: Path, cell: str) -> None:
    rows = [("study_id", "prediction"), ("1", cell), ("2", "x y")]
    with pytest.raises(DataError, match=r"t\.csv, prediction, text 1: is a list of [02], not one text"):
        read(tmp_path, "t.csv", table(rows))


@pytest.mark.parametrize("as_cell", [list, str])
def test_several_references_of_each_study_are_the_reports(tmp_path: Path, as_cell) -> None:
    rows = [{"id": i, "references": as_cell([r, "x y"]), "prediction": t} for i, r, t in zip(IDS, REPORTS, TEXTS)]
    path = tmp_path / "t.json"
    path.write_text(json.dumps(rows))
    assert plain(read_references(path)) == {i: [r, "x y"] for i, r in zip(IDS, REPORTS)}


def test_a_key_that_stands_twice_in_json_is_no_second_text(tmp_path: Path) -> None:
    for name, text in (("t.json", '{"1": "a", "2": "b", "1": "c"}'), ("t.jsonl", '{"id": 1, "pred": "a", "pred": ""}')):
        with pytest.raises(DataError, match=r"has the key '(1|pred)' twice in one object; keep one of them"):
            read(tmp_path, name, text)
