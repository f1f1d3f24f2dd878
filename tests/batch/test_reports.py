"""Captions as DICOM structured reports and FHIR resources: read back, and read by programs of others."""

import base64
import contextlib
import json
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest

from tests.conftest import made_once
from tests.data.dicom.test_dicom import NAME, dicom
from xray_captioning.batch.caption_table import COLUMNS, Study
from xray_captioning.batch.reports import TEXTS, report_writer
from xray_captioning.cli import main
from xray_captioning.data.dicom.reading import read_header
from xray_captioning.data.sources.reading import read_studies

pydicom = pytest.importorskip("pydicom")

MODEL = {"name": "resident", "digest": "0f" * 32, "section": "findings", "notice": "trained on <few> images"}
PRIVATE = (NAME, "MRN-77", "19700102", "ACC-9", "Referrer", "ST-5", "20200304")
KEPT = {"PatientBirthDate": "19700102", "AccessionNumber": "ACC-9", "ReferringPhysicianName": "Referrer^Rita"}
KEPT |= {"StudyID": "ST-5", "StudyDate": "20200304", "StudyTime": "111213", "PatientSex": "F"}
SYSTEM = "http://loinc.org"


def write_image(path, study=1, image=1, pixels=None, **elements):
    path.parent.mkdir(parents=True, exist_ok=True)
    uids = {"StudyInstanceUID": f"1.2.826.{study}", "SOPInstanceUID": f"1.2.826.{study}.{image}"}
    more = {"SeriesInstanceUID": f"1.2.826.{study}.0", "Modality": "DX"} | KEPT | elements
    path.write_bytes(dicom(**({} if pixels is None else {"pixels": pixels}), **uids, **more))
    return str(path)


def archive(phantoms, folder):
    """Write phantoms as DICOM files, twenty studies."""
    for number, study in enumerate(read_studies(phantoms).head(20).itertuples()):
        for place, (path, view) in enumerate(zip(study.images, study.views)):
            position = {"frontal": "PA", "lateral": "LL"}[view]
            pixels = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
            write_image(folder / f"{number}" / f"{place}", number + 1, place + 1, pixels, ViewPosition=position)


@pytest.fixture(scope="session")
def twenty(fresh_phantoms, tmp_path_factory):
    return made_once(tmp_path_factory, "archive", lambda out: archive(fresh_phantoms, out))


def row(caption="No effusion.", **more):
    return dict.fromkeys(COLUMNS) | {"caption": caption} | more


def write(studies, folder, rows=None, dicom=True, fhir=True, keep=False, model=MODEL):
    """Write reports as a run does, and return their folder and how many failed."""
    place = folder / "reports"
    writer = report_writer(model, studies, place if dicom else None, place if fhir else None, keep)
    return place, writer(zip(studies, rows or [row() for _ in studies]))


def the(folder, suffix):
    [path] = folder.glob(f"*{suffix}")
    return pydicom.dcmread(path) if suffix == ".dcm" else json.loads(path.read_bytes())


def meanings(items):
    return {item.ConceptNameCodeSequence[0].CodeMeaning: item for item in items}


def values_of(items):
    return {name: item.get("TextValue") for name, item in meanings(items).items()}


def check_with(program, path):
    if not shutil.which(program):
        pytest.skip(f"{program} (Debian: dcmtk, dicom3tools) is not on this machine")
    done = subprocess.run([program, str(path)], capture_output=True, text=True, errors="replace", check=False)
    said = [line for line in (done.stdout + done.stderr).splitlines() if re.match(r"(Error|E:|F:)", line)]
    assert (done.returncode, said) == (0, []), path


@pytest.fixture(scope="module")
def written(twenty, tmp_path_factory):
    """Reports of the shipped bundle's captions, and the table beside them."""
    pytest.importorskip("onnxruntime")
    out = tmp_path_factory.mktemp("written")
    words = ["caption", "--data", str(twenty), "--out", str(out / "captions.jsonl"), "--runtime", "onnx"]
    assert main([*words, "--out-dicom", str(out / "sr"), "--fhir", str(out / "fhir")]) == 0
    return out


