"""The rows of a table in any format: text with signs between the fields, JSON, Parquet, Excel.

Each class has `columns`, `unit` (what rows are counted in: 'line', 'row' or 'entry'), and yields
the place and the values of each row.
"""

import csv
import io
import json
import re
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from xray_captioning.data.opening import HEAD_BYTES, open_bytes, open_text, read_text
from xray_captioning.errors import DataError, require

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
_HINT = re.compile(r"sep=(.)\r?\n")  # a first line that Excel writes and understands


class Delimited:
    """A table of text, read row by row; its first row names the columns unless these are given.
    Where they are, and tabs are between the fields, quotes are letters, as in Flickr's captions.
    """

    unit = "line"

    def __init__(self, path: Path, columns: Sequence[str] | None = None) -> None:
        self.path, self.headless = path, columns is not None
        head = read_text(path, HEAD_BYTES)
        hint = _HINT.match(head)
        self.skipped = 1 if hint else 0
        tabs = self.headless and "\t" in head.partition("\n")[0]
        self.quoting = csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL
        whole, end, _ = head.rpartition("\n")  # the sample's end may have cut a line
        sample = head if len(head) < HEAD_BYTES or not whole else whole + end
        self.delimiter = hint[1] if hint else "\t" if tabs else find_delimiter(sample, path)
        if columns is None:
            with open_text(path) as file:
                _, columns = next(self._rows(file), (1, []))
        self.columns = [name.strip() for name in columns]

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        """Yield every row that is not blank; raise a DataError at one that does not fit."""
        with open_text(self.path) as file:
            rows = self._rows(file)
            if not self.headless:
                next(rows, None)
            width = len(self.columns)
            for line, fields in rows:
                if len(fields) == width:
                    if width == 1 or any(fields):  # spreadsheets leave rows of empty cells behind
                        yield line, fields
                elif any(fields):
                    yield line, self._fitted(line, fields, width)

    def _rows(self, file: TextIO) -> Iterator[tuple[int, list[str]]]:
        """Yield the number of the line in which a row begins, and its fields."""
        for _ in range(self.skipped):
            file.readline()
        reader = _reader(file, self.delimiter, self.quoting)
        line = 1 + self.skipped
        try:
            for fields in reader:
                if fields:
                    yield line, fields
                line = reader.line_num + 1 + self.skipped
        except csv.Error as error:
            end = reader.line_num + self.skipped
            where = f"line {line}" if end <= line else f"lines {line} to {end}"
            raise DataError(
                f"{self.path}, {where}: is not valid CSV ({error}); check the quotes"
            ) from error

    def _fitted(self, line: int, fields: list[str], width: int) -> list[str]:
        """Return a row without the empty fields of commas at its end, if it has the width then."""
        if len(fields) > width and not any(fields[width:]):
            return fields[:width]
        sign = DELIMITERS.get(self.delimiter, self.delimiter)
        advice = f"put text that holds a {sign} in quotes"
        if len(fields) < width:
            advice = f"write every field, an empty one as nothing between two {sign}s"
            advice += ", and text of several lines in quotes"
        many = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
        raise DataError(f"{self.path}, line {line}: {many} where the header has {width}; {advice}")


def find_delimiter(sample: str, path: Path) -> str:
    """Return the sign between the fields: the one of the header line that splits the rows alike."""
    candidates = [sign for sign in DELIMITERS if max(_widths(sample, sign, 1), default=0) > 1]
    if len(candidates) < 2:
        return candidates[0] if candidates else ","
    widths = {sign: _widths(sample, sign, 200) for sign in candidates}
    alike = {sign: found.count(found[0]) for sign, found in widths.items()}
    fitting = [sign for sign in candidates if alike[sign] == max(alike.values())]
    if len(fitting) > 1:
        names = " or ".join(DELIMITERS[sign] for sign in fitting)
        raise DataError(
            f"{path}: its fields may be separated by {names}; put quotes around names with these"
        )
    return fitting[0]


def _widths(sample: str, delimiter: str, rows: int) -> list[int]:
    """Return how many fields the first rows of a sample have, up to one that is not valid."""
    found: list[int] = []
    with suppress(csv.Error):
        for row in islice(_reader(io.StringIO(sample, newline=""), delimiter), rows):
            found += [len(row)] if row else []
    return found


def _reader(file: TextIO, delimiter: str, quoting: int = csv.QUOTE_MINIMAL) -> Any:
    return csv.reader(file, delimiter=delimiter, quoting=quoting, strict=True)  # type: ignore[arg-type]


# --- JSON: lists of objects, one object per line, objects of id to object ---

ID, TEXT = "id", "text"
_LINES = (".jsonl", ".ndjson")


def read_json(path: Path) -> Any:
    """Read a JSON file, packed or not; raise a DataError where it is not text or not JSON."""
    return _parsed(read_text(path), path)


class JsonRows:
    """The rows of a JSON file; its columns are the keys of all objects in order of appearance. A
    key of the first object that a later one lacks is a DataError.
    """

    def __init__(self, path: Path) -> None:
        text = read_text(path)
        lines = is_lines(text, path)
        self.unit = "line" if lines else "entry"
        self._rows = list(_lines(text, path) if lines else _entries(_parsed(text, path), path))
        self.columns = list(dict.fromkeys(key for _, row in self._rows for key in row))
        first = self._rows[0][1] if self._rows else {}
        for place, row in self._rows:
            if not row.keys() >= first.keys():
                lost = next(key for key in first if key not in row)
                raise DataError(
                    f"{path}, {self.unit} {place}: lacks {lost!r}, which the first has; write null"
                )

    def __iter__(self) -> Iterator[tuple[int | str, list[Any]]]:
        """Yield the place and the values of each row, None for a key that it lacks."""
        for place, row in self._rows:
            yield place, [row.get(name) for name in self.columns]


