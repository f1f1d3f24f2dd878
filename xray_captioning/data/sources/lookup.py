"""Finds the image files of a source, also under the names that other editions give them."""

import os
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from xray_captioning.data import opening, stores
from xray_captioning.data.studies import named_part
from xray_captioning.errors import DataError

_START = re.compile(r"(?:CXR(?=\d))?(?:(\d+)_(?=\1_IM))?")  # of Open-i, and a number said twice
_NUMBERED = re.compile(r"([a-z_ -]*)(\d+)")
_MANY = 16  # files of one name, such as CheXpert's view1_frontal.jpg
Folders = list[str]  # the names of the folders on a path, without the file's own


def image_key(name: str) -> str:
    """Return what all names of one image have in common: the stem, of Indiana names the shortest."""
    # 1000_IM-0003-2001.dcm.png at Kaggle is CXR1000_IM-0003-2001.png at Open-i; in the XML numbers may be doubled.
    stem = os.path.basename(name)
    for suffixes in (opening.PICTURE_SUFFIXES, opening.DICOM_SUFFIXES):
        if stem.lower().endswith(suffixes):
            stem = stem[: stem.rindex(".")]
    start = _START.match(stem)
    return stem[start.end() :] if start else stem


class ImageFinder:
    """Finds images that a source names: in `image_dir` first, then in the source's own folder."""

    def __init__(self, folder: Path, image_dir: Path | None = None) -> None:
        self.folder, self.image_dir = folder, image_dir
        roots = [image_dir] if image_dir else [folder / "images", folder]
        # Relative image paths start from these folders; the first is where they are expected.
        self._roots = [os.path.join(root, "") for root in roots]
        self._places: dict[str, list[str]] = {}  # the folders of names: where these may lie
        self._given: dict[int, str | int] = {}  # by a file's hash the path it was found for, or its length, at the end

    def by_key(self, name: str, home: str) -> str:
        """Find an image under any of its unique names, at best this or a converted one; else its path in `home`."""
        name = _with_slashes(name)
        key = image_key(name).casefold()
        for index in self._indexes:
            if found := index.paths.get(key):
                exact = [path for path in found if os.path.basename(path) == os.path.basename(name)]
                pictures = [path for path in found if not path.lower().endswith(opening.DICOM_SUFFIXES)]
                return os.path.join(index.root, (exact or pictures or found)[0])
        return os.path.join(self.image_dir or self.folder, "" if self.image_dir else home, name)

    def find(self, name: str) -> str:
        """Find an image as `by_path`; an absent one gets the path where it belongs."""
        return self.by_path(name) or os.path.join(self._roots[0], _with_slashes(name))

    def by_path(self, name: str) -> str | None:
        """Find an image by the path that a table names, or return None."""
        # The path may be a Windows one, of another machine, or less than the whole, with another suffix or case.
        # The file is taken whose folders agree with the named ones from the end for the longest, never one of
        # another folder; several that fit alike, or one for two paths, are a DataError.
        if stores.is_address(name):
            return name
        spelled = _with_slashes(name)
        found = self._there(name) or (self._there(spelled) if spelled != name else None)
        if found is None:
            found = next(filter(None, (index.best(spelled) for index in self._indexes)), None)
        before = spelled
        if found and "/" in spelled:
            given = self._given.setdefault(hash(found), len(spelled) if found.endswith(spelled) else spelled)
            before = found[-given:] if isinstance(given, int) else given
        if before != spelled and _agreeing(_folders(before), _folders(spelled)) is None:
            raise DataError(f"{found}: is the only image for both {before!r} and {spelled!r}; put both there")
        return found

    def _there(self, name: str) -> str | None:
        folder = name[: max(name.rfind("/"), name.rfind(os.sep)) + 1]
        if (places := self._places.get(folder)) is None:
            roots = [""] if os.path.isabs(name) else self._roots
            places = self._places[folder] = [root for root in roots if os.path.isdir(root + folder)]
        # os.path.join takes longer than to look for the file, and there may be very many.
        return next(filter(os.path.isfile, [place + name for place in places]), None)

    @cached_property
    def _indexes(self) -> "list[_Index]":
        """What lies in the image folder, and what else in the source's folder."""
        seen: set[tuple[int, int]] = set()
        indexes = [_Index(root, seen) for root in (self.image_dir, self.folder) if root]
        return [index for index in indexes if index.paths]


