"""Tables of images and captions under any usual names, as most captioning projects keep them."""

import re
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from xray_captioning.data.opening import TABLE_SUFFIXES
from xray_captioning.data.sources.layout import USUAL, Columns, make_studies, rows, used_columns
from xray_captioning.data.sources.lookup import ImageFinder
from xray_captioning.data.studies import PART_NAMES, PARTS, Study, named_part
from xray_captioning.data.table import Table, is_image_name
from xray_captioning.errors import DataError

_ENDINGS = TABLE_SUFFIXES + tuple(suffix + ".gz" for suffix in (".csv", ".tsv", ".jsonl"))
USUAL_NAMES = tuple("captions" + ending for ending in _ENDINGS)
_OWN_FORMAT = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".xlsx", ".gz")  # hold tables only
_PART_WORD = re.compile(rf"(?<![a-z])({'|'.join(sorted(PART_NAMES, key=len)[::-1])})(?![a-z])")


class CaptionsTable(NamedTuple):
    """A table of a folder, the part of a split that it is, and where its paths start."""

    path: Path
    part: str | None = None
    folder: str = ""


def read(path: Path, finder: ImageFinder, columns: Columns | None = None) -> list[Study]:
    """Read a table of images and captions, or tables that are the parts of a split.

    In a folder: ``captions.*``; else ``train.csv`` and its like, alike otherwise; else
    ``train/metadata.csv`` and its like, beside their images; else the only table that is there.
    """
    found = (rows(_opened(table.path), USUAL, columns, table.part, table.folder) for table in _tables(path))
    return make_studies(chain.from_iterable(found), finder.find)


def columns_of(path: Path, columns: Columns | None = None) -> tuple[dict[str, str], list[str]]:
    """Return the column of each role, and those of none; of several parts those of the first."""
    table = _opened(_tables(path)[0].path)
    roles = used_columns(table, USUAL, columns)
    return roles, [name for name in table.columns if name and name not in roles.values()]


def _tables(path: Path) -> list[CaptionsTable]:
    found = tables_of(path) if path.is_dir() else [CaptionsTable(path)]
    if not found:
        raise DataError(f"{path}: holds no table; looked for *{', *'.join(_OWN_FORMAT[:-1])}")
    return found


def tables_of(folder: Path) -> list[CaptionsTable]:
    """Return the table, or the tables of the parts, that a folder holds, or none; several that are
    not the parts of one whole are a DataError.
    """
    there = sorted(path for path in folder.iterdir() if is_table(path))
    if usual := [path for path in there if path.name.lower() in USUAL_NAMES]:
        return [CaptionsTable(_only(usual))]
    plain = [path for path in there if not path.name.lower().endswith(".txt")]
    tables = [path for path in plain if path.name.lower().endswith(_OWN_FORMAT)] or plain
    if found := _parts(tables) or _part_folders(folder):
        return sorted(found, key=lambda table: PARTS.index(table.part or "test"))
    return [CaptionsTable(_only(tables))] if tables else []


def is_table(path: Path) -> bool:
    """Tell by its name whether a file may be a table."""
    name = path.name.lower()
    return name.endswith(_ENDINGS) and not name.startswith(".") and path.is_file()


def _only(paths: list[Path]) -> Path:
    if len(paths) > 1:
        raise DataError(f"{paths[0].parent}: holds tables, {paths[0].name} and {paths[1].name}; name the file")
    return paths[0]


def _parts(tables: list[Path]) -> list[CaptionsTable]:
    """Return tables that are called after the parts of a split and alike otherwise."""
    words = [_PART_WORD.findall(path.name.lower()) for path in tables]
    alike = {_PART_WORD.sub("", path.name.lower()) for path in tables}
    parts = [named_part(found[0]) if len(found) == 1 else None for found in words]
    if len(tables) < 2 or len(alike) > 1 or None in parts or len(set(parts)) < len(parts):
        return []
    return [CaptionsTable(path, part) for path, part in zip(tables, parts, strict=True)]


def _part_folders(folder: Path) -> list[CaptionsTable]:
    """Return the metadata of the folders of parts, as imagefolders of Hugging Face have it."""
    folders = (path for path in folder.iterdir() if path.is_dir() and named_part(path.name))
    return [
        CaptionsTable(path, named_part(home.name), f"{home.name}/")
        for home in folders
        for path in sorted(home.glob("metadata.*"))
        if is_table(path)
    ]


def _opened(path: Path) -> Table:
    table = Table(path)
    if len(table.columns) == 2 and is_image_name(table.columns[0]):  # no header
        table = Table(path, columns=("image", "caption"))
    return table
