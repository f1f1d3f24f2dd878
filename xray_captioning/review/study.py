"""A reading study: who reads what in which order, blinded sheets, the key to them, and answers."""

import contextlib
import csv
import hashlib
import io
import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

import msgspec
import numpy as np
from msgspec import Meta, Struct

from xray_captioning import files
from xray_captioning.data.images import read_image
from xray_captioning.data.table import Row, Table
from xray_captioning.errors import ConfigError, DataError
from xray_captioning.evaluation import caption_files, matching
from xray_captioning.plots.images import data_uri, render

CRITERIA: dict[str, str] = files.read_toml(__file__, "criteria.toml")  # what each asks
LOWEST, HIGHEST = 1, 5
FORMAT = "xray-captioning reading study 1"
# A spreadsheet takes a cell that begins with one of these for a formula; the last four are the
# full-width forms that some of them take as well.
FORMULA = "=+-@\t\r\n" + "".join(chr(code) for code in (0xFF1D, 0xFF0B, 0xFF0D, 0xFF20))
LONGEST = 768  # pixels of an image's longer side in a sheet
COLUMNS = ("sheet", "case", "study", "text", "report", *CRITERIA, "note")
Pair = tuple[str, str]
Texts = dict[str, Pair]
Views = Mapping[str, Sequence[tuple[str, str]]]  # path and view
Pictures = dict[str, list[dict[str, str]]]  # view and uri
Boxes = dict[Pair, list[Any]]  # by system and study: pictures' numbers, findings and boxes


class Seen(Struct):
    """A region of a caption; its box is in shares of the image, of which it has the file's name."""

    image: str
    finding: str
    box: tuple[float, float, float, float]


class Case(Struct, frozen=True, forbid_unknown_fields=True):
    """One study as one reader is shown it."""

    study: str
    texts: Pair  # the systems that wrote Text 1 and Text 2
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
    systems: Pair  # the two that are compared, in the order they were asked for
    studies: list[str]  # ids of those that are read
    identical: int  # in how many of them both systems wrote the same
    captions_sha256: str  # of the file the texts came from
    seed: int
    sheets: list[Sheet]

    @classmethod
    def from_json(cls, path: Path) -> Self:
        """Read a key whose parts do not contradict each other."""
        key: Self = files.read_json(path, "give the key of a reading study that review export wrote", DataError, cls)
        cases = ((case, n, sheet.reader) for sheet in key.sheets for n, case in enumerate(sheet.cases, 1))
        for case, number, reader in cases:
            if case.study not in key.studies or set(case.texts) != set(key.systems):
                what = f"case {number} of {reader} does not fit its studies and systems"
                raise DataError(f"{path}: {what}; use the file as review export wrote it")
        return key


def draw_cases(studies: Sequence[str], systems: Pair, repeats: int, rng: np.random.Generator) -> list[Case]:
    """Draw what a reader sees: all studies in any order, `repeats` of them twice, each system first in half."""
    order = rng.permutation(len(studies))
    shown = [*order, *rng.permutation(order[:repeats])]
    return [
        Case(studies[i], systems[::-1] if swap else systems, repeat=place >= len(order))
        for place, (i, swap) in enumerate(zip(shown, rng.permutation(np.arange(len(shown)) % 2)))
    ]


def guarded(text: str) -> str:
    """Put an apostrophe before what a spreadsheet would take for a formula."""
    return f"'{text}" if text[:1] and text[0] in FORMULA else text


def unguarded(text: str) -> str:
    """Undo `guarded`."""
    return text[1:] if text[:1] == "'" and text[1:2] and text[1] in FORMULA else text


