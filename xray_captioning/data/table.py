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
    """Read a CSV file whose first row names the columns.

    pandas would read the comparison "None" as a missing value; here every field is text, and
    a field that a short row lacks is the empty text.

    Parameters
    ----------
    path : Path
        UTF-8 text, with or without a byte order mark.
    required : tuple of str
        Columns that must be there, in lower case. 'image|filename' asks for either, the first
        before the second, and calls it 'image'.
    lower : bool, default=True
        Whether column names are lower-cased.
    optional : tuple of str
        Columns that may be there, written in the same way.

    Returns
    -------
    list of dict
        Column name, stripped, to field.

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
    reader = csv.reader(file, strict=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        header = _header([n.lower() for n in names] if lower else names, path, required, optional)
        for fields in reader:
            if fields:  # a blank line is no row
                yield _row(header, fields, f"{path}, line {reader.line_num}")
    except csv.Error as error:
        line = f"{path}, line {reader.line_num}"
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


def _row(header: list[str], fields: list[str], where: str) -> Row:
    """Pair names and fields; a trailing comma is harmless, further text is not."""
    if any(fields[len(header) :]):
        raise DataError(
            f"{where}: {len(fields)} fields where the header has {len(header)}; "
            "put text that holds commas in quotes"
        )
    padded = fields + [""] * (len(header) - len(fields))
    return dict(zip(header, padded, strict=False))
