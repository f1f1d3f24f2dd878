"""The columns of a file of results, and what each holds, as its name and its content tell. The names of each role, and
the shapes of JSON that are read, are in ``result_columns.toml``; any other name is that of a system, whose texts the
column holds, if it is text of several words.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import chain, islice, product
from pathlib import Path
from typing import Any

from xray_captioning import files, findings
from xray_captioning.data.records import as_text, unlisted
from xray_captioning.errors import DataError
from xray_captioning.evaluation.baselines import BASELINES

ID, INDEX, PREDICTION, REFERENCE = "id", "index", "prediction", "reference"
REPORT, METADATA, SYSTEM = "report", "metadata", "system"
Values = Sequence[Any]
Columns = dict[str, list[Any]]
STUDY = "study_id"

ALONE = "(texts)"  # the column of texts that nothing names
_NAMES = {role: words.split() for role, words in files.read_toml(__file__, "result_columns.toml").items()}
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


# A whole number, or a word with a digit and with what no other number and no time has.
_LIKELY_ID = re.compile(r"\d+|(?=.*\d)(?=.*[^\d.,:%eETZ+-])\S+")


def likely_ids(columns: Mapping[str, Values]) -> list[str]:
    """Return the columns of no usual name whose values, all different words, are hardly but ids."""
    found = {n: [str(as_text(v)).strip() for v in columns[n]] for n in columns if role(n) == SYSTEM}
    different = {name: values for name, values in found.items() if len(set(values)) == len(values) > 1}
    counting = [name for name, values in different.items() if counts(0, values) or counts(1, values)]
    return [n for n, values in different.items() if n not in counting and all(map(_LIKELY_ID.fullmatch, values))]


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
    """Return the columns that hold what systems wrote, by the first sure rule; without one it is a DataError."""
    # Those asked for; the only one that says "prediction" and no more; all with names of their own and texts of several
    # words (baselines aside); the only one beside the ids; a lone report.
    if ALONE in columns:
        return [ALONE]
    if asked:
        return _asked(path, columns, asked)
    if {"study", "images", "caption", "log_probability"} <= columns.keys():
        return ["caption"]  # written by the command caption
    kinds = {name: role(name) for name, values in columns.items() if _holds_text(values)}
    predicted = [name for name, kind in kinds.items() if kind == PREDICTION]
    if plain := [n for n in predicted if set(_words(n)) <= _PREDICTED | _NEUTRAL]:
        return _only(path, columns, plain)
    alone = sum(role(name) not in (ID, INDEX) for name in columns) == 1
    systems = [n for n, kind in kinds.items() if kind == SYSTEM and (alone or _has_sentences(columns[n]))]
    if predicted:
        return [name for name in kinds if name in predicted + systems]
    reports = [name for name, kind in kinds.items() if kind == REPORT]
    if reports or not systems:
        return _only(path, columns, [*reports, *systems])
    compared = {n for n in systems if n in BASELINES or n.startswith("retrieval ") or f" {findings.SHUFFLED}" in n}
    return [name for name in systems if name not in compared] or systems


def references(path: Path, columns: Mapping[str, Values], asked: str | None = None) -> str:
    """Return the column that holds the reports: one named so, or the only one of texts."""
    if ALONE in columns:
        return ALONE
    if asked is not None:
        return _asked(path, columns, [asked])[0]
    found = list[str]()
    for wanted, several in product(((REFERENCE,), (REPORT,), (SYSTEM, PREDICTION)), (False, True)):
        found = found or [n for n in columns if role(n) in wanted and _holds_text(columns[n], several)]
    return _only(path, columns, found, "--reference")[0]


def other_texts(columns: Mapping[str, Values], chosen: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of texts that may be what systems wrote, but are not among the chosen."""
    texts = [n for n in columns if n not in chosen and role(n) in (PREDICTION, SYSTEM, REPORT)]
    return tuple(name for name in texts if any(_has_sentences([value]) for value in columns[name]))


def _asked(path: Path, columns: Mapping[str, Values], asked: Sequence[str]) -> list[str]:
    if found := [name for name in asked if name in columns]:
        return found
    raise DataError(f"{path}: has no column {', '.join(asked)}; its columns are: {named(columns)}")


def _only(path: Path, columns: Mapping[str, Values], found: list[str], option: str = "--prediction") -> list[str]:
    """Return the one column that was found; none or several are a DataError."""
    if len(found) == 1:
        return found
    side = "the reports" if option == "--reference" else "what the system wrote"
    what = f"each of {', '.join(found)} may be {side}" if found else f"no column is {side}"
    raise DataError(f"{path}: {what}; its columns are: {named(columns)}; name the one: {option} COLUMN")


