"""Folders of studies that no table lists: reports as text files beside their images, and DICOM files, as a scanner or
an archive exports them, grouped by what their headers say. Of patients only a digest of the id is kept.
"""

import math
import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from xray_captioning.data.dicom.reading import PREAMBLE, is_dicom, read_header
from xray_captioning.data.opening import HEAD_BYTES, is_image, read_text
from xray_captioning.data.sources.layout import USUAL, StudyRow, make_studies, rows, whole_report
from xray_captioning.data.sources.lookup import ImageFinder, walk
from xray_captioning.data.studies import Study
from xray_captioning.data.table import Table
from xray_captioning.errors import DataError
from xray_captioning.files import read_toml

# Text files that collections carry and that are no reports.
_NO_REPORT = re.compile(
    r"(?i)(read_?me|licen[cs]e|requirements|captions?|sha256sums|changelog|notes?|index|labels?"
    r"|(train|val|valid|validation|test)(_?(list|ids|split|captions?))?).*\.txt$"
)
_MOST_FOLDERS = 200  # looked at to recognise a folder
_Images = dict[str, list[str]]  # by a name


class _Folder(NamedTuple):
    path: str
    reports: list[str]  # paths of text files
    images: list[str]


def read_reports(path: Path, finder: ImageFinder) -> list[Study]:
    """Read the text files below a folder, each the report of a study."""
    # Its images are, the first that there is, those of its name beside it; those in the folder of its name; those
    # beside the only report; the one of its name elsewhere. An image without a report is a study without text.
    folders = list(_folders(path, finder))
    images = [image for folder in folders for image in folder.images]
    named: dict[str, list[str]] = {}  # images by their stem
    for image in images:
        named.setdefault(_stem(os.path.basename(image)), []).append(image)
    inside = {folder.path: folder.images for folder in folders}
    if not (reports := [(folder, report) for folder in folders for report in folder.reports]):
        raise DataError(f"{path}: holds no report that ends in .txt; check the folder")
    studies = [_study(path, folder, report, named, inside) for folder, report in reports]
    taken = {image for study in studies for image in study.images}
    alone = (image for image in images if image not in taken)
    return studies + [Study(Path(image).relative_to(path).with_suffix("").as_posix(), [image]) for image in alone]


def is_folder_of_reports(path: Path) -> bool:
    """Tell whether there is a text file, no usual companion, where images are or beside them."""
    folders = list(islice(_folders(path, None), _MOST_FOLDERS))
    stems = {_stem(os.path.basename(image)) for folder in folders for image in folder.images}
    stems |= {os.path.basename(folder.path) for folder in folders if folder.images}
    reports = {_stem(os.path.basename(report)) for folder in folders for report in folder.reports}
    return bool(reports & stems) or any(folder.images and len(folder.reports) == 1 for folder in folders)


def _study(root: Path, folder: _Folder, report: str, named: _Images, inside: _Images) -> Study:
    at = _stem(report)
    images = [image for image in folder.images if _stem(image) == at] or inside.get(at, [])
    if not images and folder.images and len(folder.reports) == 1:
        images = folder.images
        if _lists(report, images):
            raise DataError(f"{report}: is a table of images, not a report; call it captions.tsv, or give the file")
        at = at if folder.path == str(root) else folder.path
    if len(alike := [] if images else named.get(os.path.basename(at), [])) > 1:
        raise DataError(f"{report}: {alike[0]} and {alike[1]} have its name; put it beside its image")
    return Study(Path(at).relative_to(root).as_posix(), images or alike, **whole_report(read_text(Path(report))))


def _lists(report: str, images: list[str]) -> bool:
    """Tell whether a line of a text file begins with the name of an image and a tab or a sign, as a table's does."""
    firsts = re.findall(r'(?m)^\s*"?([^\t,;|"\n]+?)"?\s*[\t,;|]', read_text(Path(report), HEAD_BYTES))
    return not {*map(os.path.basename, firsts)}.isdisjoint(map(os.path.basename, images))


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]


