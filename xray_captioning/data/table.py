"""A table of any usual format (docs/data.md) as rows of text, read strictly: errors name the file and the row. The
content tells the format, not the name: a ``.csv`` may hold tabs. Of JSON the key of an object is the column ``id``,
and texts alone are the column ``text``.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from xray_captioning.data import opening, records, studies
from xray_captioning.errors import DataError
from xray_captioning.files import once
from xray_captioning.text.sections import has_headings

SHOWN_COLUMNS = 20  # in a message
_MAYBE_SEVERAL = re.compile(r"[;|,+&\s\[({#]")
_CAPTION_NUMBER = re.compile(r"(\.\w{3,5})#\d+$")
_QUOTED = re.compile(r"(?:'[^']*'\s*:\s*)?(?:'([^']*)'|\"([^\"]*)\")")  # without the key before it
_BETWEEN = re.compile(r"[\s,\[\](){}]*")
_FLOAT = re.compile(r"\d+\.0+")


class Row(dict[str, Any]):
    """A row's values by column: text, '' where one is missing; lists and objects of JSON and Parquet stay such."""

    __slots__ = ("number", "table")
    table: "Table"
    number: int | str

    @property
    def place(self) -> str:
        """The file and the row in it, for messages: 'captions.csv, line 7'."""
        return f"{self.table.path}, {self.table.unit} {self.number}"

    def text(self, column: str | None) -> str:
        """Return a value as text without white space around it, '' where there is no such column."""
        # The only text of a list is that text, another list or an object is a DataError.
        value = self.get(column, "")  # type: ignore[arg-type]
        if isinstance(value, list) and len(value) == 1:
            value = records.as_text(value[0])
        if not isinstance(value, str):
            kind = f"a list of {len(value)}" if isinstance(value, list) else "an object"
            raise DataError(f"{self.place}: {column} is {kind}, not one text; write one")
        return value.strip()


class Table:
    """A table, read anew each time; `columns` names those of a text without such a line."""

    def __init__(self, path: Path, columns: Sequence[str] | None = None) -> None:
        self.path = path
        self.unit, self.records = _records(path, columns)
        self.columns = tuple(next(self.records(), (0, []))[1])
        names = [name for name in self.columns if name]
        if twice := {name for name in names if names.count(name) > 1}:
            raise DataError(f"{path}: has the column {min(twice)} twice; rename one")

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows that are not empty."""
        columns, plain = self.columns, self.records.func is records.delimited
        for number, values in islice(self.records(), 1, None):
            row = Row(zip(columns, values if plain else map(records.as_text, values)))
            row.table, row.number = self, number
            yield row

    def column(self, role: str, *synonyms: str) -> str | None:
        """Return the column that plays a role, if any; case, blanks, hyphens and underscores do not matter."""
        # Of `synonyms` those joined by '|' are equals, of which two are a DataError; earlier ones come first.
        found = next(filter(None, (self.named(*equals.split("|")) for equals in synonyms)), None)
        return self.only(role, found) if found else None

    def named(self, *names: str) -> list[str]:
        """Return the columns that have one of these names, in their order in the table."""
        wanted = {column_key(name) for name in names}
        return [column for column in self.columns if column_key(column) in wanted]

    def asked(self, role: str, name: str) -> str:
        """Return the column that the user asked for; its absence is a DataError."""
        if not (found := [name] if name in self.columns else self.named(name)):
            raise DataError(f"{self.path}: has no column {name!r} for {role}; {self.found()}")
        return self.only(role, found)

    def lacks(self, roles: Mapping[str, Sequence[str]]) -> DataError:
        """Return the error that says which names were looked for, what is there, and what to do."""
        names = {role: ", ".join(found).replace("|", ", ") for role, found in roles.items()}
        looked = " and one for ".join(f"{role} (looked for {n})" for role, n in names.items())
        advice = f"name {'them' if len(roles) > 1 else 'it'}: --columns {'=NAME,'.join(roles)}=NAME"
        return DataError(f"{self.path}: lacks a column for {looked}; {self.found()}; {advice}")

    def found(self) -> str:
        """Say which columns there are."""
        names = [repr(name) if "," in name or " " in name else name for name in self.columns]
        more = ", ..." if len(names) > SHOWN_COLUMNS else ""
        shown = ", ".join(name for name in names[:SHOWN_COLUMNS] if name)
        return f"found: {shown or 'none'}{more}"

    def only(self, role: str, found: Sequence[str]) -> str:
        """Return the only column of these that may play a role; two are a DataError."""
        if len(found) > 1:
            advice = f"say which: --columns {role}=NAME"
            raise DataError(f"{self.path}: the columns {found[0]!r} and {found[1]!r} may both be the {role}; {advice}")
        return found[0]


def column_key(name: str) -> str:
    """Return what spellings of a column's name have in common: 'Image Index' as 'image_index'."""
    return re.sub(r"[\s_-]+", "", name).casefold()


