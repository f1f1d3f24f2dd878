"""Published collections whose studies are tables: CheXpert, PadChest, VinDr-CXR, NIH, ROCO.

Each is a `Layout`, the names of its columns, and what its rows say otherwise than others.

References
----------
.. [1] Irvin et al., "CheXpert: A Large Chest Radiograph Dataset with Uncertainty Labels and
   Expert Comparison", AAAI 2019.
.. [2] Chambon et al., "CheXpert Plus: Augmenting a Large Chest X-ray Dataset with Text Radiology
   Reports, Patient Demographics and Additional Image Formats", arXiv:2405.19538, 2024.
.. [3] Bustos et al., "PadChest: A large chest x-ray image dataset with multi-label annotated
   reports", Medical Image Analysis 66, 2020.
.. [4] Nguyen et al., "VinDr-CXR: An open dataset of chest X-rays with radiologist's annotations",
   Scientific Data 9, 2022.
.. [5] Wang et al., "ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks", CVPR 2017.
.. [6] Pelka et al., "Radiology Objects in COntext (ROCO): A Multimodal Image Dataset", LABELS 2018.
.. [7] Rückert et al., "ROCOv2: Radiology Objects in COntext Version 2, an Updated Multimodal Image
   Dataset", Scientific Data 11, 2024.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from xray_captioning.data.sources import labels
from xray_captioning.data.sources.cells import named_part
from xray_captioning.data.sources.layout import USUAL, StudyRow, make_studies, once, published, rows
from xray_captioning.data.sources.lookup import ImageFinder
from xray_captioning.data.sources.source import Source, columns_of
from xray_captioning.data.splits import by_hash
from xray_captioning.data.studies import FRONTAL, Study
from xray_captioning.data.table import Row, Table
from xray_captioning.errors import DataError
from xray_captioning.findings import CHEXPERT, NO_FINDING

# What no table has but a row may say by its image; texts may be there under their usual names.
_IMAGES = replace(USUAL, study=(), patient=(), split=())


def _reader(rows_of: Callable[[Path], Iterable[StudyRow]]) -> Callable[..., list[Study]]:
    """Return what reads a collection whose rows name each image once."""
    return lambda path, finder: make_studies(once(rows_of(path)), finder.find)


# --- CheXpert [1]_ and CheXpert Plus [2]_, the same images with their reports ---

_CHEXPERT = replace(
    _IMAGES,
    image=("Path",),
    view=("Frontal/Lateral",),
    label_columns={name: name for name in CHEXPERT[1:]},
)
_PLUS = replace(
    _IMAGES,
    image=("path_to_image",),
    patient=("deid_patient_id",),
    split=("split",),
    view=("frontal_lateral",),
    indication=("section_clinical_history", "section_history"),
    comparison=("section_comparison",),
    findings=("section_findings",),
    impression=("section_impression",),
    caption=("report",),
)
_STUDY = re.compile(r"(patient\d+)/(study\d+)/")
_ROOT = re.compile(r"^.*?CheXpert-v1\.0[^/]*/")


def chexpert_rows(path: Path) -> Iterator[StudyRow]:
    """Yield the rows of ``train.csv``, ``valid.csv`` and ``test.csv``; there is no text."""
    for table in _chexpert_tables(path) if path.is_dir() else [path]:
        part = named_part(table.name.split(".")[0])
        yield from _by_path(rows(published(table, "Frontal/Lateral"), _CHEXPERT, part=part))


def plus_rows(path: Path) -> Iterator[StudyRow]:
    """Yield the rows of ``df_chexpert_plus_*.csv``; sections come before the whole report."""
    return _by_path(rows(Table(path), _PLUS))


def is_chexpert(path: Path) -> bool:
    """Tell by the columns of the table whether a folder is CheXpert."""
    return any("Frontal/Lateral" in columns_of(table) for table in _chexpert_tables(path))


def _chexpert_tables(folder: Path) -> list[Path]:
    names = ("train", "valid", "test")
    return [path for name in names for path in sorted(folder.glob(f"{name}.csv*"))]


def _by_path(found: Iterable[StudyRow]) -> Iterator[StudyRow]:
    """Name the study, a folder as patient00001/study1, and the patient by the image's path."""
    for row in found:
        row.images = [_ROOT.sub("", name.replace("\\", "/")) for name in row.images]
        place = _STUDY.search(row.images[0])
        if not place:
            raise DataError(
                f"{row.where}: {row.images[0][:80]!r} names no study, as patient1/study1/a.jpg does"
            )
        row.study, row.patient = f"{place[1]}/{place[2]}", row.patient or place[1]
        yield row


