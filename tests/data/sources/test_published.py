"""Published collections in the states in which people have them, and archives."""

import json
import os
import stat
import zipfile

import numpy as np
import pytest

from tests.data.sources.layouts import CHEXPERT, WRITERS, dicom, mimic, mimic_tree, touch, write_dicom, write_table
from tests.data.sources.test_contract import STUDIES, check, refused
from xray_captioning.data import cache_folder
from xray_captioning.data.sources import published
from xray_captioning.data.sources.published import render_captions
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.studies import format_summary, summarise
from xray_captioning.errors import DataError
from xray_captioning.training.labels import finding_labels


def records(path, **options):
    return read_studies(path, **options).to_dict("records")


# --- MIMIC-CXR


def test_mimic_without_labels_split_and_sections(tmp_path):
    expected = mimic(tmp_path, STUDIES)
    for name in ("mimic-cxr-2.0.0-split.csv", "mimic_cxr_sectioned.csv"):
        (tmp_path / name).unlink()
    (tmp_path / "mimic-cxr-2.0.0-chexpert.csv.gz").unlink()
    for read in expected:
        read.split = read.findings = read.impression = None
        read.problems = read.uncertain = set()
    check(tmp_path, expected)


def test_mimic_labels_are_chexperts_or_else_negbios(tmp_path):
    mimic(tmp_path, STUDIES)
    row = {"subject_id": "10000007", "study_id": "50000001"} | dict.fromkeys(CHEXPERT, "")
    write_table(tmp_path / "mimic-cxr-2.0.0-negbio.csv", [row | {"Fracture": "1.0"}])
    assert records(tmp_path)[0]["problems"] == ["Edema"]
    (tmp_path / "mimic-cxr-2.0.0-chexpert.csv.gz").unlink()
    assert records(tmp_path)[0]["problems"] == ["Fracture"]


def test_mimic_images_may_lie_in_one_folder_elsewhere(tmp_path):
    mimic(tmp_path / "m", STUDIES)
    for path in (tmp_path / "m").rglob("*.jpg"):
        path.rename(tmp_path / touch(tmp_path, f"resized/{path.stem}.png"))
    rows = records(tmp_path / "m", image_dir=tmp_path / "resized")
    assert [len(row["images"]) for row in rows] == [2, 1, 1, 1]
    assert all(os.path.isfile(image) for row in rows for image in row["images"])


def test_mimic_names_what_is_not_there_and_reads_what_no_table_names(tmp_path):
    mimic(tmp_path, STUDIES)
    there = next(tmp_path.rglob("s50000001"))
    there.rename(there.with_name("s50000009"))
    refused(tmp_path, "s50000009", "a table has it in files/p10/p10000007/s50000001")
    for path in there.with_name("s50000009").iterdir():
        path.rename(path.with_stem(f"another-{path.stem}"))
    rows = records(tmp_path)
    assert [row["study_id"][-1] for row in rows] == ["1", "2", "3", "4", "9"]
    assert rows[0]["images"][0].endswith("files/p10/p10000007/s50000001/00010aa-fr.jpg")
    assert not any(map(os.path.isfile, rows[0]["images"]))
    assert (rows[4]["split"], len(rows[4]["images"])) == (None, 2)


def test_mimic_reads_a_whole_report_where_the_table_has_nothing(tmp_path):
    mimic_tree(tmp_path, STUDIES)
    report = "FINAL REPORT\nINDICATION:  Cough, ? pneumonia.\n\nFINDINGS:  Clear.\n\nIMPRESSION:  None."
    (tmp_path / "files/p10/p10000007/s50000001.txt").write_text(report)
    sections = {"study": "s50000002", "impression": "", "findings": "", "comparison": ""}
    write_table(tmp_path / "mimic_cxr_sectioned.csv", [sections | {"last_paragraph": "Scar."}])
    first, second, *_ = records(tmp_path)
    assert (first["indication"], first["findings"]) == ("Cough, ? pneumonia.", "Clear.")
    assert (second["findings"], second["impression"]) == ("Scar.", None)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("split", "test", ["split 'train'", "'test'"]),
        ("subject_id", "10000042", ["10000042", "10000007"]),
        ("study_id", "abc", ["study_id is 'abc'"]),
        ("split", "", ["split is ''"]),
    ],
)
def test_mimic_rows_that_contradict_each_other(tmp_path, column, value, words):
    rows = [{"dicom_id": name, "study_id": 50000001, "subject_id": 10000007, "split": "train"} for name in ("a", "b")]
    rows[1][column] = value
    write_table(tmp_path / "mimic-cxr-2.0.0-split.csv", rows)
    refused(tmp_path, "mimic-cxr-2.0.0-split.csv, line 3", *words)


# --- labels


