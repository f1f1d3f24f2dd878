"""Read what other systems wrote, in the formats and under the names in which it comes.

What a file is, its content tells: a table (CSV with any separator, Parquet, Excel), JSON in the
shapes of :mod:`xray_captioning.evaluation.json_results`, JSON lines, or plain text with one text a
line. Which columns are what, :mod:`xray_captioning.evaluation.column_roles` tells. A table of one
column without a header is R2GenCMN's ``res.csv``.

Where nothing names the studies, texts belong to the evaluated studies in the order of the data:
that is the order in which R2Gen's code goes through its annotation. Such a system has the name of
its file, any other that of its column.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from xray_captioning.data.columnar import PARQUET, Parquet
from xray_captioning.data.delimited import Delimited
from xray_captioning.data.json_rows import JsonRows, read_json
from xray_captioning.data.opening import ZIP, open_bytes, open_text
from xray_captioning.data.table import Table, as_text
from xray_captioning.errors import DataError
from xray_captioning.evaluation.column_roles import (
    ALONE,
    ID,
    INDEX,
    PREDICTION,
    REPORT,
    SYSTEM,
    id_rank,
    names_column,
    predictions,
    references,
    role,
)
from xray_captioning.evaluation.json_results import Columns, flattened, json_columns

_JSON = (".json", ".jsonl", ".ndjson")
_TABLES = (".csv", ".tsv", ".tab", ".psv")
_MISSING = {"nan", "<na>", "null"}  # what pandas writes of a missing value where it has to be text
_LONGEST = 20  # characters of such a mark with white space
_SIGNS = "\t;|,"  # between columns
_HEAD = 1 << 16


@dataclass(frozen=True)
class Written:
    """What a file says that a system wrote, or what is in the reports."""

    texts: list[Any]  # str, or of reports a list of them
    ids: dict[str, list[Any]] = field(default_factory=dict)  # columns that may name the study
    source: str = ""  # the file, for messages
    left_out: tuple[str, ...] = ()  # columns of texts that are not taken for a system


Texts = Mapping[str, str] | Sequence[str] | Written
"""Text by study id, texts in the order of the evaluated studies, or what a file holds."""


def read_captions(path: Path, asked: Sequence[str] = ()) -> dict[str, Written]:
    """Read the texts of one or more systems, by name.

    Parameters
    ----------
    path : Path
        The file.
    asked : sequence of str, optional
        Columns that hold what systems wrote; those of them that the file has are read.

    Raises
    ------
    DataError
        The file cannot be read, names no system, or it is not certain which column one is.
    """
    columns = read_columns(path)
    chosen = predictions(path, columns, asked)
    told = {PREDICTION, SYSTEM, REPORT}
    others = [n for n in columns if n not in chosen and role(n) in told and _is_text(columns[n])]
    for name in chosen:
        _check_single(path, columns[name])
    return {
        path.stem if name == ALONE else name: _written(path, columns, name, tuple(others))
        for name in chosen
    }


def read_references(path: Path, asked: str | None = None) -> Written:
    """Read reports: the column that is named so, or is asked for, or is the only one of texts.

    Raises
    ------
    DataError
        The file cannot be read, or it is not certain which column holds them.
    """
    columns = read_columns(path)
    return _written(path, columns, references(path, columns, asked))


def read_named(path: Path, names: Sequence[str]) -> list[Written]:
    """Read the columns of these names, whatever they hold; there is none beside them.

    Raises
    ------
    DataError
        The file cannot be read, or lacks one.
    """
    columns = read_columns(path)
    if ALONE in columns:
        columns[path.stem] = columns.pop(ALONE)
    return [_written(path, columns, predictions(path, columns, [name])[0]) for name in names]


def read_columns(path: Path) -> Columns:
    """Read a file of texts as columns of one length, by name; None where there is no value.

    Texts alone are the column `ALONE`.

    Raises
    ------
    DataError
        It is absent, damaged, empty, or it is not certain what it is.
    """
    kind = _kind(path)
    if kind == "json":
        columns = json_columns(read_json(path), path)
    elif kind == "lines":
        rows = JsonRows(path)
        columns = _by_column(rows.columns, [values for _, values in rows])
    elif kind == "parquet":
        table = Parquet(path)
        columns = _by_column(table.columns, [values for _, values in table])
    elif kind == "table":
        columns = _table_columns(path)
    else:
        columns = {ALONE: read_lines(path)}
    columns = {str(name): values for name, values in flattened(columns).items()}
    if not any(columns.values()):
        raise DataError(f"{path}: has no row; give a row a study")
    return columns


def read_lines(path: Path) -> list[str]:
    """Read a file of one text a line.

    Raises
    ------
    DataError
        The file is empty or not UTF-8.
    """
    with open_text(path) as file:
        # Not splitlines(): it would also cut at a form feed and other rare characters.
        lines = [line.removesuffix("\n") for line in io.StringIO(file.read(), newline=None)]
    if not lines:
        raise DataError(f"{path}: is empty; give one text a line")
    return lines


def _written(path: Path, columns: Columns, name: str, left_out: tuple[str, ...] = ()) -> Written:
    """Return a column with those that may name its studies; rows without a value have no text."""
    # What the command caption wrote says why a study has no caption.
    own = {"study", "caption", "error"} <= columns.keys()
    rows = [
        row
        for row, value in enumerate(columns[name])
        if value is not None and not (own and columns["error"][row])
    ]
    values, where = columns[name], f"{path}, {name}, text"
    texts = [checked_text(values[row], where, row + 1) for row in rows]
    ids = {key: [values[row] for row in rows] for key, values in _ids(path, columns).items()}
    return Written(texts, ids, str(path), left_out)


def _ids(path: Path, columns: Columns) -> Columns:
    """Return the columns that may name the study, the surest first.

    A column without a name is an index where it counts the rows from 0, and else pandas' index of
    ids. An index in another order is of rows that were sorted or left out.
    """
    named = sorted((n for n in columns if role(n) == ID), key=lambda n: id_rank(n) or 0)
    if named:
        return {name: columns[name] for name in named}
    if len(columns) > 1 and not any(
        n == "" or names_column(n) or role(n) == INDEX for n in columns
    ):
        raise DataError(
            f"{path}: none of its columns ({', '.join(islice(columns, 5))}) names the study; let "
            "the first line name the columns, one of them study_id"
        )
    for name in (n for n in columns if role(n) == INDEX):
        numbers = [str(as_text(value)) for value in columns[name]]
        if numbers == [str(number) for number in range(len(numbers))]:
            continue
        if name == "" or name.lower().startswith("unnamed"):
            return {name: columns[name]}
        if len(set(numbers)) == len(numbers) and numbers != [
            str(number) for number in range(1, len(numbers) + 1)
        ]:
            raise DataError(
                f"{path}: the column {name} does not count the rows, and none names the study; "
                "write a column study_id"
            )
    return {}


def checked_text(value: Any, where: str, number: Any) -> Any:
    """Return a text, or several of reports; "nan" is no text."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    several = value if isinstance(value, list) else [value]
    for text in several:
        if not isinstance(text, str):
            raise DataError(
                f"{where} {number}: is {type(text).__name__}, not one text; write '' for none"
            )
        if len(text) < _LONGEST and text.strip().lower() in _MISSING:
            raise DataError(
                f"{where} {number}: is {text!r}, as a missing value is written; write '' where a "
                "system wrote nothing, or leave the study out"
            )
    return [as_text(text) for text in several] if isinstance(value, list) else as_text(value)


