"""The columns of a file of results: JSON in the shapes that people write, and what a column holds.

==================================================== ===============================================
shape                                                read as
==================================================== ===============================================
``[{"id": 1, "pred": "…"}, …]``                      one row per object
``{"id": 1, "pred": "…"}``                            one row
``{"1": {"report": "…", "pred": "…"}, …}``           one row per study
``{"1": "…"}``, ``{"1": ["…"]}``                     one system's text by study
``{"mine": {"1": "…"}, "theirs": {"1": "…"}}``       systems by name, their texts by study
``{"pred": ["…"], "ref": ["…"]}``,                   columns; the second as pandas writes them, or
``{"res": {"0": "…"}, "gts": {"0": "…"}}``           R2Gen's dictionaries
``["…", "…"]``                                       texts in the order of the studies
``{"predictions": …, "bleu": 0.3}``                  the one list or object among single values
``{"train": […], "test": […]}``                      the rows of all lists of objects
``{"images": […], "annotations": […], "info": {}}``  COCO: the rows of ``annotations``
==================================================== ===============================================

Names and contents tell the role of a column. The names of each role are in ``result_columns.toml``;
any other name is that of a system, whose texts the column holds, if it is text of several words.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from xray_captioning.data.records import as_text
from xray_captioning.errors import DataError
from xray_captioning.evaluation.baselines import BASELINES
from xray_captioning.files import read_toml
from xray_captioning.findings import SHUFFLED

ID, INDEX, PREDICTION, REFERENCE = "id", "index", "prediction", "reference"
REPORT, METADATA, SYSTEM = "report", "metadata", "system"
Values = Sequence[Any]
Columns = dict[str, list[Any]]
STUDY = "study_id"

ALONE = "(texts)"  # the column of texts that nothing names
_NAMES: dict[str, list[str]] = {
    role: words.split() for role, words in read_toml(__file__, "result_columns.toml").items()
}
IDS = tuple(_NAMES[ID])  # names of columns that tell which study a text is of, the surest first
_INDEX = {"", *_NAMES[INDEX]}
_PREDICTED, _TRUE = frozenset(_NAMES[PREDICTION]), frozenset(_NAMES[REFERENCE])
_REPORTS, _METADATA = frozenset(_NAMES[REPORT]), frozenset(_NAMES[METADATA])
_NEUTRAL = _REPORTS | {"model", "the", "full", "final", "section"}


@cache
def role(name: str) -> str:
    """Return the role of a column by its name alone; of a nested one, ``a.b``, by its parts."""
    words = _words(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))
    key, last = "_".join(words), re.split(r"\W+", name.rsplit(".", 1)[-1].strip().lower())
    if id_rank(name) is not None:
        return ID
    if key in _INDEX or words[0] == "unnamed":
        return INDEX
    predicted, true = _PREDICTED.intersection(words), _TRUE.intersection(words)
    if key in _METADATA or words[0] == "section" or "_".join(last) in _METADATA:
        return REFERENCE if words[0] == "section" and _REPORTS.intersection(words) else METADATA
    if predicted or true:
        return METADATA if predicted and true else PREDICTION if predicted else REFERENCE
    return REPORT if set(words) <= _NEUTRAL else SYSTEM


def likely_ids(columns: Mapping[str, Values]) -> list[str]:
    """Return the columns of no usual name whose values, all different words, are hardly but ids."""
    found = {name: [str(as_text(v)).strip() for v in columns[name]] for name in columns}
    return [
        name
        for name, values in found.items()
        if role(name) == SYSTEM and len(set(values)) == len(values) > 1
        if all(map(_LIKELY_ID.fullmatch, values)) and not (counts(0, values) or counts(1, values))
    ]


# A whole number, or a word with a digit and with what no other number and no time has.
_LIKELY_ID = re.compile(r"\d+|(?=.*\d)(?=.*[^\d.,:%eETZ+-])\S+")


def counts(start: int, numbers: Sequence[str]) -> bool:
    """Whether numbers count the rows from `start`."""
    return all(number == str(row) for row, number in enumerate(numbers, start))


def names_column(text: str) -> bool:
    """Whether a text is a usual name of a column and no report: every word of it is of such."""
    words = _words(text)
    known = 0 < len(words) <= 3 and set(words) <= _PREDICTED | _TRUE | _NEUTRAL
    return text.strip()[-1:] != "." and (known or id_rank(text) is not None)


def id_rank(name: str) -> int | None:
    """Return how early in `IDS` a name or its plural comes, in any spelling; None: it is no id."""
    key = "".join(_words(name.rsplit(".", 1)[-1]))
    return _RANKS.get(key, _RANKS.get(key.removesuffix("s")))


def _words(name: str) -> list[str]:
    return re.findall(r"[^\W_]+", name.lower())


_RANKS = {"".join(_words(name)): rank for rank, name in enumerate(IDS)}


def predictions(path: Path, columns: Mapping[str, Values], asked: Sequence[str] = ()) -> list[str]:
    """Return the columns that hold what systems wrote: those asked for, or those that look so. One
    that says "prediction" and no more is the only one; else all with names of their own and texts
    of several words, baselines and shuffled systems aside, or the only column beside the ids, or a
    lone report. No sure rule is a DataError.
    """
    if ALONE in columns:
        return [ALONE]
    if asked:
        return _asked(path, columns, asked)
    if {"study", "images", "caption", "log_probability"} <= columns.keys():
        return ["caption"]  # written by the command caption
    kinds = _kinds(columns)
    predicted = [name for name, kind in kinds.items() if kind == PREDICTION]
    if plain := [n for n in predicted if set(_words(n)) <= _PREDICTED | _NEUTRAL]:
        return _only(path, columns, plain)
    alone = sum(role(name) not in (ID, INDEX) for name in columns) == 1
    own = [
        name
        for name, kind in kinds.items()
        if kind == PREDICTION or (kind == SYSTEM and (alone or _has_sentences(columns[name])))
    ]
    if predicted:
        return own
    reports = [name for name, kind in kinds.items() if kind == REPORT]
    if reports or not own:
        return _only(path, columns, [*reports, *own])
    return [name for name in own if not _is_baseline(name)] or own


def references(path: Path, columns: Mapping[str, Values], asked: str | None = None) -> str:
    """Return the column that holds the reports: one named so, or the only one of texts."""
    if ALONE in columns:
        return ALONE
    if asked is not None:
        return _asked(path, columns, [asked])[0]
    kinds, found = _kinds(columns), list[str]()
    for wanted in ((REFERENCE,), (REPORT,), (SYSTEM, PREDICTION)):
        found = found or [name for name, kind in kinds.items() if kind in wanted]
    return _only(path, columns, found, "--reference")[0]


def other_texts(columns: Mapping[str, Values], chosen: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of texts that may be what systems wrote, but are not among the chosen."""
    return tuple(
        name
        for name, values in columns.items()
        if name not in chosen and role(name) in (PREDICTION, SYSTEM, REPORT)
        if any(_has_sentences([value]) for value in values)
    )


