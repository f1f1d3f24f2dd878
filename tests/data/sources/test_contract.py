"""One contract of all readers: what was written is read, and what is damaged is named."""

import csv
import gzip
import io
import itertools
import json
import os
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.sources.layouts import WRITERS, Made, write_dicom
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.studies import format_summary, summarise
from xray_captioning.errors import DataError

SENTENCES = (
    *("The lungs are clear.", "Heart size, mediastinum normal.", 'Read as "stable".'),
    *("Sin hallazgos patológicos.", "No effusion; no pneumothorax", "a | b", "No; none.", "2.5 cm."),
)
VIEWS = (("frontal",), ("frontal", "lateral"), ("frontal", "unknown"), ("lateral",))
FINDINGS = ("Cardiomegaly", "Edema", "Pneumothorax")


@st.composite
def made_studies(draw):
    patients = draw(st.lists(st.integers(1, 99), min_size=1, max_size=3, unique=True))
    numbers = itertools.count(1)
    found = []
    for patient in patients:
        split = draw(st.sampled_from(["train", "val", "test"]))
        for _ in range(draw(st.integers(1, 2))):
            present = draw(st.sets(st.sampled_from(FINDINGS)))
            rest = [name for name in FINDINGS if name not in present]
            uncertain = draw(st.sets(st.sampled_from(rest))) if rest else ()
            findings, impression = (
                " ".join(draw(st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=3))) for _ in range(2)
            )
            views = draw(st.sampled_from(VIEWS))
            about = (split, findings, impression, tuple(sorted(present)), tuple(sorted(uncertain)))
            found.append(Made(next(numbers), patient, views, *about))
    return found


FEW = settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
STUDIES = [
    Made(1, 7, ("frontal", "lateral"), "train", "The lungs are clear, too.", "Normal.", ("Edema",)),
    Made(2, 7, ("frontal",), "train", "No effusion.", "No change.", (), ("Cardiomegaly",)),
    Made(3, 8, ("frontal",), "val", "A scar.", "Scar."),
    Made(4, 9, ("lateral",), "test", "Enlarged heart.", "Large.", ("Cardiomegaly",)),
]


def check(folder, expected, path=None):
    frame = read_studies(path or folder)
    rows = frame.to_dict("records")
    assert [row["study_id"] for row in rows] == [read.study_id for read in expected]
    for row, read in zip(rows, expected):
        pairs = zip(read.images, read.views)
        ordered = sorted(pairs, key=lambda pair: pair[1] != "frontal")
        assert row["views"] == [view for _, view in ordered]
        for path, (name, _) in zip(row["images"], ordered, strict=True):
            assert os.path.isfile(path)
            assert path.replace(os.sep, "/").endswith(name)
        for name in ("patient_id", "split", "findings", "impression"):
            assert row[name] == getattr(read, name), name
        assert (set(row["problems"]), set(row["uncertain"])) == (read.problems, read.uncertain)
    return frame


@pytest.mark.parametrize("name", WRITERS)
@FEW
@given(studies=made_studies())
def test_what_is_written_is_read(tmp_path_factory, name, studies):
    write, source = WRITERS[name]
    folder = tmp_path_factory.mktemp(name)
    frame = check(folder, write(folder, studies))
    assert frame.attrs["source"] == source
    assert source in format_summary(summarise(frame))


# --- damage: one error that names the file, the place in it and what to do

# Of each table: the file, its column of images or else of ids, that of the split.
TABLES = {
    "kaggle": ("indiana_reports.csv", "uid", None),
    "mimic": ("mimic-cxr-2.0.0-split.csv", "dicom_id", "split"),
    "mimic_reports": ("**/cxr-record-list.csv.gz", "dicom_id", None),
    "chexpert": ("train.csv", "Path", None),
    "chexpert_plus": ("df_chexpert_plus_240401.csv", "path_to_image", "split"),
    "padchest": ("PADCHEST*.csv.gz", "ImageID", None),
    "vindr": ("annotations/image_labels_train.csv", "image_id", None),
    "nih14": ("Data_Entry_2017.csv", "Image Index", None),
    "roco2": ("train_captions.csv", "ID", None),
    "roco_kaggle": ("all_data/train/radiologytraindata.csv", "name", None),
    "dicom_table": ("reports.csv", "StudyInstanceUID", "split"),
}


def rewrite(folder, name, change):
    """Change the rows of a table, lists of fields, and return its name and number of lines."""
    [path] = folder.glob(name)
    data = path.read_bytes()
    packed = path.suffix == ".gz"
    rows = list(csv.reader(io.StringIO((gzip.decompress(data) if packed else data).decode())))
    change(rows)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    data = text.getvalue().encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    return path.name, len(rows)


def put(column, value):
    def change(rows):
        rows[-1][rows[0].index(column)] = value

    return change