def _check_single(path: Path, values: Sequence[Any]) -> None:
    """Refuse several texts of one study."""
    for row, value in enumerate(values, 1):
        if isinstance(value, list) and len(value) != 1:
            raise DataError(
                f"{path}, text {row}: is a list of {len(value)}, not one text; give one"
            )


def _is_text(values: Sequence[Any]) -> bool:
    texts = (value.strip() for value in values if isinstance(value, str))
    return any(" " in text and text[0] not in "[{" for text in texts)


def _by_column(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Columns:
    return dict(zip(names, map(list, zip(*rows)))) if rows else {name: [] for name in names}


def _table_columns(path: Path) -> Columns:
    """Return the columns of a table; a single one without a header is `ALONE`."""
    if (single := _single_column(path)) is not None:
        first = single[0].strip()
        return {first: single[1:]} if names_column(first) else {ALONE: single}
    table = Table(path)
    if _is_workbook(path):
        return _by_column(table.columns, [list(row.values()) for row in table])
    # The fields themselves: a row of a Table is a dictionary, and there may be many of them.
    return _by_column(table.columns, [fields for _, fields in Delimited(path)])


def _single_column(path: Path) -> list[str] | None:
    """Return the rows of a text table of one column, its header too; None for any other table."""
    if _is_workbook(path):
        return None
    with open_text(path) as file:
        lines = _first_lines(file.read(_HEAD))
    if _header_sign(lines) or any(_is_regular(lines, sign) for sign in _SIGNS):
        return None
    with open_text(path) as file:
        rows = _parsed_rows(file, ",")
    return [row[0] for row in rows] if rows and all(len(row) == 1 for row in rows) else None


def _is_workbook(path: Path) -> bool:
    """Whether a table is an Excel workbook, which is a zip archive that is left as it is."""
    with open_bytes(path) as stream:
        return stream.peek(4).startswith(ZIP)


def _parsed_rows(file: TextIO, sign: str, limit: int | None = None) -> list[list[str]] | None:
    """Return the rows that are not empty; None where the quotes are wrong, which Table says."""
    try:
        return [row for row in islice(csv.reader(file, delimiter=sign, strict=True), limit) if row]
    except csv.Error:
        return None


def _is_regular(lines: Sequence[str], sign: str) -> bool:
    """Whether every line has as many fields as the first, and more than one."""
    rows = _parsed_rows(io.StringIO("\n".join(lines)), sign) or []
    widths = {len(row) for row in rows}
    return len(widths) == 1 and widths.pop() > 1


def _kind(path: Path) -> str:
    """Return whether a file is JSON, JSON lines, Parquet, another table or plain text."""
    with open_bytes(path) as stream:
        start = stream.peek(4)
    if start.startswith(PARQUET):
        return "parquet"
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if _is_workbook(path):
        return "table"
    with open_text(path) as file:
        head = file.read(_HEAD).lstrip()
    if suffix in _JSON or re.match(r'\{\s*"|\[\s*[\[{"]', head):
        return "lines" if _is_lines(head, suffix) else "json"
    return "table" if suffix in _TABLES or _shows_table(head, path) else "text"


def _is_lines(head: str, suffix: str) -> bool:
    """Whether each line is an object by itself, whatever the file is called."""
    if suffix in _JSON[1:]:
        return True
    lines = [line.strip() for line in head.split("\n", 2)]
    return len(lines) > 1 and all(line.startswith("{") and line.endswith("}") for line in lines[:2])


def _shows_table(head: str, path: Path) -> bool:
    """Whether text is a table: its first line names columns.

    Raises
    ------
    DataError
        It has no such line, but all lines begin with what looks like an id.
    """
    lines = _first_lines(head)
    quoted = bool(lines) and all(line[0] == line[-1] == '"' != line for line in lines)
    if quoted or _header_sign(lines) or (lines and names_column(lines[0])):
        return True
    if (sign := _column_of_ids(lines)) is not None:
        raise DataError(
            f"{path}: looks like a table ({sign!r} between the columns) without a line that names "
            "the columns; put one first, such as study_id and prediction"
        )
    return False


def _first_lines(head: str) -> list[str]:
    return [line for line in head.splitlines()[:50] if line]


def _header_sign(lines: Sequence[str]) -> str | None:
    """Return the sign between the names of columns in the first line, None where it has none."""
    for sign in _SIGNS:
        names = (_parsed_rows(io.StringIO(lines[0] if lines else ""), sign, 1) or [[]])[0]
        common = 2 * sum(sign in line for line in lines) >= len(lines)
        if len(names) > 1 and common and any(n == "" or names_column(n) for n in names):
            return sign
    return None


def _column_of_ids(lines: Sequence[str]) -> str | None:
    """Return the sign behind the first word where that differs from line to line, with a digit."""
    for sign in _SIGNS:
        first = [line.split(sign)[0] for line in lines if line]
        words = len(lines) > 1 and all(sign in line for line in lines if line)
        if words and len(set(first)) == len(first) and all(map(_looks_like_id, first)):
            return sign
    return None


def _looks_like_id(word: str) -> bool:
    return bool(word) and " " not in word.strip() and any(map(str.isdigit, word))
