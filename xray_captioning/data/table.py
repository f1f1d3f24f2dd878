"""CSV tables of text, read strictly: what is missing is empty, and errors name the line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from xray_captioning.errors import DataError

Row = dict[str, str]


def read_table(
    path: Path, required: tuple[str, ...], lower: bool = True, optional: tuple[str, ...] = ()
) -> list[Row]:
    """Read a CSV file, UTF-8 with or without a byte order mark, whose first row names the columns.

    pandas would read the comparison "None" as a missing value; here every field is text, and
    a field that a short row lacks is the empty text.

    Parameters
    ----------
    required, optional : tuple of str
        Columns that must or may be there, in lower case. 'image|filename' asks for either, the
        first before the second, and calls it 'image'.
    lower : bool
        Whether column names are lower-cased; white space around them is dropped in any case.

    Raises
    ------
    DataError
        If the file is absent, no CSV, not UTF-8, or lacks a column.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return list(_rows(file, path, required, lower, optional))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text ({error.reason}); save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def _rows(
    file: TextIO, path: Path, required: tuple[str, ...], lower: bool, optional: tuple[str, ...]
) -> Iterator[Row]:
    reader = csv.DictReader(file, restval="", strict=True)
    try:
        names = [name.strip() for name in reader.fieldnames or []]
        names = [name.lower() for name in names] if lower else names
        reader.fieldnames = _header(names, path, required, optional)
        for row in reader:
            further = row.pop(None, [])  # DictReader keeps fields beyond the header under None
            if any(further):  # a trailing comma is harmless
                raise DataError(
                    f"{path}, line {reader.line_num}: {len(names) + len(further)} fields where the "
                    f"header has {len(names)}; put text that holds commas in quotes"
                )
            yield row
    except csv.Error as error:
        line = f"{path}, line {reader.reader.line_num}"  # the other counts whole rows only
        raise DataError(f"{line}: is not valid CSV ({error}); check the quotes there") from error


def _header(
    header: list[str], path: Path, required: tuple[str, ...], optional: tuple[str, ...]
) -> list[str]:
    """Name the columns, alternatives by their first name, and check that none is missing."""
    if twice := {name for name in header if name and header.count(name) > 1}:
        raise DataError(f"{path}: has the column {min(twice)} twice; rename one")
    missing = []
    for alternatives in (*required, *optional):
        names = alternatives.split("|")
        if found := next((name for name in names if name in header), None):
            header[header.index(found)] = names[0]
        elif alternatives in required:
            missing.append(" or ".join(names))
    if missing:
        names_found = ", ".join(header[:20]) or "none"
        raise DataError(f"{path}: lacks the column {', '.join(missing)}; found: {names_found}")
    return header