class _Index:
    """The image files below a folder, by key."""

    def __init__(self, root: Path, seen: set[tuple[int, int]]) -> None:
        self.root = root
        self.paths: dict[str, list[str]] = {}  # relative
        # Of keys of very many files, by their last two folders.
        self._by_folders: dict[str, dict[tuple[str, ...], list[str]]] = defaultdict(dict)
        for folder, _, names in walk(root, seen):
            below = os.path.relpath(folder, root)
            for name in filter(opening.is_image, names):
                path = name if below == os.curdir else os.path.join(below, name)
                self.paths.setdefault(image_key(path).casefold(), []).append(path)
        homes = {os.path.dirname(path) for found in self.paths.values() for path in found}
        trunk = _folders(os.path.join(os.path.commonpath(homes or [""]), ""))
        # Folders that lead to every image, or that images are known to lie in, are not looked at.
        self._starts = sorted([trunk, ["images"], []], key=len, reverse=True)

    def _near(self, key: str, folders: Folders) -> list[str]:
        """Return the files of this key, of very many only those whose last two folders may fit."""
        found = self.paths.get(key, [])
        if len(found) <= _MANY or len(folders) < 2:
            return found
        by_folders = self._by_folders[key]
        for path in () if by_folders else found:
            by_folders.setdefault(_last_two(self._folders(path)), []).append(path)
        return by_folders.get(_last_two(folders), []) + by_folders.get((), [])

    def best(self, name: str) -> str | None:
        """Return the one file that fits a path best, None where none does."""
        folders = _folders(name)
        near = self._near(image_key(name).casefold(), folders)
        agreeing = {path: _agreeing(self._folders(path), folders) for path in near}
        fitting = [p for p, n in agreeing.items() if n is not None and not any(map(_apart, _ends(p), _ends(name)))]
        if len(fitting) > 1:
            ranks = {path: (agreeing[path], *_likeness(path, name)) for path in fitting}
            fitting = [path for path in fitting if ranks[path] == max(ranks.values())]
        if len(fitting) > 1:
            first, second = (os.path.join(self.root, path) for path in fitting[:2])
            raise DataError(f"image {name!r}: {first} and {second} both fit; name its folder, too")
        return os.path.join(self.root, fitting[0]) if fitting else None

    def _folders(self, path: str) -> Folders:
        """Return the folders of a file below the deepest of the starts that it lies in."""
        folders = _folders(path)
        start = next(start for start in self._starts if folders[: len(start)] == start)
        return folders[len(start) :]


def _with_slashes(name: str) -> str:
    """Return a path as POSIX writes it, as short as it goes."""
    slashes = name.replace("\\", "/")
    return posixpath.normpath(slashes[2:] if slashes[1:3] == ":/" else slashes)


def _folders(path: str) -> Folders:
    return [part for part in path.replace(os.sep, "/").split("/")[:-1] if part not in ("", "..")]


def _ends(path: str) -> Folders:
    return [name.casefold() for name in reversed(_folders(path))]


def _likeness(path: str, name: str) -> tuple[bool, bool, bool]:
    """Rank a file by its name, then what was converted before the DICOM file of it."""
    other, base = os.path.basename(path), os.path.basename(name)
    return other == base, other.casefold() == base.casefold(), not path.lower().endswith(opening.DICOM_SUFFIXES)


def _agreeing(one: Folders, other: Folders) -> int | None:
    """Count the folders that agree from the end; None where they differ before one is spent."""
    pairs = zip(reversed(one), reversed(other))
    return min(len(one), len(other)) if all(first.casefold() == second.casefold() for first, second in pairs) else None


def _apart(one: str, other: str) -> bool:
    """Tell whether none stands for the other of two folders: patient1 and patient2, train and test."""
    if (part := named_part(one)) and (second := named_part(other)):
        return part != second
    first, last = _NUMBERED.fullmatch(one), _NUMBERED.fullmatch(other)
    return bool(first and last and first[1] == last[1] and int(first[2]) != int(last[2]))


def _last_two(folders: Folders) -> tuple[str, ...]:
    return tuple(name.casefold() for name in folders[-2:]) if len(folders) > 1 else ()


def walk(root: str | Path, seen: set[tuple[int, int]] | None = None) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield folders as `os.walk` does, sorted, nothing hidden, links followed, each one once."""
    seen = set() if seen is None else seen
    for folder, folders, files in os.walk(root, followlinks=True):
        about = os.stat(folder)
        if (about.st_dev, about.st_ino) in seen:
            folders.clear()
            continue
        seen.add((about.st_dev, about.st_ino))
        folders[:], shown = (sorted(name for name in names if name[0] != ".") for names in (folders, files))
        yield folder, folders, shown
