"""Tables and JSON of images and captions: under any usual names, as most captioning projects keep them, and R2Gen's
(Chen et al., "Generating Radiology Reports via Memory-driven Transformer", EMNLP 2020), COCO's (Chen et al.,
arXiv:1504.00325) and Karpathy and Fei-Fei's of COCO's images (CVPR 2015).
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain, groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xray_captioning.data import opening, records
from xray_captioning.data.sources import layout, lookup
from xray_captioning.data.sources.layout import LAYOUTS, Columns, StudyRow, make_studies, one_study, rows
from xray_captioning.data.studies import PART_NAMES, PARTS, Study, check_unique, named_part
from xray_captioning.data.table import Table, is_image_name, needed_part
from xray_captioning.errors import DataError

_ENDINGS = opening.TABLE_SUFFIXES + tuple(suffix + ".gz" for suffix in (".csv", ".tsv", ".jsonl"))
USUAL_NAMES = tuple("captions" + ending for ending in _ENDINGS)
_OWN_FORMAT = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".xlsx", ".gz")  # hold tables only
_PART_WORD = re.compile(rf"(?<![a-z])({'|'.join(sorted(PART_NAMES, key=len)[::-1])})(?![a-z])")


class CaptionsTable(NamedTuple):
    """A table of a folder, the part of a split that it is, and where its paths start."""

    path: Path
    part: str | None = None
    folder: str = ""


def read(path: Path, finder: lookup.ImageFinder, columns: Columns | None = None) -> Iterable[Study]:
    """Read a table of images and captions, or tables that are the parts of a split."""
    # In a folder: ``captions.*``, ``train.csv`` and its like, ``train/metadata.csv`` and its like, or the only table.

    def found() -> Iterator[tuple[str, Iterator[StudyRow]]]:
        tables = (rows(_opened(at.path), layout.USUAL, columns, at.part, at.folder) for at in _tables(path))
        return groupby(chain.from_iterable(tables), attrgetter("study"))

    # Where the rows of each study stand together very many are made one after the other.
    ids = np.fromiter((hash(name) if name else 0 for name, _ in found()), np.int64)
    if ids.all() and np.unique(ids).size == ids.size:
        return (one_study(name, list(group), finder.find) for name, group in found())
    return make_studies(chain.from_iterable(group for _, group in found()), finder.find)


def columns_of(path: Path, columns: Columns | None = None) -> tuple[dict[str, str], list[str]]:
    """Return the column of each role, and those of none; of several parts those of the first."""
    table = _opened(_tables(path)[0].path)
    roles = layout.used_columns(table, layout.USUAL, columns)
    return roles, [name for name in table.columns if name and name not in roles.values()]


def _tables(path: Path) -> list[CaptionsTable]:
    if found := tables_of(path) if path.is_dir() else [CaptionsTable(path)]:
        return found
    raise DataError(f"{path}: holds no table; looked for *{', *'.join(_OWN_FORMAT[:-1])}")


def tables_of(folder: Path) -> list[CaptionsTable]:
    """Return the table, or the tables of the parts of a whole, that a folder holds; others are a DataError."""
    there = sorted(filter(is_table, folder.iterdir()))
    usual = [path for path in there if path.name.lower() in USUAL_NAMES]
    plain = [path for path in there if not path.name.lower().endswith(".txt")]
    tables = usual or [path for path in plain if path.name.lower().endswith(_OWN_FORMAT)] or plain
    parts = [] if usual else _parts(tables)
    partitions = len(tables) > 1 and not parts and all(path.suffix == opening.PARTITION for path in tables)
    if partitions or any(folder.glob(f"{opening.MANIFEST}*")):
        return [CaptionsTable(folder)]
    if found := parts if parts or usual else _part_folders(folder):
        return sorted(found, key=lambda table: PARTS.index(table.part or "test"))
    if len(tables) > 1:
        raise DataError(f"{folder}: holds tables, {tables[0].name} and {tables[1].name}; name the file")
    return list(map(CaptionsTable, tables))


def is_table(path: Path) -> bool:
    """Tell by its name whether a file may be a table."""
    name = path.name.lower()
    return name.endswith(_ENDINGS) and not name.startswith((".", opening.MANIFEST)) and path.is_file()


def _parts(tables: list[Path]) -> list[CaptionsTable]:
    """Return tables that are called after the parts of a split and alike otherwise."""
    words = [_PART_WORD.findall(path.name.lower()) for path in tables]
    alike = {_PART_WORD.sub("", path.name.lower()) for path in tables}
    parts = [named_part(found[0]) if len(found) == 1 else None for found in words]
    if len(tables) < 2 or len(alike) > 1 or None in parts or len(set(parts)) < len(parts):
        return []
    return [CaptionsTable(*of) for of in zip(tables, parts, strict=True)]


def _part_folders(folder: Path) -> list[CaptionsTable]:
    """Return the metadata of the folders of parts, as imagefolders of Hugging Face have it."""
    found = ((path, path.parent.name) for path in sorted(folder.glob("*/metadata.*")) if is_table(path))
    return [CaptionsTable(path, named_part(home), f"{home}/") for path, home in found if named_part(home)]


def _opened(path: Path) -> Table:
    table = Table(path)
    if len(table.columns) == 2 and is_image_name(table.columns[0]):  # no header
        table = Table(path, columns=("image", "caption"))
    return table


# --- annotations in JSON: R2Gen's, lists under the keys `train`, `val` and `test`, and COCO's ---


def read_r2gen(path: Path, finder: lookup.ImageFinder) -> list[Study]:
    """Read lists of entries by part, or one whose entries name their split; reports become findings."""
    # The id is asked for: that of any other table may count rows where several name one image.
    found = list(rows(layout.published(path, "id", "report", "image_path"), LAYOUTS["r2gen"], {"study": "id"}))
    check_unique((row.study for row in found), path)
    return make_studies(found, finder.find)


def is_r2gen(path: Path) -> bool:
    """Tell by the beginning of a JSON file, or its usual name, whether its entries are R2Gen's."""
    return path.name.lower() == "annotation.json" or _keys(path) >= {"image_path", "report"}


