"""Made-up studies, written in the layout of every source that is read.

A writer makes a folder and returns the studies as they should be read. `MAIN` is the table, and
the columns, that the contract's test damages.
"""

import csv
import gzip
import io
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

CHEXPERT = (
    *("No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion"),
    *("Edema", "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion"),
    *("Pleural Other", "Fracture", "Support Devices"),
)


@dataclass(frozen=True)
class Made:
    """A study before it is written."""

    number: int
    patient: int
    views: tuple[str, ...] = ("frontal",)
    split: str = "train"
    findings: str = ""
    impression: str = ""
    present: tuple[str, ...] = ()  # of Cardiomegaly, Edema, Pneumothorax
    uncertain: tuple[str, ...] = ()


@dataclass
class Read:
    """A study as it should be read; what a layout does not hold keeps its value here."""

    study_id: str
    images: list[str]  # relative to the folder; each of them is written
    views: list[str]
    patient_id: str = ""
    split: str | None = None
    findings: str | None = None
    impression: str | None = None
    problems: set[str] = field(default_factory=set)
    uncertain: set[str] = field(default_factory=set)


def write_table(path, rows, delimiter=","):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    data = text.getvalue().encode()
    path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)


def touch(folder, name):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return name


def both(study):
    """The text of layouts that hold one: it is findings and impression alike."""
    return study.findings or None


def text_ids(study):
    return f"S{study.number}"


# --- Indiana University


def kaggle(folder, studies):
    reports, projections, found = [], [], []
    for s in studies:
        names = [f"{s.number}_IM-{i:04}-{i}001.dcm.png" for i in range(len(s.views))]
        images = [touch(folder, f"images/images_normalized/{name}") for name in names]
        for name, view in zip(names, s.views):
            projections.append({"uid": s.number, "filename": name, "projection": view.title()})
        reports.append(
            {"uid": s.number, "MeSH": "normal", "Problems": ";".join(s.present) or "normal"}
            | {"findings": s.findings, "impression": s.impression}
        )
        found.append(Read(str(s.number), images, list(s.views), str(s.number), None, s.findings or None))
        found[-1].impression, found[-1].problems = s.impression or None, set(s.present)
    write_table(folder / "indiana_reports.csv", reports)
    write_table(folder / "indiana_projections.csv", projections)
    return found


XML = (
    '<eCitation><uId id="CXR{n}"/><MedlineCitation><Article><Abstract><AbstractText '
    'Label="FINDINGS">{f}</AbstractText><AbstractText Label="IMPRESSION">{i}</AbstractText>'
    "</Abstract></Article></MedlineCitation>{images}</eCitation>"
)


def openi(folder, studies):
    from xml.sax.saxutils import escape

    found = []
    for s in sorted(studies, key=lambda s: s.number):
        ids = [f"CXR{s.number}_IM-{i:04}-{i}001" for i in range(len(s.views))]
        images = [touch(folder, f"NLMCXR_png/{name}.png") for name in ids]
        tags = "".join(f'<parentImage id="{name}"/>' for name in ids)
        text = XML.format(n=s.number, f=escape(s.findings), i=escape(s.impression), images=tags)
        (folder / "ecgen-radiology").mkdir(parents=True, exist_ok=True)
        (folder / "ecgen-radiology" / f"{s.number}.xml").write_text(text, "utf-8", newline="")
        read = Read(str(s.number), images, ["unknown"] * len(images), str(s.number))
        read.findings, read.impression = s.findings or None, s.impression or None
        found.append(read)
    return found


# --- MIMIC-CXR

_POSITIONS = {"frontal": "PA", "lateral": "LATERAL", "unknown": ""}


def _mimic(folder, studies, suffix=".jpg", split=True, views=True, home="files"):
    """Write the images of the tree, and return what is read of them."""
    found = []
    for s in sorted(studies, key=lambda s: s.number):
        patient, study = f"{10000000 + s.patient}", f"{50000000 + s.number}"
        place = f"{home}/p{patient[:2]}/p{patient}/s{study}"
        names = [f"{study[-4:]}{i}aa-{view[:2]}" for i, view in enumerate(s.views)]
        images = [touch(folder, f"{place}/{name}{suffix}") for name in names]
        read = Read(study, images, list(s.views) if views else ["unknown"] * len(images), patient)
        read.split = s.split if split else None
        found.append((s, read, names))
    return found


