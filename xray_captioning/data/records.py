"""The rows of a table in any format: text with signs between the fields, JSON, Parquet, Excel. Each function yields
the names of the columns, and then the place and the values of each row, None where JSON or Parquet has no value.
"""

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from xray_captioning.data import opening, studies
from xray_captioning.errors import DataError, one_error, require
from xray_captioning.files import once
from xray_captioning.text.sections import literal

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
Rows = Iterator[tuple[int | str, list[Any]]]
_QUOTED = r"""'[^'\\]*(?:\\.[^'\\]*)*'|"[^"\\]*(?:\\.[^"\\]*)*\""""
_ITEMS = re.compile(rf"(?s)dtype=[^)]*|({_QUOTED})")
_LIST = re.compile(rf"(?s)(?:array\()?[\[({{](?:[\s,\[\](){{}}]|array\(|np\.str_\(|dtype=[^)]*|{_QUOTED})*[\])}}]")
ENDS = {*"])} \n"}  # of what `unlisted` may have to read
_HINT = re.compile(r"sep=(.)\r?\n")  # a first line that Excel writes and understands


def as_text(value: Any) -> Any:
    """Return a value of a table as text, 7.0 as '7', nan and None as ''; lists and objects stay, their numbers, too."""
    if isinstance(value, str):
        # Half of a surrogate pair, which JSON allows, can be written to no file.
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return value if isinstance(value, list | dict) else str(value)


def unlisted(value: Any) -> Any:
    """Return a cell that holds a list of texts as Python, JSON or NumPy write it as that list; any other as it is."""
    if not isinstance(value, str) or value[-1:] not in ENDS or not _LIST.fullmatch(text := value.strip()):
        return value
    # One by one: NumPy leaves the commas out, and Python would join 'one' 'two'.
    texts = [literal(item) for item in _ITEMS.findall(text) if item]
    return texts if (texts or text == "[]") and None not in texts else value


def delimited(path: Path, columns: Sequence[str] | None = None) -> Rows:
    """Yield the rows of a table of text that are not blank; the first names the columns unless these are given."""
    # Where they are, and tabs are between the fields, quotes are letters, as in Flickr's captions.
    head = opening.read_text(path, opening.HEAD_BYTES)
    hint = _HINT.match(head)
    tabs = columns is not None and "\t" in head.partition("\n")[0]
    whole, end, _ = head.rpartition("\n")  # the sample's end may have cut a line
    sample = head if len(head) < opening.HEAD_BYTES or not whole else whole + end
    delimiter = hint[1] if hint else "\t" if tabs else find_delimiter(sample, path)
    with opening.open_text(path) as file:
        if hint:
            file.readline()
        rows = _numbered(_reader(file, delimiter, csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL), path, bool(hint))
        _, names = next(rows, (1, [])) if columns is None else (0, columns)
        yield 0, [name.strip() for name in names]
        width = len(names)
        for line, fields in rows:
            if any(fields) or len(fields) == width == 1:  # spreadsheets leave rows of empty cells behind
                fits = len(fields) == width
                yield line, fields if fits else _fitted(fields, width, f"{path}, line {line}", delimiter)