def _folders(path: Path, finder: ImageFinder | None) -> Iterator[_Folder]:
    """Yield the folders below a path in order, and below the image folder where that is another."""
    roots = [path] if finder is None or finder.image_dir is None else [path, finder.image_dir]
    for root in dict.fromkeys(map(str, roots)):
        for folder, _, names in walk(root):
            reports = [n for n in names if n.lower().endswith(".txt") and not _NO_REPORT.match(n)]
            files = (reports, filter(is_image, names))
            yield _Folder(folder, *([os.path.join(folder, n) for n in found] for found in files))


_PROBED = 50  # files without a DICOM suffix that are opened to recognise a folder
_STUDY = "StudyInstanceUID"
_DICOM = read_toml(__file__, "folders.toml")
_TABLES = tuple(_DICOM["tables"])
_OTHERS = (*_TABLES, *_DICOM["others"])


def read_dicom(path: Path, finder: ImageFinder) -> list[Study]:
    """Read the radiographs below a folder, a study for each StudyInstanceUID, in order of files."""
    # An image that lies there twice counts once. Tables beside them, with a column of folders.toml, give reports.
    headers = list(filter(None, map(read_header, _may_be_dicom(path))))
    images = [header for header in headers if header["Rows"] and header["Modality"].upper() in _DICOM["radiographs"]]
    if not images:
        kinds = ", ".join(sorted({header["Modality"].upper() or "none" for header in headers})) or "none"
        raise DataError(f"{path}: holds no radiograph in DICOM (modalities found: {kinds}); give CR or DX")
    place = {h[_STUDY]: number for number, h in reversed([*enumerate(images)])}
    instances = {(h[_STUDY], h["SOPInstanceUID"] or h["path"]): h for h in reversed(images)}.values()
    ordered = sorted(instances, key=lambda h: (place[h[_STUDY]], *_order(h), h["path"]))
    rows_of = ((h["path"], h[_STUDY], (h["path"],), h["ViewPosition"], h["PatientID"]) for h in ordered)
    found = [StudyRow(None, *row) for row in rows_of]
    if path.is_dir():
        found += [row for table in _tables(path) for row in _rows(table, images)]
    return make_studies(found, str)


def _order(header: dict[str, str]) -> list[float]:
    """Return the numbers of series and instance, infinite where there is none."""
    texts = (header[name] for name in ("SeriesNumber", "InstanceNumber"))
    return [float(text) if text.lstrip("+-").isdecimal() else math.inf for text in texts]


def is_dicom_tree(path: Path) -> bool:
    """Tell whether a file is DICOM, or one below a folder whose tables, if any, name studies so."""
    if path.is_dir() and any(not _key(Table(table)) for table in _tables(path)):
        return False
    for file in islice(_may_be_dicom(path), _PROBED):
        with open(file, "rb") as stream:
            if is_dicom(stream.read(PREAMBLE)):
                return True
    return False


def _tables(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_file() and p.name.lower().endswith(_TABLES))


def _key(table: Table) -> tuple[str, str] | None:
    """Return the column by which a table names studies, and the attribute of a header it means."""
    found = ((table.column("study", names), attribute) for names, attribute in _DICOM["keys"].items())
    return next(((column, attribute) for column, attribute in found if column), None)


def _rows(path: Path, headers: list[dict[str, str]]) -> Iterator[StudyRow]:
    table = Table(path)
    column, attribute = _key(table) or ("", _STUDY)
    studies = {header[attribute]: header[_STUDY] for header in headers}
    names, matched = {**USUAL, "image": [], "study": [column], "patient": []}, 0
    for row in rows(table, names):
        matched += row.study in studies
        row.study = studies.get(row.study, row.study)
        yield row
    if not matched:
        raise DataError(f"{path}: no {column} is that of a DICOM file here; check that they fit")


def _may_be_dicom(path: Path) -> Iterator[str]:
    """Yield the files below a folder in order that may be DICOM: its suffixes, none, or numbers."""
    if path.is_file():
        yield str(path)
    for folder, _, names in () if path.is_file() else walk(path):
        for name in names:
            if name.upper() != "DICOMDIR" and not name.lower().endswith(_OTHERS):
                yield os.path.join(folder, name)