def _mimic_images(made):
    return [
        {"dicom_id": name, "subject_id": r.patient_id, "study_id": r.study_id}
        | {"ViewPosition": _POSITIONS[view], "split": s.split.replace("val", "validate")}
        for s, r, names in made
        for name, view in zip(names, s.views)
    ]


def _without(rows, *names):
    return [{key: value for key, value in row.items() if key not in names} for row in rows]


def mimic(folder, studies):
    made = _mimic(folder, studies)
    rows = _mimic_images(made)
    write_table(folder / "mimic-cxr-2.0.0-metadata.csv.gz", _without(rows, "split"))
    write_table(folder / "mimic-cxr-2.0.0-split.csv", _without(rows, "ViewPosition"))
    labels, sections = [], []
    for s, r, _ in made:
        values = {**dict.fromkeys(s.present, "1.0"), **dict.fromkeys(s.uncertain, "-1.0")}
        labels.append(
            {"subject_id": r.patient_id, "study_id": r.study_id} | {name: values.get(name, "") for name in CHEXPERT}
        )
        sections.append(
            {"study": f"s{r.study_id}", "impression": s.impression, "findings": s.findings}
            | {"last_paragraph": "", "comparison": ""}
        )
        r.findings, r.impression = s.findings or None, s.impression or None
        r.problems, r.uncertain = set(s.present), set(s.uncertain)
    write_table(folder / "mimic-cxr-2.0.0-chexpert.csv.gz", labels)
    write_table(folder / "mimic_cxr_sectioned.csv", sections)
    return [r for _, r, _ in made]


def mimic_reports(folder, studies):
    """Reports in the archive; DICOM files, of which only the list of records tells."""
    home = "physionet.org/files/mimic-cxr/2.0.0"
    made = _mimic(folder, studies, ".dcm", split=False, views=False, home=f"{home}/files")
    rows = _without(_mimic_images(made), "split", "ViewPosition")
    write_table(folder / home / "cxr-record-list.csv.gz", rows)
    with zipfile.ZipFile(folder / home / "mimic-cxr-reports.zip", "w") as archive:
        for s, r, _ in made:
            place = f"files/p{r.patient_id[:2]}/p{r.patient_id}/s{r.study_id}.txt"
            archive.writestr(place, s.findings)
            r.findings = r.impression = both(s)
    return [r for _, r, _ in made]


def mimic_tree(folder, studies):
    """Images and reports in the tree, and no table."""
    made = _mimic(folder, studies, split=False, views=False)
    for s, r, _ in made:
        place = folder / f"files/p{r.patient_id[:2]}/p{r.patient_id}/s{r.study_id}.txt"
        place.write_text(s.findings, "utf-8", newline="")
        r.findings = r.impression = both(s)
    return [r for _, r, _ in made]


# --- Stanford


def _stanford(s, suffix=".jpg"):
    part = {"val": "valid"}.get(s.split, s.split)
    study = f"patient{s.patient:05}/study{s.number}"
    names = [f"{part}/{study}/view{i}_{view}{suffix}" for i, view in enumerate(s.views, 1)]
    return Read(study, names, list(s.views), f"patient{s.patient:05}", s.split)


def chexpert(folder, studies):
    rows = {"train": [], "valid": [], "test": []}
    found = []
    for s in studies:
        read = _stanford(s)
        values = {**dict.fromkeys(s.present, "1.0"), **dict.fromkeys(s.uncertain, "-1.0")}
        labels = {name: values.get(name, "0.0" if name == "Fracture" else "") for name in CHEXPERT}
        for name, view in zip(read.images, s.views):
            touch(folder, name)
            about = {"Sex": "Male", "Age": 40, "Frontal/Lateral": view.title(), "AP/PA": ""}
            path = f"CheXpert-v1.0-small/{name}"
            rows[name.split("/")[0]].append({"Path": path, **about, **labels})
        read.problems, read.uncertain = set(s.present), set(s.uncertain)
        found.append(read)
    for part, table in rows.items():
        if table:
            write_table(folder / f"{part}.csv", table)
    return sorted(found, key=lambda r: ("train", "val", "test").index(r.split))


