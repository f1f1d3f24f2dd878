"""Reports as text files beside their images: of one name, or in one folder for each study."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from xray_captioning.data.sources.layout import whole_report
from xray_captioning.data.sources.lookup import ImageFinder, is_image, walk
from xray_captioning.data.sources.source import Source, read_text
from xray_captioning.data.studies import UNKNOWN, Study
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
    reports: list[str]  # names of text files
    images: list[str]  # names of image files


def read(path: Path, finder: ImageFinder) -> list[Study]:
    """Read the text files below a folder, in order; each is the whole report of a study.

    The images of a report are, the first that there is: those of its own name beside it; those in
    the folder of its name; those beside it, where it is the only report there; the image of its
    name in any other folder. Its path without suffix is the study's id, or that of the folder that
    it has to itself. An image without a report is a study without text.
    """
    folders = list(_folders(path, finder))
    reports = [(folder, name) for folder in folders for name in folder.reports]
    if not reports:
        raise DataError(f"{path}: holds no report that ends in .txt; check the folder")
    elsewhere, inside = _by_stem(folders), {f.path: _images(f) for f in folders}
    studies, taken = [], set()
    for folder, name in reports:
        study = _study(path, folder, name, elsewhere, inside)
        taken.update(study.images)
        studies.append(study)
    return studies + _without_report(path, folders, taken)


def is_folder_of_reports(path: Path) -> bool:
    """Tell whether there is a text file, no usual companion, where images are or beside them."""
    folders = list(islice(_folders(path, None), _MOST_FOLDERS))
    stems = {_stem(name) for folder in folders for name in folder.images}
    stems |= {os.path.basename(folder.path) for folder in folders if folder.images}
    return any(
        (folder.images and len(folder.reports) == 1) or _stem(name) in stems
        for folder in folders
        for name in folder.reports
    )


def _study(
    root: Path,
    folder: _Folder,
    name: str,
    elsewhere: dict[str, list[str]],
    inside: dict[str, list[str]],
) -> Study:
    report = os.path.join(folder.path, name)
    images = [p for p in _images(folder) if os.path.splitext(p)[0] == os.path.splitext(report)[0]]
    images = images or inside.get(os.path.splitext(report)[0], [])
    alone = not images and len(folder.reports) == 1 and bool(folder.images)
    if alone:
        images = _images(folder)
    images = images or _only(elsewhere.get(_stem(name), []), report)
    at = folder.path if alone and folder.path != str(root) else os.path.splitext(report)[0]
    return Study(
        study_id=Path(at).relative_to(root).as_posix(),
        images=images,
        views=[UNKNOWN for _ in images],
        **whole_report(read_text(Path(report))),
    )


def _only(images: list[str], report: str) -> list[str]:
    if len(images) > 1:
        raise DataError(
            f"{report}: {images[0]} and {images[1]} have its name; put the report beside its image"
        )
    return images


def _without_report(root: Path, folders: list[_Folder], taken: set[str]) -> list[Study]:
    paths = [path for folder in folders for path in _images(folder)]
    return [
        Study(Path(path).relative_to(root).with_suffix("").as_posix(), [path], [UNKNOWN])
        for path in paths
        if path not in taken
    ]


def _by_stem(folders: list[_Folder]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in (path for folder in folders for path in _images(folder)):
        found.setdefault(_stem(os.path.basename(path)), []).append(path)
    return found


def _images(folder: _Folder) -> list[str]:
    return [os.path.join(folder.path, name) for name in folder.images]


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]


def _folders(path: Path, finder: ImageFinder | None) -> Iterator[_Folder]:
    """Yield the folders below a path in order, and below the image folder where that is another."""
    roots = [path] if finder is None or finder.image_dir is None else [path, finder.image_dir]
    for root in dict.fromkeys(map(str, roots)):
        for folder, _, names in walk(root):
            reports = [n for n in names if n.lower().endswith(".txt") and not _NO_REPORT.match(n)]
            yield _Folder(folder, reports, list(filter(is_image, names)))


SOURCE = Source("texts", ("*.txt",), read, reads_folder=True, fits=is_folder_of_reports)