def test_each_of_twenty_studies_has_its_report(written):
    rows = {row["study"]: row for row in map(json.loads, (written / "captions.jsonl").read_text().splitlines())}
    reports = [pydicom.dcmread(path) for path in (written / "sr").iterdir()]
    assert {report.StudyInstanceUID: the_text(report) for report in reports} == {
        study: row["caption"] for study, row in rows.items()
    }
    assert {path.stem for path in (written / "sr").iterdir()} == {path.stem for path in (written / "fhir").iterdir()}
    for report in reports:
        [study] = report.CurrentRequestedProcedureEvidenceSequence
        [series] = study.ReferencedSeriesSequence
        listed = [item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence]
        files = [pydicom.dcmread(path).SOPInstanceUID for path in rows[report.StudyInstanceUID]["images"]]
        assert listed == files == [item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in seen(report)]


def the_text(report):
    return values_of(report.ContentSequence[-1].ContentSequence)["Impression"]


def seen(report):
    return report.ContentSequence[-1].ContentSequence[0].ContentSequence


@pytest.mark.parametrize("program", ["dsrdump", "dciodvfy"])
def test_others_find_no_fault_in_structured_reports(written, program):
    for path in (written / "sr").iterdir():
        check_with(program, path)


def test_nothing_of_the_patient_is_written(written):
    files = [path.read_bytes() for folder in ("sr", "fhir") for path in (written / folder).iterdir()]
    assert len(files) == 40
    assert not [name for name in PRIVATE for file in files if name.encode() in file]
    report = pydicom.dcmread(min((written / "sr").iterdir()))
    empty = {report[name].VM for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", *KEPT)}
    assert empty == {0}


def test_a_structured_report_says_who_wrote_it_and_what_for(tmp_path):
    study = Study("1", [write_image(tmp_path / "a"), None, write_image(tmp_path / "b", image=2)])
    place, failed = write([study], tmp_path, [row(unfamiliar=True)])
    report = the(place, ".dcm")
    assert failed == 0
    assert report.file_meta.MediaStorageSOPClassUID == report.SOPClassUID == pydicom.uid.BasicTextSRStorage
    assert (report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag) == (
        *("PARTIAL", "UNVERIFIED", "PRELIMINARY"),
    )
    assert "not for clinical use" in report.SeriesDescription
    context = meanings(report.ContentSequence)
    assert context["Observer Type"].ConceptCodeSequence[0].CodeMeaning == "Device"
    assert report.DeviceUID == context["Device Observer UID"].UID
    assert context["Device Observer Serial Number"].TextValue == report.DeviceSerialNumber == MODEL["digest"]
    assert context["Device Observer Model Name"].TextValue == report.ManufacturerModelName == "resident"
    said = values_of(context["Findings"].ContentSequence)
    assert said["Finding"] == "No effusion."
    notice = f"{TEXTS['notice']} This model was trained on <few> images. {TEXTS['unfamiliar']}"
    assert said["Comment"] == notice
    assert (said["Algorithm Name"], said["Algorithm Version"]) == ("resident", MODEL["digest"])


@pytest.mark.parametrize("section", ["impression", "findings", "report"])
def test_codes_are_those_of_the_standard(tmp_path, section):
    from pydicom.sr import _cid_dict, _concepts_dict

    model = MODEL | {"section": section}
    place, _ = write([Study("1", [write_image(tmp_path / "a")])], tmp_path, model=model)
    report = the(place, ".dcm")
    heading = report.ContentSequence[-1]
    items = [report, *report.ContentSequence, *heading.ContentSequence, *seen(report)]
    found = [item.ConceptNameCodeSequence[0] for item in items]
    found += report.ContentSequence[1].ConceptCodeSequence
    assert len(found) == 14
    # pydicom's tables, made from the standard: scheme, keyword, value, meaning; keywords by group.
    known = _concepts_dict.concepts
    for code in found:
        values = [item for item in known[code.CodingSchemeDesignator].values() if code.CodeValue in item]
        assert code.CodeMeaning in [meaning for item in values for meaning, _ in item.values()]
    for cid, item in [(7000, report), (7001, heading), (7002, heading.ContentSequence[0])]:
        [code] = item.ConceptNameCodeSequence
        keywords = _cid_dict.cid_concepts[cid][code.CodingSchemeDesignator]
        assert code.CodeValue in [value for word in keywords for value in known[code.CodingSchemeDesignator][word]]


def test_highdicom_reads_the_content(tmp_path):
    pytest.importorskip("highdicom")
    from highdicom.sr import ContainerContentItem

    place, _ = write([Study("1", [write_image(tmp_path / "a")])], tmp_path)
    report, root = the(place, ".dcm"), pydicom.Dataset()
    for name in ("ConceptNameCodeSequence", "ContentSequence", "ValueType", "ContinuityOfContent"):
        setattr(root, name, report[name].value)
    root.ContentTemplateSequence = report.ContentTemplateSequence
    read = ContainerContentItem.from_dataset(root)
    assert read.template_id == "2000"
    assert [item.value_type.value for item in read.ContentSequence] == [
        *("CODE", "CODE", "UIDREF", "TEXT", "TEXT", "TEXT", "CONTAINER")
    ]


@pytest.mark.parametrize(
    ("charset", "name"),
    [("ISO_IR 100", "Müller^Jörg"), ("ISO_IR 192", "Y^T=山田^太郎"), (["", "ISO 2022 IR 87"], "Y^T=山田^太郎")],
)
def test_a_patient_is_kept_where_that_is_asked_for(tmp_path, charset, name):
    image = write_image(tmp_path / "a", SpecificCharacterSet=charset, PatientName=name, IssuerOfPatientID="Clinic")
    place, failed = write([Study("1", [image])], tmp_path, [row("Erguß, 大きい.")], keep=True)
    report, resource = the(place, ".dcm"), the(place, ".json")
    assert failed == 0
    assert str(report.PatientName) == name
    assert (report.PatientID, report.IssuerOfPatientID) == ("MRN-77", "Clinic")
    assert {key: str(report[key].value) for key in KEPT} == KEPT
    assert values_of(report.ContentSequence[-1].ContentSequence)["Finding"] == "Erguß, 大きい."
    assert resource["subject"] == {"identifier": {"value": "MRN-77"}, "display": name}
    for path in place.glob("*.dcm"):
        check_with("dsrdump", path)
        check_with("dciodvfy", path)


def test_a_patient_without_an_id_or_name_is_none(tmp_path):
    image = write_image(tmp_path / "a", PatientID="", PatientName="")
    place, _ = write([Study("1", [image])], tmp_path, keep=True)
    assert "subject" not in the(place, ".json")


@pytest.mark.parametrize("kind", ["dicom", "png"])
def test_a_resource_is_a_diagnostic_report_of_r4(tmp_path, kind):
    image = write_image(tmp_path / "a") if kind == "dicom" else "images/7.png"
    if kind == "png":
        (tmp_path / "images").mkdir()
        image = str(tmp_path / "images" / "7.png")
        Path(image).touch()
    place, failed = write([Study("study 7", [image])], tmp_path, [row("A < B & C")], dicom=False)
    resource = the(place, ".json")
    assert failed == 0
    check_resource(resource)
    uid = {"system": "urn:dicom:uid", "value": "urn:oid:1.2.826.1"}
    assert resource["imagingStudy"] == [
        {"type": "ImagingStudy", "identifier": uid if kind == "dicom" else {"value": "study 7"}}
    ]
    assert resource["conclusion"] == "A < B & C"
    [form] = resource["presentedForm"]
    text = base64.b64decode(form["data"]).decode()
    for part in ("A < B & C", TEXTS["notice"], "trained on <few> images", "resident", MODEL["digest"]):
        assert part in text
        assert part in unescape(resource["text"]["div"])
    device, observation = resource["contained"]
    assert (device["deviceName"][0]["name"], device["serialNumber"]) == ("resident", MODEL["digest"])
    assert observation["valueString"] == "A < B & C"


def check_resource(resource):
    """Check by others' models, and what they let through: states, and references to what is in it."""
    report = pytest.importorskip("fhir.resources.R4B.diagnosticreport").DiagnosticReport
    assert json.loads(report.model_validate(resource).model_dump_json()).keys() == resource.keys()
    contained = {f"#{part['id']}" for part in resource["contained"]}
    assert set(re.findall(r'"reference": "([^"]*)"', json.dumps(resource))) == contained
    assert {resource["status"], resource["contained"][1]["status"]} == {"preliminary"}
    assert re.fullmatch(r"[A-Za-z0-9\-.]{1,64}", resource["id"])
    assert resource["code"]["coding"][0] == {"system": SYSTEM, "code": "30745-4", "display": "XR Chest Views"}
    __import__("xml.dom.minidom").dom.minidom.parseString(resource["text"]["div"])


def test_resources_of_twenty_studies(written):
    for path in (written / "fhir").iterdir():
        check_resource(json.loads(path.read_bytes()))


def test_a_second_run_adds_nothing_and_another_text_does(tmp_path):
    study = Study("1", [write_image(tmp_path / "a")])
    place, _ = write([study], tmp_path)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in place.iterdir()}
    write([study], tmp_path)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in place.iterdir()} == before
    changes = {"rows": [row("Effusion.")]}, {"model": MODEL | {"digest": "1f" * 32}}, {"keep": True}
    for number, change in enumerate(changes, 2):
        write([study], tmp_path, **change)
        reports = [pydicom.dcmread(path) for path in place.glob("*.dcm")]
        assert len({report.SOPInstanceUID for report in reports}) == number
        assert len({report.SeriesInstanceUID for report in reports}) == number


