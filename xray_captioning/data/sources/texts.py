"""Reports as text files beside their images: of one name, or in one folder for each study."""

import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from xray_captioning.data.opening import is_image, read_text
from xray_captioning.data.sources.layout import whole_report
from xray_captioning.data.sources.lookup import ImageFinder, walk
from xray_captioning.data.studies import Study
from xray_captioning.errors import DataError

# Text files that collections carry and that are no reports.
_NO_REPORT = re.compile(
    r"(read_?me|licen[cs]e|requirements|captions?|sha256sums|changelog|notes?|index|labels?"
    r"|(train|val|valid|validation|test)(_?(list|ids|split|captions?))?).*\.txt$",
    re.IGNORECASE,
)
_MOST_FOLDERS = 200  # looked at to recognise a folder


class _Folder(NamedTuple):
    path: str
    reports: list[str]  # paths of text files
    images: list[str]


def read(path: Path, finder: ImageFinder) -> list[Study]:
    """Read the text files below a folder, each the report of a study. Its images are, the first
    that there is, those of its name beside it; those in the folder of its name; those beside the
    only report; the one of its name elsewhere. An image without a report is a study without text.
    """
    folders = list(_folders(path, finder))
    images = [image for folder in folders for image in folder.images]
    named: dict[str, list[str]] = {}  # images by their stem
    for image in images:
        named.setdefault(_stem(os.path.basename(image)), []).append(image)
    inside = {folder.path: folder.images for folder in folders}
    reports = [(folder, report) for folder in folders for report in folder.reports]
    if not reports:
        raise DataError(f"{path}: holds no report that ends in .txt; check the folder")
    studies = [_study(path, folder, report, named, inside) for folder, report in reports]
    taken = {image for study in studies for image in study.images}
    return studies + [
        Study(Path(image).relative_to(path).with_suffix("").as_posix(), [image])
        for image in images
        if image not in taken
    ]


def is_folder_of_reports(path: Path) -> bool:
    """Tell whether there is a text file, no usual companion, where images are or beside them."""
    folders = list(islice(_folders(path, None), _MOST_FOLDERS))
    stems = {_stem(os.path.basename(image)) for folder in folders for image in folder.images}
    stems |= {os.path.basename(folder.path) for folder in folders if folder.images}
    return any(
        (folder.images and len(folder.reports) == 1) or _stem(os.path.basename(report)) in stems
        for folder in folders
        for report in folder.reports
    )


def _study(
    root: Path, folder: _Folder, report: str, named: dict[str, list[str]], inside: dict[str, list[str]]
) -> Study:
    at = _stem(report)
    images = [image for image in folder.images if _stem(image) == at] or inside.get(at, [])
    if not images and folder.images and len(folder.reports) == 1:
        images = folder.images
        at = at if folder.path == str(root) else folder.path
    if len(alike := [] if images else named.get(os.path.basename(at), [])) > 1:
        raise DataError(f"{report}: {alike[0]} and {alike[1]} have its name; put it beside its image")
    study_id = Path(at).relative_to(root).as_posix()
    return Study(study_id, images or alike, **whole_report(read_text(Path(report))))


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
