"""Published collections whose studies are tables: CheXpert, PadChest, VinDr-CXR, NIH, ROCO. Each is a `Layout`, the
names of its columns, and what its rows say otherwise than others; ``columns.toml`` has their sources.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from xray_captioning.data.sources.layout import LAYOUTS, StudyRow, make_studies, once, published, rows
from xray_captioning.data.splits import by_hash
from xray_captioning.data.studies import FRONTAL, Studies, Study, named_part
from xray_captioning.data.table import Row, Table
from xray_captioning.errors import DataError
from xray_captioning.files import is_missing, read_toml
from xray_captioning.findings import FINDINGS, NO_FINDING
from xray_captioning.text.sections import literal

_FILES = read_toml(__file__, "files.toml")


def _reader(rows_of: Callable[[Path], Iterable[StudyRow]]) -> Callable[..., list[Study]]:
    """Return what reads a collection whose rows name each image once."""
    return lambda path, finder: make_studies(once(rows_of(path)), finder.find)


def _tables(folder: Path, collection: str) -> Iterator[tuple[str, Path]]:
    """Yield the parts that are there, each with the first table that fits its patterns."""
    for part, names in _FILES[collection].items():
        if found := [table for name in names for table in sorted(folder.glob(name))]:
            yield part, found[0]


# --- CheXpert and CheXpert Plus, the same images with their reports ---

_STUDY = re.compile(r"(patient\d+)/(study\d+)/")
_ROOT = re.compile(r"^.*?CheXpert-v1\.0[^/]*/")


@_reader
def read_chexpert(path: Path) -> Iterator[StudyRow]:
    """Yield the rows of ``train.csv``, ``valid.csv`` and ``test.csv``; there is no text."""
    for _, table in _tables(path, "chexpert") if path.is_dir() else [("", path)]:
        part = named_part(table.name.split(".")[0])
        yield from _by_path(rows(published(table, "Frontal/Lateral"), LAYOUTS["chexpert"], part=part))


@_reader
def read_plus(path: Path) -> Iterator[StudyRow]:
    """Yield the rows of ``df_chexpert_plus_*.csv``; sections come before the whole report."""
    return _by_path(rows(Table(path), LAYOUTS["chexpert_plus"]))


def is_chexpert(path: Path) -> bool:
    """Tell by the columns of the table whether a folder is CheXpert."""
    for _, table in _tables(path, "chexpert"):
        with suppress(DataError):
            if "Frontal/Lateral" in Table(table).columns:
                return True
    return False


def _by_path(found: Iterable[StudyRow]) -> Iterator[StudyRow]:
    """Name the study, a folder as patient00001/study1, and the patient by the image's path."""
    for row in found:
        row.images = [_ROOT.sub("", name.replace("\\", "/")) for name in row.images]
        if not (place := _STUDY.search(row.images[0])):
            raise DataError(f"{row.where}: {row.images[0][:80]!r} names no study, as patient1/study1/a.jpg does")
        row.study, row.patient = f"{place[1]}/{place[2]}", row.patient or place[1]
        yield row


@_reader
def read_padchest(path: Path) -> Iterator[StudyRow]:
    """Yield the rows of PadChest, in Spanish; neither split nor sections are published."""
    for row in rows(published(path, "StudyID", "PatientID"), LAYOUTS["padchest"]):
        row.problems = named((name for text in row.problems for name in listed(text, row.where)), "padchest")
        yield row


@_reader
def read_nih(path: Path) -> Iterator[StudyRow]:
    """Yield the rows of a table of ChestX-ray14, whose labels are a program's: an image each."""
    # Where ``test_list.txt`` lies beside the table, its images are test; of the others' patients a tenth is val.
    listed = path.with_name("test_list.txt")
    test = set(listed.read_text("utf-8").split()) if listed.is_file() else set()
    for row in rows(published(path, "Finding Labels", "Patient ID"), LAYOUTS["nih14"]):
        row.problems = [label for label in row.problems if label.strip() != NO_FINDING]
        row.view = FRONTAL
        if test:
            [part] = by_hash([row.patient], (0.9, 0.1))
            row.split = "test" if row.images[0] in test else part
        yield row


# --- ROCO and ROCOv2: images of any modality from papers, with their captions ---


