"""Read what other systems wrote. What a file is, its content tells: a table (of one column without a header: R2GenCMN's
``res.csv``), JSON in the shapes of ``result_columns.toml``, JSON lines, or one text a line. Where nothing names the
studies, texts are in the order of the data, as R2Gen's code goes through it.
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from xray_captioning.data import records, studies, table
from xray_captioning.data.opening import HEAD_BYTES, ZIP, open_bytes, open_text, read_text
from xray_captioning.errors import DataError
from xray_captioning.evaluation import result_columns as roles
from xray_captioning.metrics.ngrams import kept_texts
from xray_captioning.text.cleaning import without_common_marks, without_marks

_JSON = re.compile(r"\.(json|jsonl|ndjson)(\.gz)?$", re.IGNORECASE)
_TABLES = re.compile(r"\.(csv|tsv|tab|psv)(\.gz)?$", re.IGNORECASE)
WRITTEN = ("study", "images", "caption", "log_probability", "error")  # what is used of what `caption` writes
REGIONS = ".regions.json"  # suffix of what lies beside a file of captions: the regions of its columns, where measured
_MISSING = {"nan", "<na>", "null"}  # what pandas writes of a missing value where it has to be text


@dataclass(frozen=True)
class TextColumn:
    """What a file says that a system wrote, or what is in the reports."""

    texts: Sequence[Any]  # str, or of reports a list of them
    ids: dict[str, list[Any]] = field(default_factory=dict)  # columns that may name the study
    source: str = ""  # the file, for messages
    columns: tuple[str, ...] = ()  # of the file
    left_out: tuple[str, ...] = ()  # those of texts that are not taken


Texts = Mapping[str, str] | Sequence[str] | TextColumn
"""Text by study id, texts in the order of the evaluated studies, or what a file holds."""


def checked_text(value: Any, where: str, number: Any) -> str:
    """Return a text, or the only one of a list, without `<s>` and the like; "nan" is no text."""
    if not isinstance(value, str) or value[-1:] in records.ENDS:
        value = records.unlisted(value)
        while isinstance(value, list | tuple) and len(value) == 1:
            value = value[0]
    if not isinstance(value, str):
        kind = f"a list of {len(value)}" if isinstance(value, list) else type(value).__name__
        raise DataError(f"{where} {number}: is {kind}, not one text; give one, '' for none")
    if value.strip().lower() in _MISSING:
        what = f"is {value!r}, as a missing value is written"
        raise DataError(f"{where} {number}: {what}; write '' where a system wrote nothing, or leave the study out")
    text: str = records.as_text(value)
    kept = without_marks(text)
    return text if kept == text.strip() else kept


def read_captions(path: Path, asked: Sequence[str] = ()) -> dict[str, TextColumn]:
    """Read systems' texts by name: the columns `asked` for that are there, else the certain ones, or a DataError."""
    columns = read_columns(path)
    chosen, alone = roles.predictions(path, columns, asked), {roles.ALONE: path.stem}
    return {alone.get(name, name): _written(path, columns, name, chosen) for name in chosen}


def read_references(path: Path, asked: str | None = None) -> TextColumn:
    """Read reports: the column that is named so, or is asked for, or is the only one of texts."""
    columns = read_columns(path)
    return _written(path, columns, roles.references(path, columns, asked), several=True)


def read_named(path: Path, names: Sequence[str]) -> list[TextColumn]:
    """Read the columns of these names, whatever they hold."""
    columns = read_columns(path)
    if roles.ALONE in columns:
        columns[path.stem] = columns.pop(roles.ALONE)
    return [_written(path, columns, roles.predictions(path, columns, [name])[0]) for name in names]


@studies.collected_seldom()
def read_columns(path: Path) -> roles.Columns:
    """Read a file of texts, or a folder of Parquet partitions, as columns of one length; None is no value."""
    binary = path.is_dir()
    if not binary:
        with open_bytes(path) as stream:
            binary = stream.peek(4).startswith((records.PARQUET, ZIP))  # an Excel workbook is a zip archive
    columns = _by_column(table.Table(path).records()) if binary else _of_text(path, read_text(path, HEAD_BYTES))
    columns = {str(name): values for name, values in roles.flattened(columns).items()}
    if not any(columns.values()):
        raise DataError(f"{path}: has no row; give one row per study")
    return columns


def _written(
    path: Path, columns: roles.Columns, name: str, chosen: Sequence[str] = (), several: bool = False
) -> TextColumn:
    """Return one of the `chosen` columns, of one or `several` texts a study, with those that may name the study."""
    # No value is no text.
    values = columns[name]
    rows = [row for row, value in enumerate(values) if value is not None]
    if {*WRITTEN} <= columns.keys():
        # What the command caption wrote says why a study has no caption.
        rows = [row for row in rows if not columns["error"][row]]
    check, where = _report if several else checked_text, f"{path}, {name}, text"
    texts: list[Any] = [check(values[row], where, row + 1) for row in rows]
    ids = {key: [values[row] for row in rows] for key, values in _ids(path, columns).items()}
    kept = texts if several else kept_texts(without_common_marks(texts), len(texts))
    names = tuple(path.stem if key == roles.ALONE else key for key in columns)
    return TextColumn(kept, ids, str(path), names, roles.other_texts(columns, chosen or [name]))


