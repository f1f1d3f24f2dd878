"""What makes up a source of studies, and what the readers of all sources share.

A reader is a module with a `Source` of a few lines and a function that returns a list of
`xray_captioning.data.studies.Study`; `xray_captioning.data.sources.reading` lists them.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from xray_captioning.data.opening import HEAD_BYTES, read_text
from xray_captioning.data.sources.lookup import ImageFinder
from xray_captioning.data.studies import Study
from xray_captioning.errors import DataError


@dataclass(frozen=True)
class Source:
    """A kind of collection: how it is recognised, and how it is read.

    ``read(path, finder)`` returns studies in the order of the source. The path is the folder, or
    the one file that fits where `one_file` is set; the finder tells where the images are. Where
    names tell too little, `fits` looks at what the folder, or the file, holds.
    """

    name: str
    patterns: tuple[str, ...]  # globs of the files in a folder of this source
    read: Callable[[Path, ImageFinder], list[Study]]
    suffixes: tuple[str, ...] = ()  # endings, in lower case, of a file that is given by itself
    needs_all: bool = False  # a folder must hold a file of every pattern, not of one alone
    one_file: bool = False
    fits: Callable[[Path], bool] | None = None

    def is_folder(self, folder: Path) -> bool:
        """Tell whether a folder holds this source."""
        if self.fits is not None and not self.one_file:
            return self.fits(folder)
        if self.fits is not None:
            return any(map(self.fits, self._files(folder)))
        enough = all if self.needs_all else any
        return enough(any(folder.glob(pattern)) for pattern in self.patterns)

    def to_open(self, path: Path) -> Path:
        """Return what `read` takes: the path itself, or the one table that the folder must hold."""
        if not self.one_file or path.is_file():
            return path
        found = [file for file in self._files(path) if self.fits is None or self.fits(file)]
        if len(found) != 1:
            named = f" ({', '.join(file.name for file in found[:3])})" if found else ""
            raise DataError(
                f"{path}: holds {len(found)} files {self.patterns[0]}{named} where source "
                f"{self.name} needs one; name the file itself"
            )
        return found[0]

    def _files(self, folder: Path) -> list[Path]:
        """Return the files of a folder that fit the first pattern for which there are some."""
        found = [sorted(filter(Path.is_file, folder.glob(name))) for name in self.patterns]
        return next(filter(None, found), [])


def text_head(path: Path) -> str:
    """Return the beginning of a text file, '' where it is none."""
    with suppress(DataError):
        return read_text(path, HEAD_BYTES)
    return ""