# --- PadChest [3]_: images, labels and reports in Spanish, which stay as they are ---

_PADCHEST = replace(
    USUAL,
    image=("ImageID",),
    study=("StudyID",),
    patient=("PatientID",),
    split=(),
    view=("Projection",),
    caption=("Report",),
    labels=("Labels",),
    separator="\0",  # the field is a list
)


def padchest_rows(path: Path) -> Iterator[StudyRow]:
    """Yield the rows of the table, packed or not; neither split nor sections are published."""
    for row in rows(published(path, "StudyID", "PatientID"), _PADCHEST):
        named = [name for text in row.problems for name in labels.listed(text, row.where)]
        row.problems = labels.named(named, labels.PADCHEST, labels.PADCHEST_NO_FINDING)
        row.view = "lateral" if row.view.upper() == "L" else row.view  # or PA, AP, AP_horizontal
        yield row


# --- NIH ChestX-ray14 [5]_: labels that a program took from reports which are not public ---

_NIH = replace(_IMAGES, image=("Image Index",), patient=("Patient ID",), labels=("Finding Labels",))


def nih_rows(path: Path) -> Iterator[StudyRow]:
    """Yield the rows of a table of labels, each image a study with its stem as id.

    Where the published ``test_list.txt`` lies beside the table, its images are test; the others
    are train or, a tenth of the patients, val.
    """
    listed = path.with_name("test_list.txt")
    test = set(listed.read_text("utf-8").split()) if listed.is_file() else set()
    for row in rows(published(path, "Finding Labels", "Patient ID"), _NIH):
        row.problems = [label for label in row.problems if label.strip() != NO_FINDING]
        row.view = FRONTAL
        if test:
            [part] = by_hash([row.patient], (0.9, 0.1))
            row.split = "test" if row.images[0] in test else part
        yield row


# --- ROCO [6]_ and ROCOv2 [7]_: images of any modality from papers, with their captions ---

_ROCO = replace(_IMAGES, image=("name", "ID", "id"), caption=("caption",))
# What a part is called, and where its captions lie: as published, at Kaggle, in version 2.
_FOLDERS = {"train": ("train",), "val": ("validation", "valid", "val"), "test": ("test",)}
_FIRST = "radiology/captions.txt"
_KAGGLE = "radiology*data.csv*"
_SECOND = "{}_captions.csv*"


def roco_rows(path: Path) -> Iterator[StudyRow]:
    """Yield the rows of the parts that are there, each image a study; most are of no chest."""
    for part, found in _roco_tables(path):
        bare = found.name == "captions.txt"  # without a line that names the columns
        for row in rows(Table(found, ("id", "caption") if bare else None), _ROCO, part=part):
            row.images = [name if "." in name else f"{name}.jpg" for name in row.images]
            yield row


def _roco_tables(path: Path) -> Iterator[tuple[str, Path]]:
    for part, names in _FOLDERS.items():
        for name in names:
            inner = (f"{name}/{_FIRST}", f"*/{name}/{_FIRST}", f"{name}/{_KAGGLE}")
            second = (_SECOND.format(name), f"{name}/{_SECOND.format(name)}")
            found = [p for pattern in (*inner, *second) for p in sorted(path.glob(pattern))]
            if found:
                yield part, found[0]


