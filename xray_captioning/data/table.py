"""A table of any usual format as rows of text, read strictly: errors name the file and the row.

==================== ==============================================================================
what is in the file  how it is read
==================== ==============================================================================
CSV, TSV, ``.txt``   fields between commas, semicolons, tabs or vertical bars, as the header line
                     and the rows show; UTF-8, or UTF-16 with its mark
JSON                 a list of objects, one object per line, or an object of id to object (the key
                     is the column ``id``); texts alone are the column ``text``
Parquet, Excel       with the extras ``parquet`` and ``excel``
gzip, zip            what is in it; ``archive.zip/inner.csv`` names one of several members
==================== ==============================================================================

The content tells the format, not the name: a ``.csv`` may hold tabs and a ``.json`` JSON lines.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from xray_captioning.data import records
from xray_captioning.data.opening import ZIP, open_bytes, read_text
from xray_captioning.errors import DataError

SHOWN_COLUMNS = 20  # in a message


class Row(dict[str, Any]):
    """The values of one row by the names of their columns: text, '' where one is missing; only
    lists and objects of JSON and Parquet stay what they are.
    """

    __slots__ = ("number", "table")
    table: "Table"
    number: int | str

    @property
    def place(self) -> str:
        """The file and the row in it, for messages: 'captions.csv, line 7'."""
        return f"{self.table.path}, {self.table.unit} {self.number}"

    def text(self, column: str | None) -> str:
        """Return a value as text without white space around it, '' where there is no such column;
        the only text of a list is that text, another list or an object is a DataError.
        """
        value = self.get(column, "")  # type: ignore[arg-type]
        if isinstance(value, list) and len(value) == 1:
            value = records.as_text(value[0])
        if not isinstance(value, str):
            raise DataError(f"{self.place}: {column} is {_described(value)}, not one text; write one")
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
        """Return the column that plays a role, None where there is none; case, blanks, hyphens and
        underscores do not matter. `synonyms` joined by '|' are equals, of which two are a
        DataError; earlier ones come first.
        """
        for equals in synonyms:
            if found := self.named(*equals.split("|")):
                return self.only(role, found)
        return None

    def named(self, *names: str) -> list[str]:
        """Return the columns that have one of these names, in their order in the table."""
        wanted = {column_key(name) for name in names}
        return [column for column in self.columns if column_key(column) in wanted]

    def asked(self, role: str, name: str) -> str:
        """Return the column that the user asked for; its absence is a DataError."""
        found = [name] if name in self.columns else self.named(name)
        if not found:
            raise DataError(f"{self.path}: has no column {name!r} for {role}; {self.found()}")
        return self.only(role, found)

    def lacks(self, roles: Mapping[str, Sequence[str]]) -> DataError:
        """Return the error that says which names were looked for, what is there, and what to do."""
        names = {role: ", ".join(found).replace("|", ", ") for role, found in roles.items()}
        looked = " and one for ".join(f"{role} (looked for {n})" for role, n in names.items())
        return DataError(
            f"{self.path}: lacks a column for {looked}; {self.found()}; name "
            f"{'them' if len(roles) > 1 else 'it'}: --columns {'=NAME,'.join(roles)}=NAME"
        )

    def found(self) -> str:
        """Say which columns there are."""
        names = [repr(name) if "," in name or " " in name else name for name in self.columns]
        more = ", ..." if len(names) > SHOWN_COLUMNS else ""
        shown = ", ".join(name for name in names[:SHOWN_COLUMNS] if name)
        return f"found: {shown or 'none'}{more}"

    def only(self, role: str, found: Sequence[str]) -> str:
        """Return the only column of these that may play a role; two are a DataError."""
        if len(found) > 1:
            raise DataError(
                f"{self.path}: the columns {found[0]!r} and {found[1]!r} may both be the {role}; "
                f"say which: --columns {role}=NAME"
            )
        return found[0]


def column_key(name: str) -> str:
    """Return what spellings of a column's name have in common: 'Image Index' as 'image_index'."""
    return re.sub(r"[\s_-]+", "", name).casefold()


def _records(path: Path, columns: Sequence[str] | None) -> tuple[str, partial[records.Rows]]:
    """Return what the rows of a file are counted in, and what reads them, by what it holds."""
    with open_bytes(path) as stream:
        head = stream.peek(4)
    if head.startswith(records.PARQUET):
        return "row", partial(records.parquet, path)
    if head.startswith(ZIP):
        return "row", partial(records.workbook, path)
    if read_text(path, 1024).lstrip()[:1] in ("{", "["):
        return records.json_rows(path)
    return "line", partial(records.delimited, path, columns)


def _described(value: Any) -> str:
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "an object" if isinstance(value, dict) else type(value).__name__
