"""Read what other systems wrote: CSV, JSON, plain text, and the result files of R2Gen's code.

==================== ==============================================================================
file                 what it holds
==================== ==============================================================================
CSV with a header    ``study_id`` and one column a system
CSV without          one column, a text a row: the ``res.csv`` that R2Gen and R2GenCMN write
JSON object          study id to text (or to a list of one text), or system to such an object
JSON list            texts, or objects of an id (``study_id``, ``id``, ``image_id`` or ``uid``) and
                     one text a system
anything else        plain text, one text a line
==================== ==============================================================================

Where no study is named, texts belong to the evaluated studies in the order of the data: that is
the order in which R2Gen's code goes through its annotation. Such a system has the name of its
file. Columns that hold the reports themselves (``reference``, ``ground_truth``) are left out.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xray_captioning.data.table import read_table
from xray_captioning.errors import DataError

Texts = Mapping[str, str] | Sequence[str]
"""Text by study id, or texts in the order of the evaluated studies."""

IDS = ("study_id", "id", "image_id", "uid")
REFERENCES = ("reference", "ground_truth", "report_gt", "gts")


def read_captions(path: Path) -> dict[str, Texts]:
    """Read the texts of one or more systems; the ending of the file's name tells its format.

    Raises
    ------
    DataError
        The file cannot be read, names no system, or names a study twice.
    """
    if path.suffix.lower() == ".csv":
        return _read_csv(path)
    return _read_json(path) if path.suffix.lower() == ".json" else {path.stem: read_lines(path)}


def in_order(system: str, texts: Texts, studies: Sequence[str]) -> list[str]:
    """Return a system's texts in the order of the studies.

    Raises
    ------
    DataError
        A study has no text, or the number of texts that name no study is another.
    """
    if not isinstance(texts, Mapping):
        if len(texts) != len(studies):
            raise DataError(
                f"system {system} has {len(texts)} texts without a study_id, but {len(studies)} "
                "studies are evaluated; give one for each, in the order of the data"
            )
        return list(texts)
    missing = [study for study in studies if study not in texts]
    if missing:
        raise DataError(
            f"system {system} has no text for study {missing[0]} ({len(missing)} of {len(studies)} "
            "evaluated studies are missing); give one for each"
        )
    return [texts[study] for study in studies]


def _read_csv(path: Path) -> dict[str, Texts]:
    lines = _single_column(path)
    if lines is not None:
        return {path.stem: lines}
    rows = read_table(path, ("study_id",), lower=False)
    if not rows:
        raise DataError(f"{path}: has no row; give a row a study")
    systems = [name for name in rows[0] if name not in ("study_id", *REFERENCES)]
    if not systems:
        raise DataError(f"{path}: has no column beside study_id; give one a system")
    return _by_study(rows, "study_id", systems, path)


def _single_column(path: Path) -> list[str] | None:
    """Return the rows of a table of one column without a header, None for any other table."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error):
        return None  # read_table says what is wrong with it
    if not rows or rows[0] == ["study_id"] or any(len(row) > 1 for row in rows):
        return None
    return [_text(row[0]) for row in rows]


def read_lines(path: Path) -> list[str]:
    """Read a file of one text a line.

    Raises
    ------
    DataError
        The file is empty or not UTF-8.
    """
    # Not splitlines(): it would also cut at a form feed and other rare characters.
    lines = [line.removesuffix("\n") for line in io.StringIO(_utf8(path), newline=None)]
    if not lines:
        raise DataError(f"{path}: is empty; give one text a line")
    return lines


def _utf8(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def _read_json(path: Path) -> dict[str, Texts]:
    text = _utf8(path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not valid JSON ({error}); mend it") from None
    if not isinstance(content, dict | list) or not content:
        raise DataError(f"{path}: holds no texts; give study ids and texts, or a list of texts")
    if isinstance(content, list):
        return _from_list(content, path)
    if all(isinstance(value, dict) for value in content.values()):
        return {system: _from_object(texts, path) for system, texts in content.items()}
    return {path.stem: _from_object(content, path)}


def _from_object(texts: dict[str, Any], path: Path) -> dict[str, str]:
    return {study: _only(text, f"{path}, study {study}") for study, text in texts.items()}


def _from_list(entries: list[Any], path: Path) -> dict[str, Texts]:
    if not any(isinstance(entry, dict) for entry in entries):
        return {path.stem: [_only(t, f"{path}, entry {n}") for n, t in enumerate(entries, 1)]}
    first = entries[0] if isinstance(entries[0], dict) else {}
    key = next((name for name in IDS if name in first), None)
    systems = [name for name in first if name not in (*IDS, *REFERENCES)]
    if key is None or not systems:
        raise DataError(
            f"{path}, entry 1: needs a study_id and a text for each system; "
            f"found: {', '.join(first) or 'no object'}"
        )
    for number, entry in enumerate(entries, 1):
        lacking = [n for n in (key, *systems) if not isinstance(entry, dict) or n not in entry]
        if lacking:
            raise DataError(f"{path}, entry {number}: lacks {lacking[0]}; give it in every entry")
    return _by_study(entries, key, systems, path)


def _by_study(
    rows: Sequence[Mapping[str, Any]], key: str, systems: Sequence[str], path: Path
) -> dict[str, Texts]:
    """Return each system's texts by study id, from a row or object a study."""
    ids = [str(row[key]) for row in rows]
    study, count = Counter(ids).most_common(1)[0]
    if count > 1:
        raise DataError(f"{path}: study {study} is named twice; keep one row")
    return {
        name: {i: _only(row[name], f"{path}, study {i}, {name}") for i, row in zip(ids, rows)}
        for name in systems
    }


def _only(value: Any, where: str) -> str:
    """Return a text, or the only text of a list: COCO's result files hold such lists."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str):
        raise DataError(f"{where}: is {type(value).__name__}, not one text; write '' for no text")
    return _text(value)


def _text(value: str) -> str:
    # Half of a surrogate pair, which JSON allows, can be written to no file.
    return value.encode("utf-8", "replace").decode("utf-8")
