"""Which source a path is: by the names of its files, by what they hold, and where it lies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from xray_captioning.data.sources import captions
from xray_captioning.data.sources.source import Source
from xray_captioning.errors import DataError

_DEPTH = 3  # of folders below the one given, in which an unpacked archive may have put its own
_MOST_FOLDERS = 30  # of one level; more are patients or studies


class Found(NamedTuple):
    """A source, where it lies, and the names of further sources that fit it."""

    source: Source
    path: Path
    others: tuple[str, ...] = ()


def detect(path: Path, sources: Sequence[Source]) -> Found:
    """Return the first source that a folder holds or a file belongs to.

    Any other table is one of captions. A folder that holds none of all that may lie above the one
    that does, as a downloaded archive has it.

    Raises
    ------
    DataError
        If none fits, or several folders below fit equally.
    """
    if path.is_file():
        fitting = _of_file(path, sources)
        if not fitting and captions.is_table(path):
            fitting = [captions.SOURCE]
    else:
        fitting = [source for source in sources if source.is_folder(path)]
        if not fitting and captions.tables_of(path):
            fitting = [captions.SOURCE]
        elif not fitting and (found := below(path, sources) or below(path, [captions.SOURCE])):
            return found
    if not fitting:
        raise _unknown(path, sources)
    return Found(fitting[0], path, tuple(source.name for source in fitting[1:]))


def _of_file(path: Path, sources: Iterable[Source]) -> list[Source]:
    """Return the sources of a file; its content and its usual name tell more than its ending."""
    name = path.name.lower()
    content = [
        s for s in sources if s.fits and name.endswith(s.suffixes or ("\0",)) and s.fits(path)
    ]
    named = [s for s in sources if s.fits is None and s.has_name(name)]
    ending = [s for s in sources if s.fits is None and name.endswith(s.suffixes or ("\0",))]
    return list(dict.fromkeys(content + named + ending))


def below(path: Path, sources: Sequence[Source]) -> Found | None:
    """Return the first source of the one folder below that holds any, None where none does."""
    is_here = holds if len(sources) == 1 else Source.is_folder
    level = [path]
    for _ in range(_DEPTH):
        level = [folder for above in level for folder in _folders(above)]
        found = [Found(s, f) for f in level for s in sources if is_here(s, f)]
        places = list(dict.fromkeys(at.path for at in found))
        if len(places) > 1:
            raise DataError(
                f"{path}: holds {found[0].source.name} in {places[0].name} and more in "
                f"{places[1].name}; name one of the folders"
            )
        if found:
            return found[0]._replace(others=tuple(other.source.name for other in found[1:]))
    return None


def holds(source: Source, folder: Path) -> bool:
    """Tell whether a folder holds a source; of captions, whether it holds any table."""
    return source.is_folder(folder) or (source is captions.SOURCE and _holds_tables(folder))


def _holds_tables(folder: Path) -> bool:
    return any(captions.is_table(path) and path.suffix != ".txt" for path in folder.iterdir())


def _folders(path: Path) -> Iterator[Path]:
    folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    yield from folders if len(folders) <= _MOST_FOLDERS else ()


def _unknown(path: Path, sources: Sequence[Source]) -> DataError:
    patterns = [" with ".join(s.patterns) if s.needs_all else s.patterns[0] for s in sources]
    looked = f"looked for {', '.join(dict.fromkeys(patterns))} or another table"
    if path.is_file():
        endings = ", ".join(dict.fromkeys(suffix for s in sources for suffix in s.suffixes))
        return DataError(
            f"{path}: no known source there; {looked}; a single file must end in {endings}"
        )
    return DataError(f"{path}: no known source there; it holds {_content(path)}; {looked}")


def _content(path: Path) -> str:
    """Say in a few words what a folder holds: its folders, and how many files of each kind."""
    names = sorted(path.iterdir())
    folders = [f"{p.name}/" for p in names if p.is_dir()][:5]
    kinds = Counter(p.suffix.lower() or "no suffix" for p in names if p.is_file())
    files = [f"{count} {kind}" for kind, count in kinds.most_common(5)]
    return ", ".join(folders + files) or "nothing"