def refused(folder, *words):
    with pytest.raises(DataError) as caught:
        read_studies(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    assert re.search(r"[;:,] [a-z ]", message), message  # what is wrong, and what to do
    for word in words:
        assert word in message, message


@pytest.mark.parametrize("name", TABLES)
def test_a_damaged_row_is_named(tmp_path, name):
    write, _ = WRITERS[name]
    table, image, split = TABLES[name]
    for number, (change, place) in enumerate(
        (
            (lambda rows: rows[-1].pop(), True),  # a field is missing
            (lambda rows: rows[-1].append("and more"), True),
            (put(image, ""), True),
            (put(split, "holdout"), True) if split else (put(image, ""), True),
            (lambda rows: rows.append(rows[-1]), name not in ("kaggle", "nih14")),  # twice
            (lambda rows: rows[0].pop(rows[0].index(image)), False),  # a column is missing
        )
    ):
        if name == "dicom_table" and number == 4:
            continue  # the same text twice is that text
        folder = tmp_path / str(number)
        write(folder, STUDIES)
        file, lines = rewrite(folder, table, change)
        refused(folder, *((file, f"line {lines}") if place else ()))


@pytest.mark.parametrize(
    ("name", "column"),
    [("mimic", "subject_id"), ("chexpert", "Frontal/Lateral"), ("padchest", "PatientID"), ("nih14", "Patient ID")],
)
def test_a_column_that_is_published_is_missed(tmp_path, name, column):
    """Without the patients, studies of one would be torn apart."""
    WRITERS[name][0](tmp_path, STUDIES)

    def cut(rows):
        at = rows[0].index(column)
        rows[:] = [[*row[:at], *row[at + 1 :]] for row in rows]

    file, _ = rewrite(tmp_path, TABLES[name][0], cut)
    refused(tmp_path, file, column)


@pytest.mark.parametrize("name", TABLES)
def test_a_cut_table_is_refused(tmp_path, name):
    write, _ = WRITERS[name]
    write(tmp_path, STUDIES)
    [path] = tmp_path.glob(TABLES[name][0])
    data = path.read_bytes()
    last = data.rstrip(b"\n").rfind(b"\n") + 3  # two letters of the last line
    path.write_bytes(data[:-7] if path.suffix == ".gz" else data[:last])
    refused(tmp_path, path.name)


JSON = {"r2gen": "annotation.json", "r2gen_mimic": "mimic_annotation.json"}
JSON["coco"] = "annotations/captions_train2014.json"


@pytest.mark.parametrize("name", JSON)
def test_damaged_json_is_named(tmp_path, name):
    WRITERS[name][0](tmp_path, STUDIES)
    path = tmp_path / JSON[name]
    whole = json.loads(path.read_text())
    first = (whole.get("train") or whole.get("annotations"))[0]
    entries = "entry 1 of train" if name == "r2gen" else "annotation 1" if name == "coco" else "entry 1"
    for key in first:
        broken = json.loads(path.read_text())
        broken.get("train", broken.get("annotations"))[0].pop(key)
        if (name == "coco" and key == "id") or key in ("split", "study_id", "subject_id", "report"):
            continue  # nothing here needs it
        damaged = tmp_path / "damaged" / key
        damaged.mkdir(parents=True)
        (damaged / path.name).write_text(json.dumps(broken))
        refused(damaged / path.name, path.name, entries, key)
    path.write_text(json.dumps(whole)[:-30])
    refused(path, path.name, "JSON")


@pytest.mark.parametrize(
    ("key", "read"), [*((key, "val") for key in ("val", "valid", "validate", "validation", "dev")), ("part2", None)]
)
def test_every_usual_name_of_a_part_is_read(tmp_path, key, read):
    entries = [{"id": "1", "report": "Clear.", "image_path": "1/0.png"}]
    for content in ({"train": [], key: entries}, {"a": {"train": [], key: entries}}, [entries[0] | {"split": key}]):
        (tmp_path / "iu_annotation_R2Gen.json").write_text(json.dumps(content))
        if read is None:
            refused(tmp_path, "iu_annotation_R2Gen.json", repr(key))
        else:
            [study] = read_studies(tmp_path).to_dict("records")
            assert (study["split"], study["findings"], len(study["images"])) == (read, "Clear.", 1)


def test_damaged_files_are_named(tmp_path):
    write_dicom(tmp_path / "d" / "1", "1.2.1", "1.2.1.1", "MRN1", "frontal", 1)
    write_dicom(tmp_path / "d" / "2", "1.2.1", "1.2.1.2", "MRN2", "frontal", 1)
    refused(tmp_path / "d", os.path.join("d", "1"), os.path.join("d", "2"), "has patient")
    whole = (tmp_path / "d" / "2").read_bytes()
    (tmp_path / "d" / "2").write_bytes(whole[:250])
    refused(tmp_path / "d", os.path.join("d", "2"), "damaged")
    WRITERS["texts"][0](tmp_path, STUDIES)
    (tmp_path / "S1.txt").write_bytes("Grüße".encode("cp1252"))
    refused(tmp_path, "S1.txt", "UTF-8")


@pytest.mark.parametrize("name", ["mimic", "chexpert", "padchest", "dicom", "text_folders"])
def test_a_folder_above_is_as_good(tmp_path, name):
    write, source = WRITERS[name]
    expected = write(tmp_path / "download" / "physionet.org", STUDIES)
    frame = check(
        tmp_path,
        expected
        if name not in ("text_folders",)
        else [
            read
            for read in expected
            if setattr(read, "study_id", f"download/physionet.org/{read.study_id}") is None
            and setattr(read, "patient_id", read.study_id) is None
        ],
    )
    assert frame.attrs["source"] == source


def test_two_folders_that_fit_are_named(tmp_path):
    for place in ("one", "two"):
        WRITERS["chexpert"][0](tmp_path / place, STUDIES)
    refused(tmp_path, "one", "two")


def test_the_more_special_source_comes_first_and_the_summary_says_so(tmp_path):
    WRITERS["captions"][0](tmp_path, STUDIES)
    WRITERS["r2gen"][0](tmp_path, STUDIES)
    text = format_summary(summarise(read_studies(tmp_path)))
    assert "r2gen (also fits: captions)" in text


def test_an_unknown_folder_is_described(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "table.xyz").write_bytes(b"")
    refused(tmp_path, "x/, 1 .xyz", "looked for", "PADCHEST")