def export_study(
    captions: Path,
    systems: Pair,
    out: Path,
    views: Views | None = None,
    studies: int = 50,
    readers: int = 2,
    repeats: int = 0,
    seed: int = 0,
) -> Key:
    """Write a reading study of two columns of `captions` into `out`, new or empty. The draw depends on the seed and
    on the bytes of `captions`, which no reader has. Studies without an image in `views` are left out; without
    `views` the sheets name the studies.
    """
    files.check_new_folder(out)
    texts = read_texts(captions, systems, views)
    if not (usable := [study for study in texts if views is None or views.get(study)]):
        raise DataError(f"{captions}: no study there has an image on disk; check the data")
    digest = files.sha256_file(captions)
    rng = np.random.default_rng([seed, int(digest, 16)])
    drawn = [usable[i] for i in rng.permutation(len(usable))[:studies]]
    if repeats > len(drawn):
        raise ConfigError(f"{repeats} repeats of {len(drawn)} studies are too many; ask for fewer")
    names = [f"reader-{number}" for number in range(1, readers + 1)]
    sheets = [Sheet(name, draw_cases(drawn, systems, repeats, rng)) for name in names]
    identical = sum(texts[study][0] == texts[study][1] for study in drawn)
    key = Key(FORMAT, systems, sorted(drawn), identical, digest, seed, sheets)
    pictures = None if views is None else _pictures({study: views[study] for study in key.studies})
    boxes = read_boxes(captions, systems, views or {})
    with files.new_folder(out) as folder:
        for sheet in sheets:
            for name, data in sheet_files(sheet, systems, texts, pictures, boxes).items():
                sheet.sha256[name] = hashlib.sha256(data).hexdigest()
                files.atomic_write(folder / sheet.reader / name, data)
        files.atomic_write(folder / "key.json", msgspec.json.format(msgspec.json.encode(key), indent=1) + b"\n")
    return key