def _numbered(reader: Any, path: Path, skipped: int) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the line in which a row begins, and its fields."""
    line = 1 + skipped
    try:
        for fields in reader:
            if fields:
                yield line, fields
            line = reader.line_num + 1 + skipped
    except csv.Error as error:
        end = reader.line_num + skipped
        where = f"line {line}" if end <= line else f"lines {line} to {end}"
        raise DataError(f"{path}, {where}: is not valid CSV ({error}); check the quotes") from error


def _fitted(fields: list[str], width: int, where: str, delimiter: str) -> list[str]:
    """Return a row without the empty fields of commas at its end, if it has the width then."""
    if len(fields) > width and not any(fields[width:]):
        return fields[:width]
    sign = DELIMITERS.get(delimiter, delimiter)
    advice = f"put text that holds a {sign} in quotes"
    if len(fields) < width:
        advice = f"write every field, an empty one as nothing between two {sign}s, and text of several lines in quotes"
    many = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
    raise DataError(f"{where}: {many} where the header has {width}; {advice}")


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
        raise DataError(f"{path}: its fields may be separated by {names}; put quotes around names with these")
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

ID, TEXT, SPLIT = "id", "text", "split"
_LINES = (".jsonl", ".ndjson")


def read_json(path: Path) -> Any:
    """Read a JSON file, packed or not; raise a DataError where it is not text or not JSON."""
    return _parsed(opening.read_text(path), path)


def json_rows(path: Path) -> tuple[str, partial[Rows]]:
    """Return unit and rows of a JSON file: columns are the keys of all objects, of which each has the first's."""
    text = opening.read_text(path)
    lines = is_lines(text, path)
    unit = "line" if lines else "entry"
    rows = list(_lines(text, path) if lines else _entries(_parsed(text, path), path))
    names = list(dict.fromkeys(key for _, row in rows for key in row))
    for place, row in rows:
        if lost := [key for key in rows[0][1] if key not in row]:
            raise DataError(f"{path}, {unit} {place}: lacks {lost[0]!r}, which the first has; write null")
    return unit, partial(iter, [(0, names), *((place, [row.get(name) for name in names]) for place, row in rows)])


def is_lines(text: str, path: Path) -> bool:
    """Whether each line is an object by itself, whatever the file is called."""
    if path.name.lower().removesuffix(".gz").endswith(_LINES):
        return True
    first, _, rest = text.lstrip().partition("\n")
    with suppress(ValueError, RecursionError):
        return first.startswith("{") and bool(rest.strip()) and isinstance(json.loads(first), dict)
    return False