def chexpert_plus(folder, studies):
    rows, found = [], []
    for s in studies:
        read = _stanford(s)
        png = [name.replace(".jpg", ".png") for name in read.images]
        for name, view in zip(read.images, s.views):
            rows.append(
                {"path_to_image": name, "path_to_dcm": "", "frontal_lateral": view.title()}
                | {"ap_pa": "", "deid_patient_id": read.patient_id, "report": "", "split": s.split}
                | {"section_clinical_history": "Cough.", "section_comparison": ""}
                | {"section_findings": s.findings, "section_impression": s.impression}
            )
        read.images = [touch(folder, f"PNG/{name}") for name in png]
        read.findings, read.impression = s.findings or None, s.impression or None
        found.append(read)
    for row in rows:
        row["split"] = row["split"].replace("val", "valid")
    write_table(folder / "df_chexpert_plus_240401.csv", rows)
    return found


# --- PadChest, VinDr-CXR, ChestX-ray14


def padchest(folder, studies):
    rows, found = [], []
    terms = {"Cardiomegaly": "cardiomegaly", "Edema": "pulmonary edema"}
    for s in studies:
        names = [f"{s.number:010}_{i}.png" for i in range(len(s.views))]
        labels = [terms.get(name, name.lower()) for name in s.present] or ["normal"]
        for name, view in zip(names, s.views):
            projection = {"frontal": "AP_horizontal", "lateral": "L"}.get(view, "COSTAL")
            rows.append(
                {"": len(rows), "ImageID": name, "ImageDir": 7, "StudyID": text_ids(s)}
                | {"PatientID": s.patient, "Projection": projection, "Report": s.findings}
                | {"Labels": str(labels), "LabelsLocalizationsBySentence": "['normal']"}
            )
        images = [touch(folder, f"7/{name}") for name in names]
        read = Read(text_ids(s), images, list(s.views), str(s.patient))
        read.findings = read.impression = both(s)
        read.problems = set(s.present)
        found.append(read)
    write_table(folder / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz", rows)
    return found


def vindr(folder, studies):
    """Three readers an image: all see what is present, one what is uncertain."""
    rows, found = {"train": [], "test": []}, []
    for s in studies:
        part = "test" if s.split == "test" else "train"
        readers = ("R1", "R2", "R3") if part == "train" else ("",)
        seen = {r: {*s.present, *(s.uncertain if r == "R2" else ())} for r in readers}
        for reader, names in seen.items():
            labels = {name: int(name in names) for name in ("Cardiomegaly", "Edema", "Pneumothorax")}
            labels |= {"No finding": int(not names)}
            rows[part].append({"image_id": f"i{s.number}", "rad_id": reader, **labels})
        read = Read(f"i{s.number}", [touch(folder, f"{part}/i{s.number}.dicom")], ["frontal"])
        read.patient_id, read.split, read.problems = f"i{s.number}", part, set(s.present)
        read.uncertain = set(s.uncertain) if part == "train" else set()
        found.append(read)
    for part, table in rows.items():
        if table:
            write_table(folder / "annotations" / f"image_labels_{part}.csv", table)
    return sorted(found, key=lambda r: r.split == "test")


def _nih(folder, studies, table):
    rows, found = [], []
    for s in studies:
        name = f"{s.patient:08}_{s.number:03}.png"
        labels = "|".join(s.present) or "No Finding"
        rows.append(
            {"Image Index": name, "Finding Labels": labels, "Follow-up #": 0}
            | {"Patient ID": s.patient, "View Position": "PA"}
        )
        read = Read(name[:-4], [touch(folder, f"images/{name}")], ["frontal"], str(s.patient))
        read.problems = set(s.present)
        found.append(read)
    write_table(folder / table, rows)
    return found


def nih14(folder, studies):
    return _nih(folder, studies, "Data_Entry_2017.csv")


def nih_sample(folder, studies):
    return _nih(folder, studies, "sample_labels.csv")


# --- captions


def _captioned(s, image, split=None):
    read = Read(Path(image).stem, [image], ["unknown"], Path(image).stem, split)
    read.findings = read.impression = both(s)
    return read


def _by_part(found):
    return sorted(found, key=lambda r: ("train", "val", "test").index(r.split))


def roco(folder, studies):
    lines, found = {}, []
    for s in studies:
        home = {"val": "validation"}.get(s.split, s.split) + "/radiology"
        image = touch(folder, f"{home}/images/ROCO_{s.number:05}.jpg")
        text = f"ROCO_{s.number:05}\t{s.findings}\n"
        lines[f"{home}/captions.txt"] = lines.get(f"{home}/captions.txt", "") + text
        found.append(_captioned(s, image, s.split))
    for name, text in lines.items():
        (folder / name).write_text(text, "utf-8", newline="")
    return _by_part(found)


def roco2(folder, studies):
    rows, found = {}, []
    for s in studies:
        part = {"val": "valid"}.get(s.split, s.split)
        name = f"ROCOv2_2023_{part}_{s.number:06}"
        rows.setdefault(part, []).append({"ID": name, "Caption": s.findings})
        found.append(_captioned(s, touch(folder, f"{part}/{name}.jpg"), s.split))
    for part, table in rows.items():
        write_table(folder / f"{part}_captions.csv", table)
    return _by_part(found)


def roco_kaggle(folder, studies):
    rows, found = {}, []
    for s in studies:
        part, short = {"val": ("validation", "val")}.get(s.split, (s.split, s.split))
        name = f"ROCO_{s.number:05}.jpg"
        rows.setdefault(f"all_data/{part}/radiology{short}data.csv", []).append(
            {"id": f"ROCO_{s.number:05}", "name": name, "caption": s.findings}
        )
        image = touch(folder, f"all_data/{part}/radiology/images/{name}")
        found.append(_captioned(s, image, s.split))
    for path, table in rows.items():
        write_table(folder / path, table)
    return _by_part(found)


def coco(folder, studies):
    found, files = [], {}
    for s in studies:
        name = f"COCO_{s.number:012}.jpg"
        content = files.setdefault(s.split, {"images": [], "annotations": []})
        content["images"].append({"id": s.number, "file_name": name})
        content["annotations"].append({"id": 1, "image_id": s.number, "caption": s.findings})
        read = _captioned(s, touch(folder, f"{s.split}2014/{name}"), s.split)
        read.study_id = read.patient_id = str(s.number)
        found.append(read)
    if len(files) == 1:  # one file may be all there is
        for read in found:
            read.split = None
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    for part, content in files.items():
        path = folder / "annotations" / f"captions_{part}2014.json"
        path.write_text(json.dumps(content))
    return _order(found, files)


def _order(found, files):
    """The order of the files' names; of one file, its own."""
    return found if len(files) == 1 else sorted(found, key=lambda r: r.split)


def _r2gen(folder, studies, patient=False):
    found, entries = [], {"train": [], "val": [], "test": []}
    for s in studies:
        names = [f"{text_ids(s)}/{i}.png" for i in range(len(s.views))]
        entry = {"id": text_ids(s), "report": s.findings, "image_path": names, "split": s.split}
        if patient:
            entry |= {"subject_id": s.patient, "study_id": s.number}
        entries[s.split].append(entry)
        images = [touch(folder, f"images/{name}") for name in names]
        owner = str(s.patient) if patient else text_ids(s)
        read = Read(text_ids(s), images, ["unknown"] * len(images), owner, s.split)
        read.findings = s.findings or None
        found.append(read)
    return _by_part(found), entries


def r2gen(folder, studies):
    found, entries = _r2gen(folder, studies)
    entries["validate"] = entries.pop("val")
    (folder / "annotation.json").write_text(json.dumps(entries))
    order = ("train", "test", "val")
    return sorted(found, key=lambda r: order.index(r.split))


def r2gen_mimic(folder, studies):
    found, entries = _r2gen(folder, studies, patient=True)
    listed = [entry for part in entries.values() for entry in part]
    (folder / "mimic_annotation.json").write_text(json.dumps({"annotations": listed}))
    return found


def captions(folder, studies):
    rows, found = [], []
    for s in studies:
        names = [f"{text_ids(s)}_{i}.png" for i in range(len(s.views))]
        for name in names:
            rows.append({"study_id": text_ids(s), "image": name, "caption": s.findings})
        images = [touch(folder, f"images/{name}") for name in names]
        read = Read(text_ids(s), images, ["unknown"] * len(images), text_ids(s))
        read.findings = read.impression = both(s)
        found.append(read)
    write_table(folder / "captions.csv", rows)
    return found


# --- files without a table


def texts(folder, studies):
    """A report beside its image, of its name."""
    found = []
    for s in sorted(studies, key=lambda s: text_ids(s)):
        image = touch(folder, f"{text_ids(s)}.png")
        (folder / f"{text_ids(s)}.txt").write_text(s.findings, "utf-8", newline="")
        found.append(_captioned(s, image))
    return found


def text_folders(folder, studies):
    """A folder a study, with its report and its images."""
    found = []
    for s in sorted(studies, key=lambda s: (str(s.patient), text_ids(s))):
        home = f"{s.patient}/{text_ids(s)}"
        images = [touch(folder, f"{home}/{i}.png") for i in range(len(s.views))]
        (folder / home / "report.txt").write_text(s.findings, "utf-8", newline="")
        read = Read(home, images, ["unknown"] * len(images), home)
        read.findings = read.impression = both(s)
        found.append(read)
    return found


def dicom(folder, studies, table=False):
    """A tree of files without suffix, in no order."""
    import hashlib

    rows, found = [], []
    for s in studies:
        study = f"1.2.3.{s.number}"
        images = []
        for i, view in enumerate(s.views):
            path = folder / f"A{s.patient % 3}" / f"B{s.number}" / f"{9 - i}"
            write_dicom(path, study, f"{study}.{i}", f"MRN{s.patient}", view, 1 + i)
            images.append(path.relative_to(folder).as_posix())
        digest = hashlib.sha256(f"xray-captioning\n\nMRN{s.patient}".encode()).hexdigest()[:16]
        read = Read(study, images, list(s.views), digest)
        if table:
            rows.append({"StudyInstanceUID": study, "report": s.findings, "split": s.split})
            read.findings, read.split = both(s), s.split
            read.impression = read.findings
        found.append((f"A{s.patient % 3}/B{s.number}/", read))
    (folder / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + b"\x02")
    if table:
        write_table(folder / "reports.csv", rows)
    return [read for _, read in sorted(found, key=lambda pair: pair[0])]


def dicom_table(folder, studies):
    return dicom(folder, studies, table=True)


def write_dicom(path, study, instance, patient, view, number, modality="DX"):
    """Write a small image; the patient's name must never be seen again."""
    import numpy as np
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

    path.parent.mkdir(parents=True, exist_ok=True)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = instance
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID, dataset.StudyInstanceUID = instance, study
    dataset.PatientID, dataset.PatientName = patient, "Secret^Name"
    dataset.AccessionNumber, dataset.Modality = f"ACC{study}", modality
    dataset.ViewPosition = {"frontal": "PA", "lateral": "LL"}.get(view, "")
    dataset.SeriesNumber, dataset.InstanceNumber = 1, number
    dataset.Rows = dataset.Columns = 4
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation, dataset.SamplesPerPixel = 7, 0, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelData = np.arange(16, dtype=np.uint8).tobytes()
    dataset.save_as(path, enforce_file_format=True)


WRITERS = {
    "kaggle": (kaggle, "kaggle"),
    "openi": (openi, "openi"),
    "mimic": (mimic, "mimic_cxr"),
    "mimic_reports": (mimic_reports, "mimic_cxr"),
    "mimic_tree": (mimic_tree, "mimic_cxr"),
    "chexpert": (chexpert, "chexpert"),
    "chexpert_plus": (chexpert_plus, "chexpert_plus"),
    "padchest": (padchest, "padchest"),
    "vindr": (vindr, "vindr"),
    "nih14": (nih14, "nih14"),
    "nih_sample": (nih_sample, "nih14"),
    "roco": (roco, "roco"),
    "roco2": (roco2, "roco"),
    "roco_kaggle": (roco_kaggle, "roco"),
    "coco": (coco, "coco"),
    "r2gen": (r2gen, "r2gen"),
    "r2gen_mimic": (r2gen_mimic, "r2gen"),
    "captions": (captions, "captions"),
    "texts": (texts, "texts"),
    "text_folders": (text_folders, "texts"),
    "dicom": (dicom, "dicom"),
    "dicom_table": (dicom_table, "dicom"),
}