def test_uncertain_labels_are_unknown_to_a_classifier(tmp_path):
    WRITERS["chexpert"][0](tmp_path, STUDIES)
    names, values = finding_labels(read_studies(tmp_path))
    assert names == ["Cardiomegaly", "Edema"]
    np.testing.assert_array_equal(values, [[0, 1], [np.nan, 0], [0, 0], [1, 0]])


def test_a_text_made_from_labels_denies_neither_what_is_there_nor_what_may_be(tmp_path):
    row = {"Path": "train/patient1/study1/view1_frontal.jpg", "Frontal/Lateral": "Frontal"}
    labelled = {"Pleural Effusion": "1.0", "Cardiomegaly": "-1.0", "Support Devices": "1.0"}
    write_table(tmp_path / "train.csv", [row | labelled])
    [text] = render_captions(read_studies(tmp_path))["findings"]
    assert text == ("There is a pleural effusion. Support devices are in place. No pneumothorax.")


def test_a_label_that_is_none_of_the_four_is_named(tmp_path):
    row = {"Path": "train/patient1/study1/view1_frontal.jpg", "Frontal/Lateral": "Frontal"}
    write_table(tmp_path / "train.csv", [row | {"Edema": "yes"}])
    refused(tmp_path, "train.csv, line 2", "Edema is 'yes'", "1, 0, -1 or empty")


def test_padchest_labels_get_the_names_used_here_or_keep_their_own():
    found = ["pulmonary mass", " nodule", "NSG tube", "aortic elongation", "normal", "unchanged"]
    read = published.named(found, "padchest")
    assert read == ["Lung Lesion", "Support Devices", "aortic elongation"]
    with pytest.raises(DataError, match=r"t\.csv, line 3: the labels are 'nodule'"):
        published.listed("nodule", "t.csv, line 3")


@pytest.mark.parametrize("table", ["annotations_train.csv", "annotations/annotations_train.csv"])
def test_vindr_boxes_count_each_reader_once(tmp_path, table):
    def box(image, reader, name):
        return {"image_id": image, "rad_id": reader, "class_name": name, "x_min": 1}

    seen = [("R1", "Rib fracture"), ("R1", "Rib fracture"), ("R2", "Rib fracture")]
    seen += [("R3", "No finding"), ("R3", "ILD")]
    rows = [box("a", *pair) for pair in seen] + [box("b", r, "No finding") for r in ("R1", "R2")]
    write_table(tmp_path / table, rows)
    first, second = records(tmp_path)
    assert (first["problems"], first["uncertain"]) == (["Fracture"], ["ILD"])
    assert (second["problems"], second["uncertain"], second["split"]) == ([], [], "train")


# --- captions


def test_karpathys_split_is_read(tmp_path):
    image = {"imgid": 7, "filename": "a.jpg", "split": "val", "sentences": [{"raw": "Clear."}]}
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": [image], "dataset": "x"}))
    [study] = records(tmp_path)
    assert (study["study_id"], study["split"], study["findings"]) == ("7", "val", "Clear.")


def test_several_captions_of_a_coco_image_are_one_text(tmp_path):
    images = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}]
    texts = [(1, "One."), (2, "B."), (1, "Two."), (1, "One.")]
    content = {"images": images, "annotations": [{"image_id": i, "caption": t} for i, t in texts]}
    (tmp_path / "any_name.json").write_text(json.dumps(content))
    assert [row["findings"] for row in records(tmp_path)] == ["One. Two.", "B."]
    content["annotations"].append({"image_id": 9, "caption": "C."})
    (tmp_path / "any_name.json").write_text(json.dumps(content))
    refused(tmp_path, "captions of image '9'")


def test_reports_may_lie_in_a_folder_of_their_own(tmp_path):
    for name in ("s1/0.png", "s1/1.png", "s2.png", "s3.png"):
        touch(tmp_path, f"images/{name}")
    for name in ("s1", "s2"):
        touch(tmp_path, f"reports/{name}.txt")
        (tmp_path / "reports" / f"{name}.txt").write_text(f"FINDINGS: {name}.\nIMPRESSION: no.")
    (tmp_path / "README.txt").write_text("Not a report.")
    rows = records(tmp_path)
    assert [(row["study_id"], len(row["images"]), row["findings"]) for row in rows] == [
        ("reports/s1", 0, "s1."),
        ("reports/s2", 1, "s2."),
        ("images/s3", 1, None),
        ("images/s1/0", 1, None),
        ("images/s1/1", 1, None),
    ]


# --- DICOM


def test_no_patient_field_is_kept_or_printed(tmp_path):
    dicom(tmp_path, STUDIES)
    frame = read_studies(tmp_path)
    shown = format_summary(summarise(frame)) + frame.to_csv()
    assert "Secret" not in shown
    assert "MRN" not in shown
    assert frame["patient_id"].nunique() == 3