def named(columns: Mapping[str, Any]) -> str:
    """Return the names of columns for a message."""
    shown = [name or "''" for name in islice(columns, 20)]
    return ", ".join(shown) + (", …" if len(columns) > len(shown) else "")


def _holds_text(values: Values, several: bool = False) -> bool:
    """Whether values are text, or `several` of one study: a letter somewhere, or nothing throughout."""
    return any(any(map(str.isalpha, _text(value, several))) for value in values) or not any(values)


def _has_sentences(values: Values) -> bool:
    """Whether most values that are not empty are texts of several words, not names or paths."""
    texts = [text for value in values if (text := _text(value))]
    return 2 * sum(" " in text.strip() and text[:1] not in "[{" for text in texts) >= len(texts) > 0


def _text(value: Any, several: bool = False) -> str:
    value = unlisted(value)
    if isinstance(value, list) and (several or len(value) == 1):
        value = " ".join(text for text in value if isinstance(text, str))
    return value if isinstance(value, str) else ""


def json_columns(content: Any, path: Path) -> Columns:
    """Return the content of a JSON file as columns of one length, None where there is no value."""
    if isinstance(content, dict):
        content = _unwrapped(content)
    if not isinstance(content, dict | list) or not content:
        raise DataError(f"{path}: holds no texts; give study ids and texts, or a list of texts")
    if isinstance(content, dict):
        return _of_object(content, path)
    if _of_objects(content):
        return rows_to_columns(content)
    for number, entry in enumerate(content, 1):
        if not isinstance(entry, str | list):
            kind, advice = type(entry).__name__, "give texts alone, or objects alone"
            raise DataError(f"{path}, entry {number}: is {kind}; {advice}")
    return {ALONE: list(content)}


def _unwrapped(content: dict[str, Any]) -> Any:
    """Return the one list or object of texts that an object has beside scores and settings."""
    settings = [name for name, value in content.items() if isinstance(value, str) and role(name) == METADATA]
    rest = [value for name, value in content.items() if name not in settings and not _is_single(value)]
    return rest[0] if len(rest) == 1 < len(content) and isinstance(rest[0], dict | list) else content


def _is_single(value: Any) -> bool:
    """Whether a value is a number, or an object of settings: numbers, and texts of one word."""
    if isinstance(value, dict):
        return bool(value) and all(_is_single(v) or (isinstance(v, str) and " " not in v) for v in value.values())
    return isinstance(value, int | float)


def _of_object(content: dict[str, Any], path: Path) -> Columns:
    annotations, images = content.get("annotations", []), content.get("images", [])
    if _of_objects(annotations):  # COCO's captions, each with the name of its image's file
        listed = images if _of_objects(images) else []
        if names := {image.get("id"): image["file_name"] for image in listed if "file_name" in image}:
            annotations = [a | {"file_name": names.get(a.get("image_id"))} for a in annotations]
        return rows_to_columns(annotations)
    values = list(content.values())
    kinds, named = {type(value) for value in values}, any(role(name) != SYSTEM for name in content)
    if all(map(_of_objects, values)):
        return rows_to_columns([entry for value in values for entry in value])
    if kinds == {list} and named:
        if len(set(map(len, values))) > 1:
            raise DataError(f"{path}: its columns have different lengths; give one value per study")
        return dict(content)
    if kinds == {dict}:
        return _of_objects_by_name(content, named)
    return rows_to_columns([content]) if named and list not in kinds else {STUDY: list(content), ALONE: values}


def _of_objects(entries: Any) -> bool:
    return isinstance(entries, list) and bool(entries) and all(isinstance(entry, dict) for entry in entries)


def _of_objects_by_name(content: dict[str, dict[str, Any]], named: bool) -> Columns:
    """Return objects in an object as columns: of columns, as a name shows (`named`), of a study or a system each."""
    keys = list(dict.fromkeys(key for inner in content.values() for key in inner))
    if not named and any(role(str(key)) != SYSTEM for key in keys):
        return {STUDY: list(content), **rows_to_columns(list(content.values()))}
    columns = {name: [inner.get(key) for key in keys] for name, inner in content.items()}
    return columns if STUDY in columns else {STUDY: keys, **columns}


def rows_to_columns(rows: Sequence[Mapping[str, Any]]) -> Columns:
    """Return objects as columns; those of an object in each of them are called ``name.inner``."""
    return flattened({name: [row.get(name) for row in rows] for name in dict.fromkeys(chain.from_iterable(rows))})


def flattened(columns: Columns) -> Columns:
    """Return columns of objects as columns of their values."""
    found: Columns = {}
    for name, values in columns.items():
        if dict in set(map(type, values)):
            inner = rows_to_columns([v if isinstance(v, dict) else {} for v in values])
            found |= {f"{name}.{key}": column for key, column in inner.items()}
        else:
            found[name] = values
    return found
