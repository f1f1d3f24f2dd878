"""What a cell of a table of studies means: images, a part of a split, an id."""

import json
import re
from collections.abc import Collection, Iterable
from typing import Any

from xray_captioning.data.opening import IMAGE_SUFFIXES
from xray_captioning.data.table import Row
from xray_captioning.errors import DataError
from xray_captioning.text.sections import has_headings, literal

PART_NAMES = {
    **dict.fromkeys(("train", "training", "trn", "tr"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev", "development"), "val"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
_MAYBE_SEVERAL = re.compile(r"[;|,\s\[(#]")
_CAPTION_NUMBER = re.compile(r"(\.\w{3,5})#\d+$")
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_BETWEEN = re.compile(r"[\s,\[\]()]*")
_FLOAT = re.compile(r"\d+\.0+")
_NUMBER = re.compile(r"0*(\d+)(?:\.0+)?")


def named_part(name: str) -> str | None:
    """Return the part, 'train', 'val' or 'test', that a usual name such as 'validate' means."""
    return PART_NAMES.get(name.strip().casefold())


def needed_part(name: str, where: str) -> str:
    """Return the part that a usual name means; `where`, which names none, is a DataError."""
    if (found := named_part(name)) is None:
        raise DataError(f"{where} is {name!r}; it must be train, val, test or a usual name of one")
    return found


def part_of(name: str, part: str | None, where: str) -> str | None:
    """Return the part that a study names, or else that of its table, which must not differ."""
    if not name:
        return part
    found = needed_part(name, where)
    if part not in (None, found):
        raise DataError(f"{where} is {found!r} but it stands in {part!r}; keep one")
    return found


def id_text(name: str) -> str:
    """Return an id without the '.0' that pandas gives numbers of a column in which some lack.

    >>> id_text("1042.0"), id_text("0042"), id_text("p1.0")
    ('1042', '0042', 'p1.0')
    """
    return name.partition(".")[0] if _FLOAT.fullmatch(name) else name


def image_names(row: Row, column: str) -> list[str]:
    """Return the images that a cell names: one, or several in a list of JSON, Python or NumPy, or
    with ';', '|', ',' or a blank between names with suffixes. Flickr's 'a.jpg#0' is 'a.jpg'.
    """
    value = row[column]
    if isinstance(value, str):
        name = value.strip()
        if name and not _MAYBE_SEVERAL.search(name):
            return [name]
        value = _listed(name, row, column)
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise DataError(
            f"{row.place}: {column} holds no names of image files; write a path, or a list of "
            "paths (images inside of a table have to be saved as files first)"
        )
    names = [name.strip() for name in value if name.strip()]
    if not names:
        raise DataError(f"{row.place}: {column} names no image; fill it in or remove the row")
    return list(dict.fromkeys(names))


def is_image_name(name: str) -> bool:
    """Tell by its suffix whether a text names an image file; Flickr's '#0' may follow."""
    return _CAPTION_NUMBER.sub(r"\1", name.strip()).lower().endswith(IMAGE_SUFFIXES)


def joined_texts(row: Row, column: str) -> str:
    """Return the text of a cell; several in a list, also as Python or JSON write it, are joined."""
    value = row.get(column, "")
    if isinstance(value, str):
        text = value.strip()
        if text[:2] not in ("['", '["') or text[-1:] != "]":
            return text
        value = literal(text) or text
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return one_text(value, row.place)
    return row.text(column) if not isinstance(value, str) else value


def one_text(texts: Iterable[str], where: str) -> str:
    """Join the different texts of a study; different whole reports of it are a DataError."""
    texts = list(dict.fromkeys(text.strip() for text in texts if text.strip()))
    if len(texts) > 1 and sum(map(has_headings, texts)) > 1:
        raise DataError(
            f"{where}: study has {len(texts)} different reports; give each examination a row and "
            "a study id of its own, or keep one report"
        )
    return " ".join(texts)


def _listed(cell: str, row: Row, column: str) -> list[Any]:
    if cell[:1] in ("[", "(") and cell[-1:] in ("]", ")"):
        return _literal(cell, row, column)
    cell = _CAPTION_NUMBER.sub(r"\1", cell)
    for separator in (";", "|", ",", None):
        parts = [part.strip() for part in cell.split(separator)]
        if len(parts) > 1 and all(part.lower().endswith(IMAGE_SUFFIXES) for part in parts):
            return parts
    return [cell]


def _literal(cell: str, row: Row, column: str) -> list[Any]:
    """Return a list as JSON, Python, or NumPy, which leaves the commas out, write it."""
    try:
        found: Any = json.loads(cell)
    except (ValueError, RecursionError):
        found = [(one or two).replace("\\\\", "\\") for one, two in _QUOTED.findall(cell)]
        if not found and _BETWEEN.sub("", cell):
            found = [name.strip() for name in cell[1:-1].split(",")]
        elif _BETWEEN.sub("", _QUOTED.sub("", cell)):
            found = None
    if not isinstance(found, list):
        raise DataError(f"{row.place}: {column} is {cell[:60]!r}; write a list of paths")
    return found


def match_ids(known: Collection[str], wanted: Collection[str], where: str) -> dict[str, str]:
    """Return which id of one table each id of another means: '7', '7.0' and '0007' are one number.
    Ids without a match are left out; one that may mean two is a DataError.
    """
    there = dict.fromkeys(known)
    found = {name: name for name in wanted if name in there}
    strange = [name for name in wanted if name not in there]
    numbers: dict[str, list[str]] = {}
    for name in there if strange else ():
        numbers.setdefault(_number(name), []).append(name)
    for name in strange:
        same = numbers.get(_number(name), [])
        if len(same) > 1:
            raise DataError(f"{where}: id {name!r} may mean {same[0]!r} or {same[1]!r}; write ids alike")
        if same:
            found[name] = same[0]
    return found


def _number(name: str) -> str:
    match = _NUMBER.fullmatch(name.strip())
    return match[1] if match else name