@_reader
def read_roco(path: Path) -> Iterator[StudyRow]:
    """Yield the rows of the parts that are there, each image a study; most are of no chest."""
    for part, found in _tables(path, "roco"):
        bare = found.name == "captions.txt"  # without a line that names the columns
        for row in rows(Table(found, ("id", "caption") if bare else None), LAYOUTS["roco"], part=part):
            row.images = [name if "." in name else f"{name}.jpg" for name in row.images]
            yield row


def is_roco(folder: Path) -> bool:
    """Tell whether a folder holds captions of ROCO."""
    return any(_tables(folder, "roco"))


# --- VinDr-CXR: frontal images, each labelled by several radiologists; there is no text ---

_Votes = dict[str, set[str]]  # the readers who named each label of an image, under "" all of them


@_reader
def read_vindr(path: Path) -> Iterator[StudyRow]:
    """Read labels of images, or boxes; what more than half of an image's readers name is a problem, else uncertain."""
    alone = [("test" if "test" in path.name else "train", path)]
    for part, table in alone if path.is_file() else _tables(path, "vindr"):
        for image, found in _votes(published(table, "image_id")).items():
            most, named = len(found.pop("")) / 2, sorted(found)
            row = StudyRow(None, str(table), image, (f"{image}.dicom",), FRONTAL, split=part)
            row.problems = [label for label in named if len(found[label]) > most]
            row.uncertain = [label for label in named if len(found[label]) <= most]
            yield row


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
        for label in ("", *named([row.text(name)] if name else _said(row, (image, reader)), "vindr")):
            found.setdefault(label, set()).add(who)
    return images


def _said(row: Row, others: tuple[str | None, ...]) -> list[str]:
    """Return the labels of a row with a column of 0 and 1 for each."""
    values = {name: row.text(name) for name in row if name and name not in others}
    for name, value in values.items():
        if value not in ("0", "1", "0.0", "1.0"):
            raise DataError(f"{row.place}: {name} is {value[:40]!r}; it must be 0 or 1")
    return [name for name, value in values.items() if float(value)]


# --- labels under the names that are used here, or their own where there is none, and texts made of labels ---

_LABELS = read_toml(__file__, "labels.toml")


@cache
def _names(collection: str) -> dict[str, str]:
    """Return the name here of each label of a collection, which is in lower case; '' if it names no finding."""
    same = {name.lower(): name for name in (*FINDINGS, *_LABELS[collection])} | {NO_FINDING.lower(): ""}
    return same | {label: name for name, of in _LABELS[collection].items() for label in of}


def named(labels: Iterable[str], collection: str) -> list[str]:
    """Return labels under the names used here, each once, without those that name no finding."""
    found = (_names(collection).get(label.lower(), label) for label in map(str.strip, labels))
    return list(filter(None, dict.fromkeys(found)))


def listed(text: str, where: str) -> list[str]:
    """Return the labels of a field that holds a Python list of them; empty where it is empty."""
    labels = [] if is_missing(text) else literal(text)
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise DataError(f"{where}: the labels are {text[:60]!r}, not a list such as ['nodule']; mend them")
    return labels


def render_captions(studies: Studies) -> Studies:
    """Return studies with texts written from labels where they have none, and marked so: to try a captioner out."""
    # An absent label counts as denied, an uncertain one is left out.
    bare = studies["findings"].isna() & studies["impression"].isna()
    filled, uncertain = studies.copy(), studies.get("uncertain", [()] * len(studies))
    same = _LABELS["same"]
    labels = [[[same.get(label, label) for label in of] for of in row] for row in zip(studies["problems"], uncertain)]
    for name, render in (("findings", _findings), ("impression", _impression)):
        filled[name] = [render(*of) if fill else text for of, fill, text in zip(labels, bare, studies[name])]
        filled[name] = filled[name].astype(object)
    filled["rendered"] = studies["rendered"] | bare
    return filled


def _findings(labels: list[str], unsure: list[str]) -> str:
    stated = [_LABELS["statements"].get(label, f"There is {_spoken(label)}.") for label in labels]
    denied = [text for label, text in _LABELS["denials"].items() if label not in labels + unsure]
    return " ".join(stated + ([] if labels + unsure else ["The lungs are clear."]) + denied)


def _impression(labels: list[str], unsure: list[str]) -> str:
    if not labels:
        return f"No {'definite' if unsure else 'acute cardiopulmonary'} abnormality."
    *first, last = map(_spoken, labels)
    text = f"{', '.join(first)} and {last}" if first else last
    return f"{text[0].upper()}{text[1:]}."


def _spoken(label: str) -> str:
    return str(_LABELS["names"].get(label, label.replace("_", " ").lower()))
