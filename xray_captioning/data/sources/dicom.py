"""A tree of DICOM files, as a scanner or an archive exports it: any depth, often without suffix.

Files are grouped by what their headers say, not by folders. No patient field is read, apart from
the patient's id, of which only a digest is kept, so that studies of one patient stay together.
"""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from xray_captioning.data.dicom.reading import PREAMBLE, is_dicom, read_header
from xray_captioning.data.sources.layout import USUAL, StudyRow, make_studies, rows
from xray_captioning.data.sources.lookup import ImageFinder, walk
from xray_captioning.data.studies import Study
from xray_captioning.data.table import Table
from xray_captioning.errors import DataError

# Other modalities are no radiographs. OT and SC (secondary capture) may hold scanned films.
RADIOGRAPHS = ("CR", "DX", "DR", "RG", "OT", "SC", "")
_PROBED = 50  # files without a DICOM suffix that are opened to recognise a folder
_TABLES = (".csv", ".tsv", ".jsonl", ".parquet", ".xlsx", ".csv.gz")
_KEYS = {  # of a table: the attribute of a header that a column means
    "study_instance_uid|study_uid": "StudyInstanceUID",
    "accession_number|accession": "AccessionNumber",
    "sop_instance_uid|sop_uid|instance_uid": "SOPInstanceUID",
}
_STUDY = "StudyInstanceUID"
_OTHERS = (*_TABLES, ".txt", ".json", ".xml", ".png", ".jpg", ".jpeg", ".md", ".npy")


def read(path: Path, finder: ImageFinder) -> list[Study]:
    """Read the radiographs below a folder, a study for each StudyInstanceUID, in order of files; an image that lies
    there twice counts once. Tables beside them, with a column of `_KEYS`, give reports.
    """
    headers = list(filter(None, map(read_header, _files(path))))
    images = [header for header in headers if header["Rows"] and header["Modality"].upper() in RADIOGRAPHS]
    if not images:
        kinds = ", ".join(sorted({header["Modality"].upper() or "none" for header in headers})) or "none"
        raise DataError(f"{path}: holds no radiograph in DICOM (modalities found: {kinds}); give CR or DX")
    place = {h[_STUDY]: number for number, h in reversed([*enumerate(images)])}
    instances = {(h[_STUDY], h["SOPInstanceUID"] or h["path"]): h for h in reversed(images)}.values()
    found = [
        StudyRow(None, h["path"], h[_STUDY], (h["path"],), h["ViewPosition"], h["PatientID"])
        for h in sorted(instances, key=lambda h: (place[h[_STUDY]], *_order(h), h["path"]))
    ]
    if path.is_dir():
        found += [row for table in _tables(path) for row in _rows(table, images)]
    return make_studies(found, str)


def _order(header: dict[str, str]) -> list[float]:
    """Return the numbers of series and instance, infinite where there is none."""
    numbers = [math.inf, math.inf]
    for place, name in enumerate(("SeriesNumber", "InstanceNumber")):
        with suppress(ValueError):
            numbers[place] = float(header[name])
    return numbers


def is_tree(path: Path) -> bool:
    """Tell whether a file is DICOM, or one below a folder whose tables, if any, name studies so."""
    if path.is_dir() and any(not _key(Table(table)) for table in _tables(path)):
        return False
    for file in islice(_files(path), _PROBED):
        with open(file, "rb") as stream:
            if is_dicom(stream.read(PREAMBLE)):
                return True
    return False


def _tables(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_file() and p.name.lower().endswith(_TABLES))


def _key(table: Table) -> tuple[str, str] | None:
    """Return the column by which a table names studies, and the attribute of a header it means."""
    for names, attribute in _KEYS.items():
        if column := table.column("study", names):
            return column, attribute
    return None


def _rows(path: Path, headers: list[dict[str, str]]) -> Iterator[StudyRow]:
    table = Table(path)
    column, attribute = _key(table) or ("", _STUDY)
    studies = {header[attribute]: header[_STUDY] for header in headers}
    layout = {**USUAL, "image": [], "study": [column], "patient": []}
    matched = 0
    for row in rows(table, layout):
        matched += row.study in studies
        row.study = studies.get(row.study, row.study)
        yield row
    if not matched:
        raise DataError(f"{path}: no {column} is that of a DICOM file here; check that they fit")


def _files(path: Path) -> Iterator[str]:
    """Yield the files below a folder in order that may be DICOM: its suffixes, none, or numbers."""
    if path.is_file():
        yield str(path)
        return
    for folder, _, names in walk(path):
        for name in names:
            if name.upper() != "DICOMDIR" and not name.lower().endswith(_OTHERS):
                yield os.path.join(folder, name)