def read_texts(path: Path, systems: Pair, views: Views | None = None) -> Texts:
    """Read what two systems wrote, in one line; studies that `views` has are called as there."""
    if systems[0] == systems[1]:
        raise ConfigError(f"system {systems[0]} cannot be compared with itself; name another")
    columns = caption_files.read_named(path, systems)
    if not all(written.ids for written in columns):
        raise DataError(f"{path}: names no study; give a column study_id")
    if views:
        studies = matching.Studies(list(views), [[path for path, _ in found] for found in views.values()])
    else:  # studies are called as in the file
        values = (str(value).strip() for written in columns for value in next(iter(written.ids.values())))
        studies = matching.Studies(list(dict.fromkeys(values)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", matching.ResultsWarning)  # a study without an image is none of `views`
        first, second = (matching.by_row(name, written, studies) for name, written in zip(systems, columns))
    if alone := sorted(first.keys() ^ second.keys()):
        such = studies.ids[alone[0]]
        raise DataError(f"{path}: {len(alone)} studies have a text of one system only, such as {such}; give both")
    one, other = ([" ".join(text.split()) for text in written.texts] for written in columns)
    return {studies.ids[n]: (one[place], other[second[n]]) for n, place in first.items()}


def read_boxes(captions: Path, systems: Pair, views: Views) -> Boxes | None:
    """Read regions beside captions, if both systems have them: those of one would tell which texts are its own."""
    if not views or not (file := captions.with_suffix(caption_files.REGIONS)).is_file():
        return None
    found = files.read_json(file, "let evaluate write it again", DataError, dict[str, dict[str, list[Seen]]])
    if not found.keys() >= {*systems}:
        return None
    boxes, studies = Boxes(), matching.Studies(list(views), [[path for path, _ in of] for of in views.values()])
    for system in systems:
        by_row = dict(zip(studies.rows(list(found[system])), found[system].values()))
        for row, (study, pictures) in enumerate(views.items()):
            names = [Path(path).name for path, _ in pictures]
            own = [one for one in by_row.get(row, ()) if one.image in names]
            boxes[system, study] = [[names.index(one.image), one.finding, one.box] for one in own]
    return boxes


def sheet_files(sheet: Sheet, systems: Pair, texts: Texts, pictures: Pictures | None, boxes: Any) -> dict[str, bytes]:
    """Return a reader's files by name, and name the sheet; none tells which system wrote a text."""
    cases: list[dict[str, Any]] = []
    for case in sheet.cases:
        written = [texts[case.study][systems.index(system)] for system in case.texts]
        seen, name = ([], case.study) if pictures is None else (pictures[case.study], "")
        where = {"regions": [boxes[system, case.study] for system in case.texts]} if boxes else {}
        cases.append({"study": name, "pictures": seen, "texts": written, **where})
    shown = json.dumps([sheet.reader, cases], sort_keys=True).encode("ascii")
    sheet.sheet = f"{sheet.reader}-{hashlib.sha256(shown).hexdigest()[:12]}"
    values = {"sheet": sheet.sheet, "columns": COLUMNS, "criteria": CRITERIA, "formula": FORMULA, "cases": cases}
    page = render("review/page.html", sheet=values)
    return {"sheet.html": page.encode("utf-8"), "sheet.csv": _table(sheet.sheet, cases)}


def _pictures(views: Views) -> Pictures:
    bar = files.progress(views.items(), desc="images", unit="study")
    return {s: [{"view": v, "uri": data_uri(read_image(p, LONGEST, "shrink"))} for p, v in found] for s, found in bar}


def _table(name: str, cases: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for number, case in enumerate(cases, 1):
        for place, report in enumerate(case["texts"], 1):
            shown = [name, number, guarded(case["study"]), place, guarded(report)]
            writer.writerow([*shown, *[""] * (len(CRITERIA) + 1)])
    return text.getvalue().encode("utf-8-sig")  # with the mark that spreadsheets know UTF-8 by


class Rating(NamedTuple):
    """How one reader rates one text."""

    reader: str
    study: str
    system: str
    repeat: bool  # whether the reader had rated the study before
    values: tuple[float, ...]  # one a criterion, from 1 to 5; nan where there is no answer
    note: str


def read_answers(key: Key, paths: Sequence[Path]) -> list[Rating]:
    """Read and unblind answers in their order; a DataError names the first row that fits no case."""
    sheets = {sheet.sheet: sheet for sheet in key.sheets}
    seen: dict[tuple[str, int, int], str] = {}
    ratings = []
    for path in paths:
        for where, row in _rows(path):
            if (sheet := sheets.get(row["sheet"].strip())) is None:
                what = f"sheet {row['sheet']!r} is not of this study, which has {', '.join(sheets)}"
                raise DataError(f"{where}: {what}; give the key or the answers that belong together")
            number, place = _place(row, sheet, where)
            if first := seen.get((sheet.sheet, number, place)):
                what = f"case {number}, text {place} of {sheet.reader} was answered in {first}"
                raise DataError(f"{where}: {what}; keep one answer")
            seen[sheet.sheet, number, place] = where
            ratings.append(_rating(row, sheet, sheet.cases[number - 1], place, where))
    return ratings


def _rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Yield rows and where they are, counted as a spreadsheet does."""
    table = Table(path)
    names = tuple(name.lower() for name in table.columns)
    if missing := {"sheet", "case", "text", *CRITERIA, "note"}.difference(names):
        raise DataError(f"{path}: lacks the column {', '.join(sorted(missing))}; {table.found()}")
    table.columns = names
    if not (rows := list(table)):
        raise DataError(f"{path}: has no row; give a sheet with answers")
    for number, row in enumerate(rows, 2):
        if any(row.values()):  # spreadsheets may leave rows of empty cells at the end
            yield f"{path}, row {number}", row


def _place(row: Row, sheet: Sheet, where: str) -> tuple[int, int]:
    """Return the case, from 1, and which of its two texts, 1 or 2."""
    what = f"case {row['case']!r} is not on sheet {sheet.sheet}, which has {len(sheet.cases)}"
    number = _whole(row["case"], 1, len(sheet.cases), f"{where}: {what}; put back the number that stood there")
    return number, _whole(row["text"], 1, 2, f"{where}: text is {row['text']!r}; put back 1 or 2, as it stood there")


def _rating(row: Row, sheet: Sheet, case: Case, place: int, where: str) -> Rating:
    advice = f"give a whole number from {LOWEST} to {HIGHEST}, or leave it empty"
    told = {name: f"{where}: {name} is {row[name]!r}; {advice}" for name in CRITERIA}
    values = [_whole(row[n], LOWEST, HIGHEST, told[n]) if row[n].strip() else math.nan for n in CRITERIA]
    # Printed on a terminal, a control character could be a command to it.
    note = " ".join("".join(c if c.isprintable() else " " for c in unguarded(row["note"])).split())
    return Rating(sheet.reader, case.study, case.texts[place - 1], case.repeat, tuple(map(float, values)), note)


def _whole(text: str, least: int, most: int, otherwise: str) -> int:
    """Read a whole number in a range, or refuse; other programs may have written 4 as 4.0."""
    with contextlib.suppress(ValueError):
        if (value := float(text)).is_integer() and least <= value <= most:
            return int(value)
    raise DataError(otherwise)
