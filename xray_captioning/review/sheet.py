"""Blinded sheets: a folder for each reader, and the key, which no reader gets."""

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xray_captioning import files
from xray_captioning.data.images import read_image
from xray_captioning.errors import ConfigError, DataError
from xray_captioning.evaluation.caption_files import TextColumn, read_named
from xray_captioning.evaluation.matching import Studies, best_column
from xray_captioning.plots.images import data_uri
from xray_captioning.plots.pages import render
from xray_captioning.review.design import CRITERIA, FORMAT, FORMULA, Key, Sheet, draw_cases, guarded

LONGEST = 768  # pixels of an image's longer side in a sheet
COLUMNS = ("sheet", "case", "study", "text", "report", *CRITERIA, "note")

Texts = dict[str, tuple[str, str]]
Views = Mapping[str, Sequence[tuple[str, str]]]  # path and view
Pictures = dict[str, list[dict[str, str]]]  # view and uri


def export_study(
    captions: Path,
    systems: tuple[str, str],
    out: Path,
    views: Views | None = None,
    studies: int = 50,
    readers: int = 2,
    repeats: int = 0,
    seed: int = 0,
) -> Key:
    """Write a reading study, whole or not at all.

    `systems` are two columns of `captions`, on whose bytes, which no reader has, and the seed the
    draw depends. `out`, new or empty, gets ``key.json`` and a folder for each reader with
    ``sheet.html`` and ``sheet.csv``. Studies without an image in `views` are left out; without
    `views` the sheets name the studies. `studies` are drawn at most; `repeats` of them are shown
    again at the end.
    """
    files.check_new_folder(out)
    texts = read_texts(captions, systems, views)
    usable = [study for study in texts if views is None or views.get(study)]
    if not usable:
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
    with files.new_folder(out) as folder:
        for sheet in sheets:
            made = sheet_files(sheet, systems, texts, pictures)
            sheet.sha256 = {name: hashlib.sha256(data).hexdigest() for name, data in made.items()}
            for name, data in made.items():
                files.atomic_write(folder / sheet.reader / name, data)
        files.atomic_write(folder / "key.json", key.to_json())
    return key


def read_texts(path: Path, systems: tuple[str, str], views: Views | None = None) -> Texts:
    """Read what two systems wrote, in one line; studies are called as in `views`, where that has
    them by another spelling of their ids or by an image.
    """
    if systems[0] == systems[1]:
        raise ConfigError(f"system {systems[0]} cannot be compared with itself; name another")
    first, second = (_by_study(path, w, views) for w in read_named(path, systems))
    if alone := sorted(first.keys() ^ second.keys()):
        what = f"{len(alone)} studies have a text of one system only, such as {alone[0]}"
        raise DataError(f"{path}: {what}; give both")
    return {study: (text, second[study]) for study, text in first.items()}


def _by_study(path: Path, written: TextColumn, views: Views | None) -> dict[str, str]:
    if not written.ids:
        raise DataError(f"{path}: names no study; give a column study_id")
    texts: dict[str, str] = {}
    for number, (study, text) in enumerate(zip(_study_ids(written, views), written.texts), 2):
        if not study or study in texts:
            what = f"study {study} has two rows" if study else "study_id is empty"
            raise DataError(f"{path}, row {number}: {what}; give each study one row")
        if not isinstance(text, str):
            raise DataError(f"{path}, row {number}: holds {len(text)} texts; give one")
        texts[study] = " ".join(text.split())
    return texts


def _study_ids(written: TextColumn, views: Views | None) -> list[str]:
    """Return the studies as the data calls them; those it lacks, and all without data, as given."""
    if views is None:
        return [str(value).strip() for value in next(iter(written.ids.values()))]
    studies = Studies(list(views), [[path for path, _ in found] for found in views.values()])
    column, rows, _ = best_column(written, studies)
    given = zip(written.ids[column], rows)
    return [str(v).strip() if row is None else studies.ids[row] for v, row in given]


def sheet_files(
    sheet: Sheet, systems: tuple[str, str], texts: Texts, pictures: Pictures | None
) -> dict[str, bytes]:
    """Return a reader's files by name, and name the sheet: nothing in there depends on which system
    wrote a text, but for the texts, which are in the order of `systems`.
    """
    cases = [
        {
            "study": case.study if pictures is None else "",
            "pictures": [] if pictures is None else pictures[case.study],
            "texts": [texts[case.study][systems.index(system)] for system in case.texts],
        }
        for case in sheet.cases
    ]
    seen = json.dumps([sheet.reader, cases], sort_keys=True).encode("ascii")
    sheet.sheet = f"{sheet.reader}-{hashlib.sha256(seen).hexdigest()[:12]}"
    return {"sheet.html": _page(sheet.sheet, cases), "sheet.csv": _table(sheet.sheet, cases)}


def _pictures(views: Views) -> Pictures:
    from tqdm import tqdm

    bar = tqdm(views.items(), desc="images", unit="study", disable=files.no_terminal())
    return {
        study: [{"view": v, "uri": data_uri(read_image(p, LONGEST, "shrink"))} for p, v in found]
        for study, found in bar
    }


def _page(name: str, cases: list[dict[str, Any]]) -> bytes:
    values = {"sheet": name, "columns": COLUMNS, "criteria": CRITERIA, "formula": FORMULA}
    return render("review/page.html", sheet={**values, "cases": cases}).encode("utf-8")


def _table(name: str, cases: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for number, case in enumerate(cases, 1):
        for place, report in enumerate(case["texts"], 1):
            shown = [name, number, guarded(case["study"]), place, guarded(report)]
            writer.writerow([*shown, *[""] * (len(CRITERIA) + 1)])
    return text.getvalue().encode("utf-8-sig")  # with the mark that spreadsheets know UTF-8 by
