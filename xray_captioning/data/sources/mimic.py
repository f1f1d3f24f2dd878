"""MIMIC-CXR and MIMIC-CXR-JPG: a tree of studies beside tables, any of which may be missing. Johnson et al.,
"MIMIC-CXR, a de-identified publicly available database of chest radiographs with free-text reports", Scientific Data
6, 2019; "MIMIC-CXR-JPG", PhysioNet.
"""

import os
import re
from collections.abc import Collection, Iterable, Iterator
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path
from typing import Any

from xray_captioning.data.opening import DICOM_SUFFIXES, is_image, read_text, unpacked
from xray_captioning.data.sources.captions import is_table
from xray_captioning.data.sources.layout import LAYOUTS, NO_TEXTS, StudyRow, make_studies, once, published, rows
from xray_captioning.data.sources.lookup import ImageFinder, walk
from xray_captioning.data.studies import Study
from xray_captioning.errors import DataError
from xray_captioning.files import read_toml

_FILES = read_toml(__file__, "files.toml")["mimic_cxr"]
TABLES = tuple(chain.from_iterable(_FILES.values()))
_DEPTH = 4  # of folders that tables are looked for in, as physionet.org/files/mimic-cxr/2.0.0
_PATIENTS = re.compile(r"p1\d(\d{6})?$")  # a folder of patients, or of one patient's studies
_STUDY = re.compile(r"(?:^|/)p(\d{8})/s(\d{8})$")
_PATIENT = re.compile(r"(?:^|/)p(\d{8})$")
_REPORT = re.compile(r"s(\d{8})\.txt$")
_NUMBER = re.compile(r"[ps]?(\d+)(\.0)?$")


def read(path: Path, finder: ImageFinder) -> list[Study]:
    """Read what is there of MIMIC-CXR, at any depth, in the order of studies' numbers, their ids."""
    # Sections come from their table, or else from reports; where images are named, a report without is left out.
    folder = path if path.is_dir() else path.parent
    images, shown, reports = _lying(*map(unpacked, tables_of(folder, *_FILES["reports"])), folder, finder.image_dir)
    tables = (once(_rows(table, "mimic_images")) for table in tables_of(folder, *_FILES["images"]))
    found = [*chain(*tables), *shown.values()]
    homes, studies = _homes(found), {row.study for row in found}
    sections = list(_sections(folder, studies))
    told = {row.study for row in sections if any(row.texts)}
    found += sections
    for row in reports.values():
        if not studies or row.study in studies:
            row.texts = (*NO_TEXTS[1:], "" if row.study in told else read_text(Path(row.where)))
            found.append(row)
    for table in tables_of(folder, *_FILES["labels"])[:1]:
        found += _one_a_study(_rows(table, "mimic_labels"), studies or {row.study for row in found})
    found.sort(key=lambda row: row.study)
    return make_studies(found, lambda name: images.get(name) or finder.by_key(f"{name}.jpg", homes[name]))


def _rows(path: Path, name: str) -> Iterator[StudyRow]:
    """Yield the rows of a table, ids without their letters; there must be a patient and a part."""
    table, names = published(path, "study_id", "subject_id"), LAYOUTS[name]
    names_part = "split" in names and bool(table.named("split"))
    for row in rows(table, names):
        if names_part and row.split is None:
            raise DataError(f"{row.where}: split is ''; it must be train, validate or test")
        row.study = _number(row, "study_id", row.study)
        row.patient = _number(row, "subject_id", row.patient)
        yield row


def _number(row: StudyRow, column: str, text: str) -> str:
    """Return the digits of a patient's or study's number, such as 's50414267'."""
    if found := _NUMBER.match(text):
        return found[1]
    raise DataError(f"{row.where}: {column} is {text!r}, which is no number; mend it")


def _homes(found: Iterable[StudyRow]) -> dict[str, str]:
    """Return the folder where each image is expected; two are a DataError."""
    homes: dict[str, str] = {}
    for row in found:
        home = f"files/p{row.patient[:2]}/p{row.patient}/s{row.study}"
        for image in row.images:
            if (other := homes.setdefault(image, home)) != home:
                raise DataError(f"{row.where}: has image {image} in {home}, but a table has it in {other}; keep one")
    return homes


def _sections(folder: Path, studies: Collection[str]) -> Iterator[StudyRow]:
    """Yield the rows of a table of sections; a report without headings is its last paragraph."""
    for path in tables_of(folder, *_FILES["sections"]):
        for row in _one_a_study(rows(published(path, "findings", "impression"), LAYOUTS["mimic_sections"]), studies):
            *before, findings, impression, last = row.texts
            row.texts = (*before, findings or ("" if impression else last), impression, "")
            yield row


def _one_a_study(found: Iterable[StudyRow], studies: Collection[str]) -> Iterator[StudyRow]:
    """Yield rows of these studies, of all where there are none; a study's second is a DataError."""
    seen: set[str] = set()
    for row in found:
        row.study = _number(row, "study", row.study)
        if row.study in seen:
            raise DataError(f"{row.where}: has study {row.study} again; keep one of the rows")
        seen.add(row.study)
        if not studies or row.study in studies:
            yield row


def is_mimic(folder: Path) -> bool:
    """Tell by its tables, or by its tree without others, whether a folder is MIMIC-CXR."""
    return bool(tables_of(folder, *TABLES)) or (not any(map(is_table, folder.iterdir())) and has_studies(folder))


# --- the folders: files/p10/p10000032/s50414267 ---


def tables_of(folder: Path, *patterns: str) -> list[Path]:
    """Return the first file that fits each of the patterns, down to a few folders below."""
    files: list[Path] = []
    for at, folders, names in walk(folder):
        depth = len(Path(at).relative_to(folder).parts)
        folders[:] = [n for n in folders if not _PATIENTS.match(n)] if depth < _DEPTH else []
        files += [Path(at, name) for name in names]
    found = [[p for p in files if fnmatch(p.name.lower(), pattern)] for pattern in patterns]
    return [paths[0] for paths in found if paths]


def has_studies(folder: Path) -> bool:
    """Tell whether there are folders of patients that hold studies."""
    for at, folders, names in walk(folder):
        place = Path(at).as_posix()
        if _STUDY.search(place) or (_PATIENT.search(place) and any(map(_REPORT.match, names))):
            return True
        folders[:] = folders[:3] if len(Path(at).relative_to(folder).parts) < _DEPTH + 3 else []
    return False


def _lying(*roots: Path | None) -> tuple[dict[str, str], dict[Any, StudyRow], dict[str, StudyRow]]:
    """Return the images, their rows, and the reports that lie in folders of patients and studies."""
    images: dict[str, str] = {}  # the path by dicom_id; a DICOM file only where there is no converted copy
    shown: dict[Any, StudyRow] = {}  # by patient, study and image
    reports: dict[str, StudyRow] = {}  # by study; the place is the file
    for at, _, names in chain.from_iterable(map(walk, filter(None, roots))):
        place = at.replace(os.sep, "/")
        if found := _STUDY.search(place):
            for name in filter(is_image, names):
                path, stem = os.path.join(at, name), os.path.splitext(name)[0]
                shown[found[1], found[2], stem] = StudyRow(None, path, found[2], (stem,), patient=found[1])
                if not path.lower().endswith(DICOM_SUFFIXES) or stem not in images:
                    images[stem] = path
        elif found := _PATIENT.search(place):
            for report in filter(None, map(_REPORT.match, names)):
                path = os.path.join(at, report[0])
                reports[report[1]] = StudyRow(None, path, report[1], patient=found[1])
    return images, shown, reports