def _asked(path: Path, columns: Mapping[str, Values], asked: Sequence[str]) -> list[str]:
    if found := [name for name in asked if name in columns]:
        return found
    raise DataError(f"{path}: has no column {', '.join(asked)}; its columns are: {_named(columns)}")


def _only(path: Path, columns: Mapping[str, Values], found: list[str], option: str = "--prediction") -> list[str]:
    """Return the one column that was found; none or several are a DataError."""
    if len(found) == 1:
        return found
    side = "the reports" if option == "--reference" else "what the system wrote"
    what = f"each of {', '.join(found)} may be {side}" if found else f"no column is {side}"
    raise DataError(f"{path}: {what}; its columns are: {_named(columns)}; name the one: {option} COLUMN")


def _named(columns: Mapping[str, Values]) -> str:
    shown = [name or "''" for name in islice(columns, 20)]
    return ", ".join(shown) + (", …" if len(columns) > len(shown) else "")


def _is_baseline(name: str) -> bool:
    return name in BASELINES or name.startswith("retrieval ") or f" {SHUFFLED}" in name


def _kinds(columns: Mapping[str, Values]) -> dict[str, str]:
    """Return the roles of columns that hold text: a letter somewhere, or nothing throughout."""
    texts = {name: map(_text, values) for name, values in columns.items()}
    return {
        name: role(name)
        for name, found in texts.items()
        if any(any(map(str.isalpha, text)) for text in found) or not any(columns[name])
    }


def _has_sentences(values: Values) -> bool:
    """Whether most values that are not empty are texts of several words, not names or paths."""
    texts = [text for value in values if (text := _text(value))]
    several = sum(" " in text.strip() and text[:1] not in "[{" for text in texts)
    return 2 * several >= len(texts) > 0


