"""The folders of MIMIC-CXR, ``files/p10/p10000032/s50414267``, and the tables and reports above."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import NamedTuple

from xray_captioning.data.opening import whole_archive
from xray_captioning.data.sources.layout import NO_TEXTS, StudyRow
from xray_captioning.data.sources.lookup import DICOM_SUFFIXES, is_image, walk
from xray_captioning.data.sources.source import read_text
from xray_captioning.errors import DataError

_DEPTH = 4  # of folders that tables are looked for in, as physionet.org/files/mimic-cxr/2.0.0
_PATIENTS = re.compile(r"p1\d(\d{6})?$")  # a folder of patients, or of one patient's studies
_STUDY = re.compile(r"(?:^|/)p(\d{8})/s(\d{8})$")
_PATIENT = re.compile(r"(?:^|/)p(\d{8})$")
_REPORT = re.compile(r"s(\d{8})\.txt$")
_MEMBER = re.compile(r"(?:^|/)p(\d{8})/s(\d{8})\.txt$")
_LARGEST = 1_000_000  # bytes; a real report has about 1 kB


def tables_of(folder: Path, *patterns: str) -> list[Path]:
    """Return the files that fit the patterns, in the order of these, down to a few folders below.

    The first of each pattern counts, so that a table and its packed copy are read once.
    """
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
        depth = len(Path(at).relative_to(folder).parts)
        place = Path(at).as_posix()
        if _STUDY.search(place) or (_PATIENT.search(place) and any(map(_REPORT.match, names))):
            return True
        folders[:] = folders[:3] if depth < _DEPTH + 3 else []
    return False


class Tree:
    """The images and reports that lie in folders of patients and studies.

    Attributes
    ----------
    images : dict
        The path by dicom_id; a DICOM file only where there is no converted copy.
    """

    def __init__(self, *roots: Path | None) -> None:
        self.images: dict[str, str] = {}
        self._studies: dict[tuple[str, str, str], str] = {}  # patient, study and image: a path
        self._reports: dict[str, tuple[str, str]] = {}  # of each study: the patient and a path
        for root in filter(None, roots):
            for at, _, names in walk(root):
                self._add(at, names)

    def rows(self) -> Iterator[StudyRow]:
        """Yield a row for each image."""
        for (patient, study, image), path in self._studies.items():
            yield StudyRow(None, path, study, (image,), patient=patient)

    def reports(self) -> Iterator[_Report]:
        """Yield the reports that are files."""
        for study, (patient, path) in self._reports.items():
            yield _Report(study, patient, path, partial(read_text, Path(path)))

    def _add(self, at: str, names: list[str]) -> None:
        place = at.replace(os.sep, "/")
        if found := _STUDY.search(place):
            for name in filter(is_image, names):
                self._add_image(found[1], found[2], os.path.join(at, name))
        elif found := _PATIENT.search(place):
            for report in filter(None, map(_REPORT.match, names)):
                self._reports[report[1]] = found[1], os.path.join(at, report[0])

    def _add_image(self, patient: str, study: str, path: str) -> None:
        name = os.path.splitext(os.path.basename(path))[0]
        self._studies[patient, study, name] = path
        if not path.lower().endswith(DICOM_SUFFIXES) or name not in self.images:
            self.images[name] = path


class _Report(NamedTuple):
    study: str
    patient: str
    where: str
    read: Callable[[], str]


def report_rows(
    tree: Tree, archives: Iterable[Path], studies: Collection[str], told: Collection[str]
) -> Iterator[StudyRow]:
    """Yield a row for the report of each of these studies, of all where there are none.

    It comes from a file or else from an archive, and is not read where its text is `told` already.
    """
    with ExitStack() as opened:
        packed = (report for path in archives for report in _packed(path, opened))
        for report in {r.study: r for r in (*packed, *tree.reports())}.values():
            if not studies or report.study in studies:
                text = "" if report.study in told else report.read()
                texts = (*NO_TEXTS[1:], text)
                yield StudyRow(
                    None, report.where, report.study, (), "", report.patient, texts=texts
                )


def _packed(path: Path, opened: ExitStack) -> Iterator[_Report]:
    with whole_archive(path):
        archive = opened.enter_context(zipfile.ZipFile(path))
    for found in filter(None, map(_MEMBER.search, archive.namelist())):
        where = f"{path}, {found.string}"
        yield _Report(found[2], found[1], where, partial(_unpacked, archive, found.string, where))


def _unpacked(archive: zipfile.ZipFile, name: str, where: str) -> str:
    if archive.getinfo(name).file_size > _LARGEST:
        raise DataError(f"{where}: is too large for a report; take it out")
    try:
        with whole_archive(Path(where)):
            return archive.read(name).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: is not UTF-8 text ({error.reason}); mend it") from error