def _lines(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            row = _parsed(line, path, number)
            if not isinstance(row, dict):
                advice = 'write one object per line, such as {"image": "a.png", "caption": "..."}'
                raise DataError(f"{path}, line {number}: is no JSON object; {advice}")
            yield number, row


_decode = json.JSONDecoder(object_pairs_hook=once).decode  # made once: there may be a million lines


def _parsed(text: str, path: Path, line: int | None = None) -> Any:
    try:
        return _decode(text)
    except DataError as error:
        raise DataError(f"{path}{'' if line is None else f', line {line}'}: {error}") from error
    except json.JSONDecodeError as error:
        where = f"{path}, line {error.lineno if line is None else line}"
        raise DataError(f"{where}: is not valid JSON ({error.msg}); mend it") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not usable JSON ({error}); copy it again") from error


def _entries(content: Any, path: Path) -> Iterator[tuple[int | str, dict[str, Any]]]:
    """Yield the rows of a list of objects or texts, an object of id to one, or of part to lists."""
    if isinstance(content, dict) and len(content) == 1:  # what has a name, such as "data"
        [(name, inner)] = content.items()
        content = inner if _are_parts(inner) or (_is_list_of(dict, inner) and not studies.named_part(name)) else content
    if isinstance(content, list):
        for number, entry in enumerate(content, 1):
            yield number, _row(entry, f"{path}, entry {number}")
    elif _are_parts(content):
        for part, entries in content.items():
            for number, entry in enumerate(entries, 1):
                row = _row(entry, where := f"{path}, entry {number} of {part}")
                if studies.named_part(str(own := row.get(SPLIT) or part)) != studies.named_part(part):
                    raise DataError(f"{where}: split is {own!r} but it stands in {part!r}; keep one")
                yield f"{number} of {part}", {**row, SPLIT: part}
    elif isinstance(content, dict) and _are_columns(content):
        for number in next(iter(content.values())):
            yield number, {name: values[number] for name, values in content.items()}
    elif isinstance(content, dict):
        key = "key" if any(isinstance(e, dict) and ID in e for e in content.values()) else ID
        for name, entry in content.items():
            yield repr(name), {key: name, **_row(entry, f"{path}, entry {name!r}")}
    else:
        raise DataError(f"{path}: holds no list of objects; write one object per row")


def _are_parts(content: Any) -> bool:
    """Whether an object is lists of objects by names, as R2Gen's annotations are."""
    lists = content.values() if isinstance(content, dict) else [None]
    return all(isinstance(found, list) for found in lists) and any(_is_list_of(dict, found) for found in lists)


def _are_columns(content: dict[str, Any]) -> bool:
    """Whether an object is what pandas writes by default: columns, each of row number to value."""
    columns = list(content.values())
    if not columns or not columns[0] or not all(isinstance(values, dict) for values in columns):
        return False
    rows = [str(number) for number in range(len(columns[0]))]
    return list(columns[0]) == rows and all(values.keys() == columns[0].keys() for values in columns)


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
DAMAGED = "({error}); copy it again"


def parquet(path: Path) -> Rows:
    """Yield the rows of a Parquet file, or of all in a folder of partitions, which have the same columns."""
    package, known, done = require("pyarrow.parquet", f"the Parquet file {path}", "parquet"), None, 0
    for part in _whole_partitions(path) if path.is_dir() else [path]:
        with opening.open_bytes(part) as stream, one_error(DataError, f"{part}: is not a whole Parquet file {DAMAGED}"):
            file = package.ParquetFile(stream)
            names = [name.strip() for name in file.schema_arrow.names]
            if known is None:
                yield 0, names
            elif names != known:
                raise DataError(f"{part}: lacks columns of the partitions before, {', '.join(known)}; write all alike")
            batches = ([c.to_pylist() for c in b.columns] for b in file.iter_batches(BATCH))
            yield from enumerate((list(values) for batch in batches for values in zip(*batch, strict=True)), done + 1)
            known, done = names, done + file.metadata.num_rows


def _whole_partitions(folder: Path) -> list[Path]:
    """Return the partitions of a folder, all those that its manifest names, if it has one."""
    if any(folder.glob(f"*{opening.PARTITION}.part")) or (folder / f"{opening.MANIFEST}.part").exists():
        raise DataError(f"{folder}: holds an unfinished run; end it with caption --resume")
    found, manifest = opening.partitions(folder), folder / opening.MANIFEST
    if manifest.exists():
        rows = [row for _, row in _lines(opening.read_text(manifest), manifest)]
        named = {str(row["partition"]) for row in rows if "partition" in row}
        if wrong := named ^ {part.name for part in found}:
            advice = "go on with caption --resume, or copy the folder again"
            raise DataError(f"{folder / min(wrong)}: is not both there and named in {manifest.name}; {advice}")
    return found


def workbook(path: Path) -> Rows:
    """Yield the rows, numbered as it shows them, of the only sheet of a workbook with any."""
    openpyxl = require("openpyxl", f"the Excel workbook {path}", "excel")
    with opening.open_bytes(path) as stream, one_error(DataError, f"{path}: is not a whole Excel workbook {DAMAGED}"):
        book, width = openpyxl.load_workbook(stream, read_only=True, data_only=True), 0
        for number, row in enumerate(_sheet(book, path).iter_rows(values_only=True), 1):
            if all(value is None for value in row):
                continue
            if not width:
                width = len(row)
                yield number, ["" if name is None else str(name).strip() for name in row]
            elif any(value not in (None, "") for value in row[width:]):
                raise DataError(f"{path}, row {number}: has a value in a column without a name; name it")
            else:
                yield number, [*map(as_text, row[:width]), *[""] * (width - len(row))]


def _sheet(book: Any, path: Path) -> Any:
    filled = [sheet for sheet in book.worksheets if any(map(any, sheet.values))]
    if len(filled) > 1:
        names = ", ".join(sheet.title for sheet in filled)
        raise DataError(f"{path}: has {len(filled)} sheets ({names}); save the one that is meant apart")
    return [*filled, *book.worksheets][0]
