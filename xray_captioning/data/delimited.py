"""Tables of text with a sign between the fields of a line: CSV, TSV and their relatives."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TextIO

from xray_captioning.data.opening import HEAD_BYTES, open_text
from xray_captioning.errors import DataError

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
Records = Iterator[tuple[int, list[str]]]
"""The number of the line in which a row begins, and its fields."""

_HINT = re.compile(r"sep=(.)\r?\n")  # a first line that Excel writes and understands


class Delimited:
    """A table of text, read row by row, as strictly as errors can be told from contents.

    The first row names the columns, unless their names are given: then there is no such row, and
    where tabs are between the fields, quotes are letters, as in the files of Flickr's captions.
    """

    unit = "line"

    def __init__(self, path: Path, columns: Sequence[str] | None = None) -> None:
        self.path, self.headless = path, columns is not None
        with open_text(path) as file:
            head = file.read(HEAD_BYTES)
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

    def __iter__(self) -> Records:
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

    def _rows(self, file: TextIO) -> Records:
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
                f"{self.path}, {where}: is not valid CSV ({error}); check the quotes there"
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
    """Return the sign between the fields: one of the header line that splits the rows alike.

    A comma where the header holds none of them: the table has one column. Two that fit, and split
    the table differently, are a DataError.
    """
    candidates = [sign for sign in DELIMITERS if max(_widths(sample, sign, 1), default=0) > 1]
    if len(candidates) < 2:
        return candidates[0] if candidates else ","
    widths = {sign: _widths(sample, sign, 200) for sign in candidates}
    alike = {sign: found.count(found[0]) for sign, found in widths.items()}
    fitting = [sign for sign in candidates if alike[sign] == max(alike.values())]
    if len(fitting) > 1:
        names = " or ".join(DELIMITERS[sign] for sign in fitting)
        raise DataError(
            f"{path}: its fields may be separated by {names}; put the names of columns that hold "
            "one in quotes, or save it with tabs"
        )
    return fitting[0]


def _widths(sample: str, delimiter: str, rows: int) -> list[int]:
    """Return how many fields the first rows of a sample have, up to one that is not valid."""
    found: list[int] = []
    with suppress(csv.Error):
        for row in islice(_reader(io.StringIO(sample, newline=""), delimiter), rows):
            found += [len(row)] if row else []
    return found


def _reader(file: TextIO, delimiter: str, quoting: int = csv.QUOTE_MINIMAL) -> csv._reader:  # type: ignore[name-defined]
    return csv.reader(file, delimiter=delimiter, quoting=quoting, strict=True)  # type: ignore[arg-type]
