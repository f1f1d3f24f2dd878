"""The folders of MIMIC-CXR: ``files/p10/p10000032/s50414267``, and the tables above them."""

from __future__ import annotations

import os
import re
from fnmatch import fnmatch
from pathlib import Path

from xray_captioning.data.sources.lookup import DICOM_SUFFIXES, IMAGE_SUFFIXES
from xray_captioning.data.table import Row
from xray_captioning.errors import DataError

_DEPTH = 4  # of folders that tables are looked for in, as physionet.org/files/mimic-cxr/2.0.0
_PATIENTS = re.compile(r"p1\d(\d{6})?$")  # a folder of patients, or of one patient's studies
_STUDY = re.compile(r"(?:^|/)p(\d{8})/s(\d{8})$")
_PATIENT = re.compile(r"(?:^|/)p(\d{8})$")
_REPORT = re.compile(r"s(\d{8})\.txt$")
_NUMBER = re.compile(r"[ps]?(\d+)(\.0)?$")


def number(row: Row, column: str) -> str:
    """Return the digits of a patient's or study's number, such as 's50414267'."""
    found = _NUMBER.match(row.text(column))
    if not found:
        raise DataError(f"{row.place}: {column} is {row[column]!r}, which is no number; mend it")
    return found[1]


def tables_of(folder: Path, *patterns: str) -> list[Path]:
    """Return the files that fit the patterns, in the order of these, down to a few folders below.

    The first of each pattern counts, so that a table and its packed copy are read once.
    """
    names = list(_above_patients(folder))
    found = [[p for p in names if fnmatch(p.name.lower(), pattern)] for pattern in patterns]
    return [paths[0] for paths in found if paths]


def _above_patients(folder: Path) -> list[Path]:
    files: list[Path] = []
    for at, folders, names in os.walk(folder, followlinks=True):
        depth = len(Path(at).relative_to(folder).parts)
        inner = sorted(n for n in folders if not _PATIENTS.match(n) and not n.startswith("."))
        folders[:] = inner if depth < _DEPTH else []
        files += [Path(at, name) for name in sorted(names)]
    return files


def has_studies(folder: Path) -> bool:
    """Tell whether there are folders of patients that hold studies."""
    for at, folders, names in os.walk(folder, followlinks=True):
        depth = len(Path(at).relative_to(folder).parts)
        place = Path(at).as_posix()
        if _STUDY.search(place) or (_PATIENT.search(place) and any(map(_REPORT.match, names))):
            return True
        folders[:] = sorted(folders)[:3] if depth < _DEPTH + 3 else []
    return False


class Tree:
    """The images and reports that lie in folders of patients and studies.

    Attributes
    ----------
    images : dict
        Of each study, the path by dicom_id; a DICOM file only where there is no converted copy.
    reports : dict
        Of each study, the path of the text file.
    patients : dict
        The patient of each study.
    """

    def __init__(self, *roots: Path | None) -> None:
        self.images: dict[str, dict[str, str]] = {}
        self.reports: dict[str, str] = {}
        self.patients: dict[str, str] = {}
        for root in filter(None, roots):
            for at, _, names in os.walk(root, followlinks=True):
                self._add(at, names)

    def _add(self, at: str, names: list[str]) -> None:
        place = at.replace(os.sep, "/")
        if found := _STUDY.search(place):
            for name in sorted(names):
                if name.lower().endswith(IMAGE_SUFFIXES):
                    self._add_image(found[2], os.path.join(at, name))
                    self.patients[found[2]] = found[1]
        elif found := _PATIENT.search(place):
            for report in filter(None, map(_REPORT.match, names)):
                self.reports[report[1]] = os.path.join(at, report[0])
                self.patients[report[1]] = found[1]

    def _add_image(self, study: str, path: str) -> None:
        images = self.images.setdefault(study, {})
        name = os.path.splitext(os.path.basename(path))[0]
        if not path.lower().endswith(DICOM_SUFFIXES) or name not in images:
            images[name] = path
