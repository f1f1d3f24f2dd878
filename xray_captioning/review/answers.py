"""The answers of readers: read, checked and unblinded with the key."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from xray_captioning.data.table import Row, read_table
from xray_captioning.errors import DataError
from xray_captioning.review.design import CRITERIA, HIGHEST, LOWEST, Case, Key, Sheet
from xray_captioning.review.sheet import unguarded


class Rating(NamedTuple):
    """How one reader rates one text."""

    reader: str
    study: str
    system: str
    repeat: bool  # whether the reader had rated the study before
    values: tuple[float, ...]  # one a criterion, from 1 to 5; nan where there is no answer
    note: str


def read_answers(key: Key, paths: Sequence[Path]) -> list[Rating]:
    """Read and unblind answers, in the order of the files and their rows.

    The files are CSV, as the page exports them, or filled-in sheets. Raise DataError for the first
    row of another sheet, an unknown case or text, a rating outside 1 to 5, or a second answer.
    """
    sheets = {sheet.sheet: sheet for sheet in key.sheets}
    seen: dict[tuple[str, int, int], str] = {}
    ratings = []
    for path in paths:
        for where, row in _rows(path):
            sheet = sheets.get(row["sheet"].strip())
            if sheet is None:
                what = f"sheet {row['sheet']!r} is not of this study, which has {', '.join(sheets)}"
                advice = "give the key or the answers that belong together"
                raise DataError(f"{where}: {what}; {advice}")
            number, place = _place(row, sheet, where)
            case = (sheet.sheet, number, place)
            if first := seen.get(case):
                what = f"case {number}, text {place} of {sheet.reader} was answered in {first}"
                raise DataError(f"{where}: {what}; keep one answer")
            seen[case] = where
            ratings.append(_rating(row, sheet, sheet.cases[number - 1], place, where))
    return ratings


def _rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Yield rows and where they are, counted as a spreadsheet does."""
    rows = read_table(path, ("sheet", "case", "text", *CRITERIA, "note"))
    if not rows:
        raise DataError(f"{path}: has no row; give a sheet with answers")
    for number, row in enumerate(rows, 2):
        if any(row.values()):  # spreadsheets may leave rows of empty cells at the end
            yield f"{path}, row {number}", row


def _place(row: Row, sheet: Sheet, where: str) -> tuple[int, int]:
    """Return the case, from 1, and which of its two texts, 1 or 2."""
    number, place = _whole(row["case"]), _whole(row["text"])
    if number is None or not 1 <= number <= len(sheet.cases):
        what = f"case {row['case']!r} is not on sheet {sheet.sheet}, which has {len(sheet.cases)}"
        raise DataError(f"{where}: {what}; put back the number that stood there")
    if place not in (1, 2):
        raise DataError(f"{where}: text is {row['text']!r}; put back 1 or 2, as it stood there")
    return number, place


def _rating(row: Row, sheet: Sheet, case: Case, place: int, where: str) -> Rating:
    values = tuple(_value(row[name], name, where) for name in CRITERIA)
    # Printed on a terminal, a control character could be a command to it.
    note = " ".join("".join(c if c.isprintable() else " " for c in unguarded(row["note"])).split())
    return Rating(sheet.reader, case.study, case.texts[place - 1], case.repeat, values, note)


def _value(text: str, name: str, where: str) -> float:
    if not text.strip():
        return math.nan
    value = _whole(text)
    if value is None or not LOWEST <= value <= HIGHEST:
        advice = f"give a whole number from {LOWEST} to {HIGHEST}, or leave it empty"
        raise DataError(f"{where}: {name} is {text!r}; {advice}")
    return float(value)


def _whole(text: str) -> int | None:
    """Read a whole number; other programs may have written 4 as 4.0."""
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value.is_integer() else None