def test_what_has_no_caption_has_no_report(tmp_path):
    image = write_image(tmp_path / "a")
    rows = [row(None, error="damaged"), row("", unfamiliar=True)]
    place, failed = write([Study("1", [image]), Study("2", [image])], tmp_path, rows)
    assert (failed, place.exists()) == (0, False)


def test_what_no_report_can_refer_to_is_told_and_the_others_are_written(tmp_path):
    good = [write_image(tmp_path / f"{number}", number) for number in (1, 2)]
    (png := tmp_path / "c.png").touch()
    bare = write_image(tmp_path / "bare", 3, SeriesInstanceUID="")
    studies = [Study("good", good[:1]), Study("two", good), Study("png", [str(png)]), Study("bare", [bare])]
    with pytest.warns(UserWarning, match=r"two: its images are of several .*; 3 captions have no report"):
        place, failed = write(studies, tmp_path)
    assert failed == 3
    assert the(place, ".dcm").StudyInstanceUID == "1.2.826.1"
    with pytest.warns(UserWarning, match="two: .*; 1 captions have no report"):
        write(studies, tmp_path, dicom=False)
    assert len(list(place.glob("*.json"))) == 3


def test_a_study_without_a_report_is_an_error_of_the_run(twenty, tmp_path, capfd):
    pytest.importorskip("onnxruntime")
    (tmp_path / "a.png").write_bytes(cv2.imencode(".png", pydicom.dcmread(twenty / "0" / "0").pixel_array)[1].tobytes())
    words = ["caption", str(twenty / "0" / "0"), str(tmp_path / "a.png"), "--out-dicom", str(tmp_path / "sr")]
    assert main([*words, "--runtime", "onnx"]) == 1
    output, error = capfd.readouterr()
    assert output == ""
    assert "a.png: not all its images are DICOM files with the UIDs that a report refers to; take --fhir" in error
    assert "2 studies, 1 of them with an error" in error
    assert len(list((tmp_path / "sr").iterdir())) == 1