def _ids(path: Path, columns: roles.Columns) -> roles.Columns:
    """Return the columns that may name the study, the surest first: by name, or by their values."""
    # One without a name is an index where it counts the rows from 0, else pandas' index of ids.
    if ranks := {name: rank for name in columns if (rank := roles.id_rank(name)) is not None}:
        return {name: columns[name] for name in sorted(ranks, key=ranks.__getitem__)}
    if likely := roles.likely_ids(columns):
        return {name: columns[name] for name in likely}
    indexes = [name for name in columns if roles.role(name) == roles.INDEX]
    if len(columns) > 1 and not indexes and not any(map(roles.names_column, columns)):
        what = f"none of its columns ({', '.join(islice(columns, 5))}) names the study"
        raise DataError(f"{path}: {what}; let the first line name the columns, one of them study_id")
    for name in indexes:
        numbers = [str(records.as_text(value)) for value in columns[name]]
        if roles.counts(0, numbers):
            continue
        if name == "" or name.lower().startswith("unnamed"):
            return {name: columns[name]}
        if len(set(numbers)) == len(numbers) and not roles.counts(1, numbers):
            what = f"the column {name} does not count the rows, and none names the study"
            raise DataError(f"{path}: {what}; write a column study_id")
    return {}


def _report(value: Any, where: str, number: Any) -> str | list[str]:
    value = records.unlisted(value)
    if isinstance(value, list) and len(value) > 1:
        return [checked_text(text, where, number) for text in value]
    return checked_text(value, where, number)


def _by_column(rows: records.Rows) -> roles.Columns:
    """Return the columns of a table; None where JSON or Parquet has no value."""
    # The fields themselves: a row of a Table is a dictionary, and there may be many of them.
    places = {name: place for place, name in enumerate(next(rows, (0, []))[1])}
    if {*WRITTEN} <= places.keys():  # with the findings and sentences of each, which take more than all texts
        places = {name: places[name] for name in WRITTEN}
    columns: roles.Columns = {name: [] for name in places}
    added = [(place, columns[name].append) for name, place in places.items()]
    for _, values in rows:
        for place, add in added:
            add(values[place])
    return columns


def _of_text(path: Path, head: str) -> roles.Columns:
    """Return the columns of a text that begins with `head`: JSON, a table, or one text a line."""
    if _JSON.search(path.name) or re.match(r'\s*(\{\s*"|\[\s*[\[{"])', head):
        if records.is_lines(head, path):
            return _by_column(records.json_rows(path)[1]())
        return roles.json_columns(records.read_json(path), path)
    lines = [line for line in head.splitlines()[:50] if line]
    if not (_TABLES.search(path.name) or _shows_table(path, lines)):
        # Not splitlines(): it would also cut at a form feed and other rare characters.
        texts = [line.removesuffix("\n") for line in io.StringIO(read_text(path), newline=None)]
        if not texts:
            raise DataError(f"{path}: is empty; give one text per line")
        return {roles.ALONE: texts}
    widths = [{len(row) for row in _parsed_rows(lines, sign)} for sign in records.DELIMITERS]
    if lines and not (any(len(found) == 1 and found != {1} for found in widths) or _has_header(lines)):
        with open_text(path) as file:
            rows = _parsed_rows(file, ",")
        if rows and all(len(row) == 1 for row in rows):
            return {roles.ALONE: [row[0] for row in rows]}
    return _by_column(table.Table(path).records())


def _shows_table(path: Path, lines: Sequence[str]) -> bool:
    """Whether text is a table: its first line names columns, or all lines are in quotes."""
    if (lines and all(line[0] == line[-1] == '"' != line for line in lines)) or _has_header(lines):
        return True
    for sign in records.DELIMITERS:
        first = [line.split(sign)[0] for line in lines if sign in line]
        ids = [word for word in first if " " not in word.strip() and any(map(str.isdigit, word))]
        if 1 < len(set(first)) == len(lines) == len(ids):
            what = f"a table ({sign!r} between the columns) without a line that names the columns"
            raise DataError(f"{path}: looks like {what}; put one first, such as study_id and prediction")
    return False


def _has_header(lines: Sequence[str]) -> bool:
    """Whether the first line names columns, or the only one."""
    for sign in records.DELIMITERS:
        names = next(iter(_parsed_rows(lines[:1], sign)), [])
        common = 2 * sum(sign in line for line in lines) >= len(lines)
        if len(names) > 1 and common and any(n == "" or roles.names_column(n) for n in names):
            return True
    return bool(lines) and roles.names_column(lines[0])


def _parsed_rows(lines: Iterable[str], sign: str) -> list[list[str]]:
    """Return the rows that are not empty; none where the quotes are wrong, which Table says."""
    with suppress(csv.Error):
        return [row for row in csv.reader(lines, delimiter=sign, strict=True) if row]
    return []