# --- VinDr-CXR [4]_: frontal images, each labelled by several radiologists; there is no text ---

# A part has one of these tables, or both; the first says more.
_VINDR = ("image_labels_{}.csv*", "annotations_{}.csv*")


_Votes = dict[str, set[str]]  # the readers who named each label of an image, under "" all of them


def read_vindr(path: Path, finder: ImageFinder) -> list[Study]:
    """Read the labels of images, or their boxes, of the parts train and test.

    A finding is a problem where more than half of the image's readers name it, else uncertain.
    """
    return [
        _voted(image, found, part, finder)
        for part, table in _vindr_tables(path)
        for image, found in _votes(published(table, "image_id")).items()
    ]


def _vindr_tables(path: Path) -> Iterator[tuple[str, Path]]:
    if path.is_file():
        yield ("test" if "test" in path.name else "train"), path
        return
    for part in ("train", "test"):
        names = [name.format(part) for name in _VINDR]
        found = [p for n in names for where in (n, f"*/{n}") for p in sorted(path.glob(where))]
        if found:
            yield part, found[0]


def _votes(table: Table) -> dict[str, _Votes]:
    """Return what is said of each image, in the order of the table."""
    columns = (("image", "image_id"), ("reader", "rad_id"), ("label", "class_name"))
    image, reader, name = (table.column(*names) for names in columns)
    images: dict[str, _Votes] = {}
    for row in table:
        if not row.text(image):
            raise DataError(f"{row.place}: names no image; fill it in or remove the row")
        who, found = row.text(reader), images.setdefault(row.text(image), {"": set()})
        if who in found[""] and not name:
            raise DataError(f"{row.place}: has this image and reader again; keep one of the rows")
        said = [row.text(name)] if name else _said(row, (image, reader))
        for label in ("", *labels.named(said, labels.VINDR, ())):
            found.setdefault(label, set()).add(who)
    return images


def _said(row: Row, others: tuple[str | None, ...]) -> list[str]:
    """Return the labels of a row with a column of 0 and 1 for each."""
    values = {name: row.text(name) for name in row if name and name not in others}
    for name, value in values.items():
        if value not in ("0", "1", "0.0", "1.0"):
            raise DataError(f"{row.place}: {name} is {value[:40]!r}; it must be 0 or 1")
    return [name for name, value in values.items() if float(value)]


def _voted(image: str, found: _Votes, part: str, finder: ImageFinder) -> Study:
    most = len(found.pop("")) / 2
    counts = {label: len(found[label]) for label in sorted(found)}
    return Study(
        study_id=image,
        images=[finder.find(f"{image}.dicom")],
        views=[FRONTAL],
        problems=[label for label, count in counts.items() if count > most],
        uncertain=[label for label, count in counts.items() if count <= most],
        split=part,
    )


_PLUS_TABLE, _CHEXPERT_TABLE = ("df_chexpert_plus_*.csv*",), ("train.csv*",)
_PADCHEST_TABLE = ("PADCHEST_chest_x_ray_images_labels*.csv*",)
_VINDR_TABLES = tuple(where + name.format("*") for where in ("", "*/") for name in _VINDR)
_NIH_TABLES = ("Data_Entry*.csv*", "sample_labels.csv*")
_ROCO_TABLES = ("*/radiology/captions.txt", "*_captions.csv")
SOURCES = (
    Source("chexpert_plus", _PLUS_TABLE, _reader(plus_rows), one_file=True),
    Source("chexpert", _CHEXPERT_TABLE, _reader(chexpert_rows), fits=is_chexpert),
    Source("padchest", _PADCHEST_TABLE, _reader(padchest_rows), one_file=True),
    Source("vindr", _VINDR_TABLES, read_vindr),
    Source("nih14", _NIH_TABLES, _reader(nih_rows), one_file=True),
    Source("roco", _ROCO_TABLES, _reader(roco_rows), fits=lambda path: any(_roco_tables(path))),
)