def _text(value: Any) -> str:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, str) else ""


def json_columns(content: Any, path: Path) -> Columns:
    """Return the content of a JSON file as columns of one length, None where there is no value."""
    if isinstance(content, dict):
        content = _unwrapped(content)
    if not isinstance(content, dict | list) or not content:
        raise DataError(f"{path}: holds no texts; give study ids and texts, or a list of texts")
    return _of_list(content, path) if isinstance(content, list) else _of_object(content, path)


def _unwrapped(content: dict[str, Any]) -> Any:
    """Return the one list or object of texts that an object has beside scores and settings."""
    rest = [
        value
        for name, value in content.items()
        if not (_is_single(value) or (isinstance(value, str) and role(name) == METADATA))
    ]
    lone = len(rest) == 1 < len(content) and isinstance(rest[0], dict | list)
    return rest[0] if lone else content


def _is_single(value: Any) -> bool:
    """Whether a value is a number, or an object of settings: numbers, and texts of one word."""
    if isinstance(value, dict):
        return bool(value) and all(_is_single(v) or (isinstance(v, str) and " " not in v) for v in value.values())
    return isinstance(value, int | float)


def _of_list(entries: Sequence[Any], path: Path) -> Columns:
    if _of_objects(entries):
        return rows_to_columns(entries)
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, str | list):
            kind, advice = type(entry).__name__, "give texts alone, or objects alone"
            raise DataError(f"{path}, entry {number}: is {kind}; {advice}")
    return {ALONE: list(entries)}


def _of_object(content: dict[str, Any], path: Path) -> Columns:
    if _of_objects(content.get("annotations", ())):
        return _of_coco(content["annotations"], content.get("images"))
    values = list(content.values())
    if all(_of_objects(value) for value in values):
        return rows_to_columns([entry for value in values for entry in value])
    if all(isinstance(value, list) for value in values) and _are_columns(content):
        if len({len(value) for value in values}) > 1:
            raise DataError(f"{path}: its columns have different lengths; give one value per study")
        return dict(content)
    if all(isinstance(value, dict) for value in values):
        return _of_objects_by_name(content)
    if _are_columns(content) and not any(isinstance(value, list) for value in values):
        return rows_to_columns([content])
    return {STUDY: list(content), ALONE: values}


def _of_coco(annotations: Sequence[dict[str, Any]], images: Any) -> Columns:
    """Return COCO's captions, each with the name of its image's file."""
    listed = images if _of_objects(images) else []
    names = {image.get("id"): image["file_name"] for image in listed if "file_name" in image}
    if names:
        annotations = [a | {"file_name": names.get(a.get("image_id"))} for a in annotations]
    return rows_to_columns(annotations)


def _of_objects(entries: Any) -> bool:
    lists = isinstance(entries, list) and bool(entries)
    return lists and all(isinstance(entry, dict) for entry in entries)


def _are_columns(content: Mapping[str, Any]) -> bool:
    """Whether the names of an object's values are those of columns, not ids of studies."""
    return any(role(name) != SYSTEM for name in content)


def _of_objects_by_name(content: dict[str, dict[str, Any]]) -> Columns:
    """Return objects in an object as columns: of columns, of a study each, or of a system each."""
    keys = list(dict.fromkeys(key for inner in content.values() for key in inner))
    if not _are_columns(content) and any(role(str(key)) != SYSTEM for key in keys):
        return {STUDY: list(content), **rows_to_columns(list(content.values()))}
    columns = {name: [inner.get(key) for key in keys] for name, inner in content.items()}
    return columns if STUDY in columns else {STUDY: keys, **columns}


def rows_to_columns(rows: Sequence[Mapping[str, Any]]) -> Columns:
    """Return objects as columns; those of an object in each of them are called ``name.inner``."""
    names = dict.fromkeys(key for row in rows for key in row)
    return flattened({name: [row.get(name) for row in rows] for name in names})


def flattened(columns: Columns) -> Columns:
    """Return columns of objects as columns of their values."""
    found: Columns = {}
    for name, values in columns.items():
        if any(isinstance(value, dict) for value in values):
            inner = rows_to_columns([v if isinstance(v, dict) else {} for v in values])
            found |= {f"{name}.{key}": column for key, column in inner.items()}
        else:
            found[name] = values
    return found
