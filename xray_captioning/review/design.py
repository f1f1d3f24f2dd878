"""The design of a reading study: who reads what in which order, the key to it, and the answers."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple, Self

import msgspec
import numpy as np
from msgspec import Meta, Struct

from xray_captioning.data.table import Row, read_table
from xray_captioning.errors import DataError

CRITERIA = {
    "correctness": "What the text says is true of the images.",
    "completeness": "The text leaves out nothing that matters.",
    "fluency": "The text reads as a report should, whether or not it is true.",
}
LOWEST, HIGHEST = 1, 5
FORMAT = "xray-captioning reading study 1"
# A spreadsheet takes a cell that begins with one of these for a formula; the last four are the
# full-width forms that some of them take as well.
FORMULA = "=+-@\t\r\n" + "".join(chr(code) for code in (0xFF1D, 0xFF0B, 0xFF0D, 0xFF20))


class Case(Struct, frozen=True, forbid_unknown_fields=True):
    """One study as one reader is shown it."""

    study: str
    texts: tuple[str, str]  # the systems that wrote Text 1 and Text 2
    repeat: bool = False  # whether the reader has read the study before


class Sheet(Struct, forbid_unknown_fields=True):
    """What one reader is given."""

    reader: str  # ``reader-1`` …, also the name of the folder
    cases: list[Case]  # in the order of reading; the first is case 1
    sheet: str = ""  # identifies it in its answers; computed only from what the reader sees
    sha256: dict[str, str] = {}  # digest of each file in the folder


class Key(Struct, forbid_unknown_fields=True):
    """What the owner of a reading study keeps: which system wrote which text."""

    format: Annotated[str, Meta(pattern=f"^{FORMAT}$")]
    systems: tuple[str, str]  # the two that are compared, in the order they were asked for
    studies: list[str]  # ids of those that are read
    identical: int  # in how many of them both systems wrote the same
    captions_sha256: str  # of the file the texts came from
    seed: int
    sheets: list[Sheet]

    def to_json(self) -> bytes:
        """Return the content of ``key.json``."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"

    @classmethod
    def from_json(cls, path: Path) -> Self:
        """Read a key whose parts do not contradict each other."""
        try:
            key = msgspec.json.decode(path.read_bytes(), type=cls)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
        except (ValueError, msgspec.MsgspecError):
            advice = "give the key.json that review export wrote"
            raise DataError(f"{path}: is no key of a reading study; {advice}") from None
        for sheet in key.sheets:
            for number, case in enumerate(sheet.cases, 1):
                if case.study not in key.studies or set(case.texts) != set(key.systems):
                    what = f"case {number} of {sheet.reader} does not fit the studies and systems"
                    advice = "use the file as review export wrote it"
                    raise DataError(f"{path}: {what} named there; {advice}")
        return key


def draw_cases(
    studies: Sequence[str], systems: tuple[str, str], repeats: int, rng: np.random.Generator
) -> list[Case]:
    """Draw what a reader sees: all studies, in another order for each reader, each system first in
    half of the cases. As many of the first ones as `repeats` come again at the end.
    """
    order = rng.permutation(len(studies))
    shown = [*order, *rng.permutation(order[:repeats])]
    swapped = rng.permutation(np.arange(len(shown)) % 2)
    return [
        Case(studies[i], systems[::-1] if swap else systems, repeat=place >= len(order))
        for place, (i, swap) in enumerate(zip(shown, swapped))
    ]


def guarded(text: str) -> str:
    """Put an apostrophe before what a spreadsheet would take for a formula."""
    return f"'{text}" if text[:1] and text[0] in FORMULA else text


def unguarded(text: str) -> str:
    """Undo `guarded`."""
    return text[1:] if text[:1] == "'" and text[1:2] and text[1] in FORMULA else text


class Rating(NamedTuple):
    """How one reader rates one text."""

    reader: str
    study: str
    system: str
    repeat: bool  # whether the reader had rated the study before
    values: tuple[float, ...]  # one a criterion, from 1 to 5; nan where there is no answer
    note: str


def read_answers(key: Key, paths: Sequence[Path]) -> list[Rating]:
    """Read answers, exported by the page or filled-in sheets, and unblind them in their order; a
    DataError names the first row that fits no case, or is a second answer.
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
