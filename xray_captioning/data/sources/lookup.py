"""Finds the image files of a source, also under the names that other editions give them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

DICOM_SUFFIXES = (".dcm", ".dicom")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", *DICOM_SUFFIXES)
_SUFFIXES = re.compile(r"(\.dcm|\.dicom)?(\.png|\.jpe?g)?$", re.IGNORECASE)
_OPEN_I = re.compile(r"^CXR(?=\d)")
_DOUBLED_NUMBER = re.compile(r"^(\d+)_(?=\1_IM)")


def image_key(name: str) -> str:
    """Return what all names of one image have in common: the stem, of Indiana names the shortest.

    >>> image_key("1000_IM-0003-2001.dcm.png")  # Kaggle
    '1000_IM-0003-2001'
    >>> image_key("CXR1000_IM-0003-2001.png")  # Open-i
    '1000_IM-0003-2001'
    >>> image_key("CXR1_1_IM-0001-3001")  # an id in the XML, its number doubled
    '1_IM-0001-3001'
    """
    stem = _SUFFIXES.sub("", os.path.basename(name))
    return _DOUBLED_NUMBER.sub("", _OPEN_I.sub("", stem))


class ImageFinder:
    """Finds images that a source names: in `image_dir` first, then in the source's own folder."""

    def __init__(self, folder: Path, image_dir: Path | None = None) -> None:
        self.folder, self.image_dir = folder, image_dir

    def by_key(self, name: str, home: str, unique: bool = False) -> str:
        """Find an image anywhere below the folders under any of its names, preferably this one.

        Where there is none, or where several have that key and it must be `unique` (they may be
        different images), return the path below `home`, a folder of the source's, where it is
        expected.
        """
        for index in self._indexes:
            found = index.get(image_key(name), [])
            exact = [path for path in found if os.path.basename(path) == os.path.basename(name)]
            if found and not (unique and len(found) > 1):
                return (exact or found)[0]
        return os.path.join(self.image_dir or self.folder / home, name)

    def by_path(self, name: str) -> str | None:
        """Find an image by its path relative to the image folder, or return None.

        Looked for in `image_dir`, or else in ``images`` and in the source's own folder.
        """
        paths = [os.path.join(root, name) for root in self.roots]
        return next((path for path in paths if os.path.isfile(path)), None)

    @property
    def roots(self) -> Sequence[Path]:
        """Folders that relative image paths start from; the first is where they are expected."""
        return [self.image_dir] if self.image_dir else [self.folder / "images", self.folder]

    @cached_property
    def _indexes(self) -> list[dict[str, list[str]]]:
        """Paths by key, of the image folder and of what else lies in the source's folder."""
        seen: set[str] = set()
        return [_index(root, seen) for root in (self.image_dir, self.folder) if root]


def _index(root: Path, seen: set[str]) -> dict[str, list[str]]:
    index: dict[str, list[str]] = {}
    for path in _image_files(root, seen):
        index.setdefault(image_key(path), []).append(path)
    return {key: _converted(paths) for key, paths in index.items()}


def _converted(paths: list[str]) -> list[str]:
    """Leave out the DICOM files of which there is a converted copy."""
    return [path for path in paths if not path.lower().endswith(DICOM_SUFFIXES)] or paths


def _image_files(root: Path, seen: set[str]) -> Iterator[str]:
    """Yield the image files below a folder in order, each real folder once, links followed."""
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        for name in sorted(files):
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith("."):
                yield os.path.join(folder, name)