def test_series_are_listed_once(tmp_path):
    series = {1: "1.2.7", 2: "1.2.8", 3: "1.2.7"}
    images = [write_image(tmp_path / f"{n}", image=n, SeriesInstanceUID=uid) for n, uid in series.items()]
    place, _ = write([Study("1", images)], tmp_path)
    [study] = the(place, ".dcm").CurrentRequestedProcedureEvidenceSequence
    listed = {s.SeriesInstanceUID: len(s.ReferencedSOPSequence) for s in study.ReferencedSeriesSequence}
    assert listed == {"1.2.7": 2, "1.2.8": 1}


def test_control_characters_are_none_of_a_report(tmp_path):
    place, _ = write([Study("1", [write_image(tmp_path / "a")])], tmp_path, [row("clear\x07 .\r\n\tno\x0beffusion")])
    assert values_of(the(place, ".dcm").ContentSequence[-1].ContentSequence)["Finding"] == "clear . no effusion"


def test_a_header_has_more_only_where_that_is_asked_for(tmp_path):
    path = write_image(tmp_path / "a")
    assert NAME not in read_header(path).values()
    assert "MRN-77" not in read_header(path).values()
    more = read_header(path, ["PatientName", "PatientID"])
    assert (more["PatientName"], more["PatientID"]) == (NAME, "MRN-77")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--keep-patient"], "--keep-patient is for reports; give --out-dicom or --fhir, too"),
        (["--out-dicom", "OUT"], "its reports refer to DICOM images, and none of these is one; take --fhir"),
        (["--fhir", "OUT", "--findings"], "leave out --findings"),
        (["--fhir", "OUT", "--resume"], "--resume goes on with a run to a file; give its --out, too"),
        (["--fhir", "OUT", "--out", "WHOLE", "--resume"], "does not say which model wrote it; give another --out"),
    ],
)
def test_what_cannot_be_reported_is_one_line(phantoms, tmp_path, capfd, words, said):
    pytest.importorskip("onnxruntime")
    (whole := tmp_path / "whole.csv").touch()
    places = {"OUT": str(tmp_path / "out"), "WHOLE": str(whole)}
    assert main(["caption", str(min(phantoms.rglob("*.png"))), *(places.get(word, word) for word in words)]) == 2
    output, error = capfd.readouterr()
    assert (output, said in error) == ("", True)
    assert error.count("xray-captioning: ") == 1
    assert not (tmp_path / "out").exists()