def is_lines(text: str, path: Path) -> bool:
    """Whether each line is an object by itself, whatever the file is called."""
    if path.name.lower().removesuffix(".gz").endswith(_LINES):
        return True
    first, _, rest = text.lstrip().partition("\n")
    if not first.startswith("{") or not rest.strip():
        return False
    with suppress(ValueError, RecursionError):
        json.loads(first)
        return True
    return False


def _lines(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            row = _parsed(line, path, number)
            if not isinstance(row, dict):
                raise DataError(
                    f"{path}, line {number}: is no JSON object; write one object per line, such as "
                    '{"image": "a.png", "caption": "..."}'
                )
            yield number, row


def _parsed(text: str, path: Path, line: int | None = None) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"{path}, line {error.lineno if line is None else line}"
        raise DataError(f"{where}: is not valid JSON ({error.msg}); mend it") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not usable JSON ({error}); copy it again") from error


def _entries(content: Any, path: Path) -> Iterator[tuple[int | str, dict[str, Any]]]:
    """Yield the rows of a list of objects or texts, or of an object of id to one."""
    if isinstance(content, dict) and len(content) == 1:  # a list with a name, such as "data"
        [inner] = content.values()
        content = inner if _is_list_of(dict, inner) else content
    if isinstance(content, list):
        for number, entry in enumerate(content, 1):
            yield number, _row(entry, f"{path}, entry {number}")
    elif isinstance(content, dict) and _are_columns(content):
        for number in next(iter(content.values())):
            yield number, {name: values[number] for name, values in content.items()}
    elif isinstance(content, dict):
        key = "key" if any(isinstance(e, dict) and ID in e for e in content.values()) else ID
        for name, entry in content.items():
            yield repr(name), {key: name, **_row(entry, f"{path}, entry {name!r}")}
    else:
        raise DataError(f"{path}: holds no list of objects; write one object per row")


def _are_columns(content: dict[str, Any]) -> bool:
    """Whether an object is what pandas writes by default: columns, each of row number to value."""
    first = next(iter(content.values()), None)
    if not isinstance(first, dict) or list(first) != [str(number) for number in range(len(first))]:
        return False
    return bool(first) and all(
        isinstance(values, dict) and values.keys() == first.keys() for values in content.values()
    )


def _row(entry: Any, where: str) -> dict[str, Any]:
    if isinstance(entry, dict):
        return entry
    if isinstance(entry, str) or _is_list_of(str, entry):
        return {TEXT: entry}
    raise DataError(f"{where}: is neither an object nor a text; write one object per row")


def _is_list_of(kind: type, entry: Any) -> bool:
    return isinstance(entry, list) and bool(entry) and all(isinstance(e, kind) for e in entry)


# --- Parquet and Excel, each read by a package that is an extra ---

PARQUET = b"PAR1"
BATCH = 10_000  # rows in memory at a time
_NAMELESS = "has a value in a column without a name; name it"


class _Named(ABC):
    """A file whose first row, as `_rows` yields it, names the columns."""

    unit = "row"

    def __init__(self, path: Path) -> None:
        self.path = path
        _, names = next(self._rows(), (1, []))
        self.columns = ["" if name is None else str(name).strip() for name in names]

    def __iter__(self) -> Iterator[tuple[int, list[Any]]]:
        """Yield the number, as the file shows it, and the values of each row that has one."""
        return islice(self._rows(), 1, None)

    @abstractmethod
    def _rows(self) -> Iterator[tuple[int, list[Any]]]: ...


class Parquet(_Named):
    """The rows of a Parquet file, counted from 1."""

    def _rows(self) -> Iterator[tuple[int, list[Any]]]:
        parquet = require("pyarrow.parquet", f"the Parquet file {self.path}", "parquet")
        with open_bytes(self.path) as stream, _whole(self.path, "Parquet file"):
            file = parquet.ParquetFile(stream)
            yield 0, list(file.schema_arrow.names)
            batches = ([c.to_pylist() for c in b.columns] for b in file.iter_batches(BATCH))
            rows = (list(values) for batch in batches for values in zip(*batch, strict=True))
            yield from enumerate(rows, 1)


class Workbook(_Named):
    """The rows of the only sheet of an Excel workbook that is not empty."""

    def _rows(self) -> Iterator[tuple[int, list[Any]]]:
        openpyxl = require("openpyxl", f"the Excel workbook {self.path}", "excel")
        with open_bytes(self.path) as stream, _whole(self.path, "Excel workbook"):
            book, width = openpyxl.load_workbook(stream, read_only=True, data_only=True), 0
            for number, row in enumerate(self._sheet(book).iter_rows(values_only=True), 1):
                if all(value is None for value in row):
                    continue
                width = width or len(row)
                if any(value not in (None, "") for value in row[width:]):
                    raise DataError(f"{self.path}, row {number}: {_NAMELESS}")
                yield number, [*row[:width], *[None] * (width - len(row))]

    def _sheet(self, book: Any) -> Any:
        filled = [sheet for sheet in book.worksheets if any(map(any, sheet.values))]
        if len(filled) > 1:
            names = ", ".join(sheet.title for sheet in filled)
            raise DataError(
                f"{self.path}: has {len(filled)} sheets ({names}); save the one that is meant apart"
            )
        return filled[0] if filled else book.worksheets[0]


@contextmanager
def _whole(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except (ValueError, KeyError, IndexError, TypeError, zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{path}: is not a whole {what} ({error}); copy it again") from error