def _records(path: Path, columns: Sequence[str] | None) -> tuple[str, partial[records.Rows]]:
    """Return what the rows of a file are counted in, and what reads them, by what it holds."""
    if path.is_dir():
        return "row", partial(records.parquet, path)
    with opening.open_bytes(path) as stream:
        head = stream.peek(4)
    if head.startswith(records.PARQUET):
        return "row", partial(records.parquet, path)
    if head.startswith(opening.ZIP):
        return "row", partial(records.workbook, path)
    if opening.read_text(path, 1024).lstrip()[:1] in ("{", "["):
        return records.json_rows(path)
    return "line", partial(records.delimited, path, columns)


# --- what a cell of a table of studies means: images, a part of a split, an id ---


def needed_part(name: str, where: str) -> str:
    """Return the part that a usual name means; `where`, which names none, is a DataError."""
    if (found := studies.named_part(name)) is None:
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
    """Return an id without the '.0' that pandas gives numbers of a column in which some lack; 'p1.0' stays."""
    return name.partition(".")[0] if _FLOAT.fullmatch(name) else name


def image_names(row: Row, column: str) -> list[str]:
    """Return the images that a cell names, of Flickr's 'a.jpg#0' 'a.jpg'."""
    # Several are a list, or by view, as JSON, Python or NumPy write it, or names with suffixes and ; | , + & / between.
    value = row[column]
    if isinstance(value, str):
        name = value.strip()
        if name and not _MAYBE_SEVERAL.search(name):
            return [name]
        value = _listed(name, row, column)
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        advice = "write a path, or a list of paths (images inside of a table have to be saved as files first)"
        raise DataError(f"{row.place}: {column} holds no names of image files; {advice}")
    if names := list(dict.fromkeys(filter(None, map(str.strip, value)))):
        return names
    raise DataError(f"{row.place}: {column} names no image; fill it in or remove the row")


def is_image_name(name: str) -> bool:
    """Tell by its suffix whether a text names an image file; Flickr's '#0' may follow."""
    return _CAPTION_NUMBER.sub(r"\1", name.strip()).lower().endswith(opening.IMAGE_SUFFIXES)


def joined_texts(row: Row, column: str) -> str:
    """Return the text of a cell; several in a list, also as Python or JSON write it, are joined."""
    value = row.get(column, "")
    if isinstance(value, str):
        value = records.unlisted(value.strip()) or value.strip()
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return one_text(value, row.place)
    return value if isinstance(value, str) else row.text(column)


def one_text(texts: Iterable[str], where: str) -> str:
    """Join the different texts of a study; different whole reports of it are a DataError."""
    texts = list(dict.fromkeys(filter(None, map(str.strip, texts))))
    if len(texts) > 1 and sum(map(has_headings, texts)) > 1:
        advice = "give each examination a row and a study id of its own, or keep one report"
        raise DataError(f"{where}: study has {len(texts)} different reports; {advice}")
    return " ".join(texts)


def _listed(cell: str, row: Row, column: str) -> list[Any]:
    if cell[:1] in ("[", "(", "{") and cell[-1:] in ("]", ")", "}"):
        return _literal(cell, row, column)
    cell = _CAPTION_NUMBER.sub(r"\1", cell)
    for separator in (";", "|", ",", "+", "&", " / ", None):
        parts = [part.strip() for part in cell.split(separator)]
        if len(parts) > 1 and all(part.lower().endswith(opening.IMAGE_SUFFIXES) for part in parts):
            return parts
    return [cell]


def _literal(cell: str, row: Row, column: str) -> list[Any]:
    """Return a list as JSON, Python, or NumPy, which leaves the commas out, write it."""
    try:
        found: Any = list(one.values()) if isinstance(one := json.loads(cell, object_pairs_hook=once), dict) else one
    except (ValueError, RecursionError):
        found = [(one or two).replace("\\\\", "\\") for one, two in _QUOTED.findall(cell)]
        if not found and _BETWEEN.sub("", cell):
            found = [name.strip() for name in cell[1:-1].split(",")]
        elif _BETWEEN.sub("", _QUOTED.sub("", cell)):
            found = None
    if not isinstance(found, list):
        raise DataError(f"{row.place}: {column} is {cell[:60]!r}; write a list of paths")
    return found