def test_features_have_no_images_to_report(tmp_path, capfd):
    (features := tmp_path / "f.npz").touch()
    assert main(["caption", "--features", str(features), "--fhir", str(tmp_path / "out")]) == 2
    assert "give --out, and no images, views or reports; texts come with --data" in capfd.readouterr().err


def test_a_run_that_was_stopped_goes_on_to_its_reports(twenty, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    from xray_captioning.batch import reports

    words = ["caption", "--data", str(twenty), "--out", str(tmp_path / "c.csv"), "--runtime", "onnx"]
    words += ["--out-dicom", str(tmp_path / "sr")]

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(reports, "os", SimpleNamespace(fsync=os.fsync, replace=stopped))
        with contextlib.suppress(KeyboardInterrupt):
            assert main(words)
    assert [path.suffix for path in (tmp_path / "sr").iterdir()] == [".part"]
    assert main([*words, "--resume"]) == 0
    assert {path.suffix for path in (tmp_path / "sr").iterdir()} == {".dcm"}
    assert len(list((tmp_path / "sr").iterdir())) == 20


def test_work_on_other_processes_needs_no_table(twenty, written, tmp_path, monkeypatch):
    from xray_captioning.batch import workers

    @contextlib.contextmanager
    def here(*_):
        yield lambda make, batches, lost: map(make(), batches)

    monkeypatch.setattr(workers, "ray_workers", here)
    words = ["caption", "--data", str(twenty), "--engine", "ray", "--runtime", "onnx"]
    assert main([*words, "--fhir", str(tmp_path / "fhir")]) == 0
    names = ({path.name for path in (folder / "fhir").iterdir()} for folder in (tmp_path, written))
    assert next(names) == next(names)


@pytest.mark.slow
def test_keras_and_exported_graphs_write_the_same_reports(written, twenty, tmp_path, capfd):
    study = twenty / "3"
    words = ["caption", "--data", str(study), "--out-dicom", str(tmp_path / "sr"), "--runtime", "keras"]
    assert main(words) == 0
    output, error = capfd.readouterr()
    assert output == ""
    assert error.endswith(f"{tmp_path / 'sr'}: 1 studies, 0 of them with an error\n")
    [path] = (tmp_path / "sr").iterdir()
    assert path.name in {other.name for other in (written / "sr").iterdir()}
