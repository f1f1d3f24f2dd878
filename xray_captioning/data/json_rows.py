"""Rows out of JSON: lists of objects, JSON lines, and objects of id to object."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xray_captioning.data.opening import open_text
from xray_captioning.errors import DataError

ID, TEXT = "id", "text"
_LINES = (".jsonl", ".ndjson")


def read_json(path: Path) -> Any:
    """Read a JSON file, packed or not; raise a DataError where it is not text or not JSON."""
    with open_text(path) as file:
        return _parsed(file.read(), path)


class JsonRows:
    """The rows of a JSON file; its columns are the keys of all objects in order of appearance.

    What the first object has, all have: a key that is lost from a later one is a DataError.
    """

    def __init__(self, path: Path) -> None:
        with open_text(path) as file:
            text = file.read()
        lines = is_lines(text, path)
        self.unit = "line" if lines else "entry"
        self._rows = list(_lines(text, path) if lines else _entries(_parsed(text, path), path))
        self.columns = list(dict.fromkeys(key for _, row in self._rows for key in row))
        first = self._rows[0][1] if self._rows else {}
        for place, row in self._rows:
            if not row.keys() >= first.keys():
                lost = next(key for key in first if key not in row)
                raise DataError(
                    f"{path}, {self.unit} {place}: lacks {lost!r}, which the first has; write null "
                    "for what is missing"
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
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return False
    return True


def _lines(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            row = _parsed(line, path, number)
            if not isinstance(row, dict):
                raise DataError(
                    f"{path}, line {number}: is no JSON object; write one object a line, such as "
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
        raise DataError(f"{path}: holds no list of objects; write one object a row")


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
    raise DataError(f"{where}: is neither an object of columns nor a text; write one object a row")


def _is_list_of(kind: type, entry: Any) -> bool:
    return isinstance(entry, list) and bool(entry) and all(isinstance(e, kind) for e in entry)