def test_what_is_no_radiograph_is_left_out(tmp_path):
    dicom(tmp_path / "d", STUDIES[:1])
    write_dicom(tmp_path / "d" / "ct", "1.9", "1.9.1", "MRN1", "", 1, modality="CT")
    (tmp_path / "d" / "again").write_bytes((tmp_path / "d" / "A1" / "B1" / "9").read_bytes())
    [study] = records(tmp_path / "d")
    assert len(study["images"]) == 2
    write_dicom(tmp_path / "c" / "ct", "1.9", "1.9.1", "MRN1", "", 1, modality="CT")
    refused(tmp_path / "c", "no radiograph", "CT")


@pytest.mark.parametrize("column", ["AccessionNumber", "SOPInstanceUID", "study_uid"])
def test_reports_are_joined_by_any_of_the_identifiers(tmp_path, column):
    dicom(tmp_path, STUDIES[:2])
    key = {"AccessionNumber": "ACC1.2.3.{}", "SOPInstanceUID": "1.2.3.{}.0"}.get(column, "1.2.3.{}")
    rows = [{column: key.format(n), "findings": f"Text {n}."} for n in (2, 1)]
    write_table(tmp_path / "reports.csv", rows)
    assert [row["findings"] for row in records(tmp_path)] == ["Text 1.", "Text 2."]
    write_table(tmp_path / "reports.csv", [{column: "7", "findings": "Text."}])
    refused(tmp_path, "reports.csv", column)


# --- archives


def packed(folder, path, **more):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))
        for name, content in more.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("name", ["captions", "mimic", "padchest", "dicom", "texts", "r2gen"])
def test_an_archive_is_read_and_nothing_is_written_beside_it(tmp_path, cache, name):
    write, source = WRITERS[name]
    expected = write(tmp_path / "made" / "top", STUDIES)
    home = tmp_path / "given"
    home.mkdir()
    path = packed(tmp_path / "made" / "top", home / "data.zip")
    if name == "texts":
        for read in expected:
            read.study_id = read.patient_id = f"top/{read.study_id}"
    frame = check(home, expected, path)
    assert frame.attrs["source"] == source
    assert [file.name for file in home.iterdir()] == ["data.zip"]
    [unpacked] = cache.iterdir()
    dates = {file: file.stat().st_mtime_ns for file in unpacked.rglob("*.png")}
    read_studies(path)
    assert {file: file.stat().st_mtime_ns for file in unpacked.rglob("*.png")} == dates
    assert cache_folder.empty(cache_folder.caches(cache)) > 0
    assert not list(cache.iterdir())


def test_caches_of_features_do_not_push_archives_out(tmp_path, cache):
    WRITERS["captions"][0](tmp_path / "top", STUDIES)
    read_studies(packed(tmp_path / "top", tmp_path / "data.zip"))
    [listed] = cache_folder.caches(cache)
    assert listed.size > 0
    cache_folder.trim(cache, 0)
    assert cache_folder.caches(cache) == [listed]


@pytest.mark.parametrize("name", ["../evil.csv", "/nowhere/evil.csv", "..\\evil.csv", "C:\\evil.csv"])
def test_an_archive_writes_nothing_outside(tmp_path, cache, name):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("captions.csv", "image,caption\na.png,b\n")
        info = zipfile.ZipInfo("x")
        info.filename = name
        archive.writestr(info, "x")
    assert list(read_studies(tmp_path / "a.zip")["findings"]) == ["b"]
    assert not list(tmp_path.rglob("evil*"))
    assert len(list(cache.rglob("*evil*"))) == 1
    assert not os.path.exists("/nowhere")


def test_archives_that_are_refused(tmp_path, cache, monkeypatch):
    whole = packed(WRITERS["captions"][0](tmp_path / "top", STUDIES) and tmp_path / "top",
                   tmp_path / "a.zip")  # fmt: skip
    data = whole.read_bytes()
    for content in (data[: len(data) // 2], data[:40] + bytes(20) + data[60:]):
        (tmp_path / "b.zip").write_bytes(content)
        refused(tmp_path / "b.zip", "b.zip", "get it again")
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/nowhere")
    refused(tmp_path / "c.zip", "no known source")
    assert not any(path.is_symlink() for path in cache.rglob("*"))
    monkeypatch.setenv(cache_folder.LIMIT_VARIABLE, "0.00001")
    packed(tmp_path / "top", tmp_path / "d.zip", **{"zeros.txt": bytes(20_000_000)})
    refused(tmp_path / "d.zip", "d.zip", cache_folder.LIMIT_VARIABLE)
    assert not list(cache.rglob("zeros*")) if cache.exists() else True