def _keys(path: Path) -> set[str]:
    """Return the first bracket of a JSON file and the keys at its beginning, nothing of another file."""
    head = ""
    with suppress(DataError):
        head = opening.read_text(path, opening.HEAD_BYTES).lstrip()
    return {head[0], *re.findall(r'"(\w+)"\s*:', head)} if head[:1] in ("{", "[") else set()


def read_coco(path: Path, finder: lookup.ImageFinder) -> list[Study]:
    """Read files of images and captions, such as ``captions_val2014.json``, which is that part."""
    # Each image is a study with its captions joined. Where two files number alike the part stands before the id.
    files = [path] if path.is_file() else list(filter(is_coco, _json_files(path)))
    found = [row for file in files for row in _coco_rows(file, len(files) > 1)]
    if len({row.study for row in found}) < len(found) and len(files) > 1:
        for row in found:
            row.study = f"{row.split}/{row.study}" if row.split else row.study
    check_unique((row.study for row in found), path)
    return make_studies(found, finder.find)


def is_coco(path: Path) -> bool:
    """Tell whether a JSON file, or one of a folder, has images and captions as COCO has them."""
    if path.is_dir():
        return any(map(is_coco, _json_files(path)))
    keys, known = _keys(path), ("images file_name", "annotations image_id", "images filename sentences")
    return any(keys >= {"{", *names.split()} for names in known)


def _json_files(path: Path) -> list[Path]:
    return sorted((*path.glob("*.json"), *path.glob("annotations/*.json")))


def _coco_rows(path: Path, by_name: bool) -> Iterator[StudyRow]:
    content = records.read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise DataError(f"{path}: has no list 'images'; is this a file of COCO captions?")
    words = re.findall("[a-z]+", path.stem.lower()) if by_name else []
    part, captions = next(filter(None, map(named_part, words)), None), _captions_of(content, path)
    for number, image in enumerate(content["images"], start=1):
        where = f"{path}, image {number}"
        name, study = _needed(image, ("file_name", "filename"), where), _needed(image, ("id", "imgid"), where)
        split = image.get("split")
        own = needed_part(str(split), f"{where}: split") if split else part
        texts = captions.pop(study, [])
        texts += [_needed(s, ("raw",), where, empty=True) for s in image.get("sentences") or []]
        patient = str(image.get("patient_id", image.get("subject_id", "")) or "")
        folder = image.get("filepath")  # as Karpathy's files name it
        name = f"{folder}/{name}" if isinstance(folder, str) and folder else name
        told = (*layout.NO_TEXTS[1:], " ".join(dict.fromkeys(filter(None, texts))))
        yield StudyRow(None, where, study, (name,), patient=patient, split=own, texts=told)
    if captions:
        what = f"has captions of image {min(captions)!r}, which is not among the images ({len(captions)} such)"
        raise DataError(f"{path}: {what}; add it or take them out")


def _captions_of(content: dict[str, Any], path: Path) -> dict[str, list[str]]:
    captions: dict[str, list[str]] = defaultdict(list)
    for number, entry in enumerate(content.get("annotations") or [], start=1):
        where = f"{path}, annotation {number}"
        captions[_needed(entry, ("image_id",), where)].append(_needed(entry, ("caption",), where, empty=True))
    return captions


def _needed(entry: Any, keys: tuple[str, ...], where: str, empty: bool = False) -> str:
    """Return the text or number under the first of the keys that an object has."""
    if not isinstance(entry, dict):
        raise DataError(f"{where}: is not an object; mend the file")
    value = next((entry[key] for key in keys if key in entry), None)
    if not isinstance(value, (str, int)) or not (empty or str(value).strip()):
        raise DataError(f"{where}: lacks {' or '.join(keys)}; found: {', '.join(entry)}; fill it in")
    return str(value).strip()
