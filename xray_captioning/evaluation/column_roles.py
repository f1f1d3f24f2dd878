"""What the columns of a file of results hold, told by their names and their contents.

================ ==================================================================================
role             columns
================ ==================================================================================
id               those that name the study or an image of it (`IDS`)
index            a number of the row: without a name, ``Unnamed: 0``, ``index``
prediction       ``prediction``, ``pred``, ``hypothesis``, ``generated_report``, ``output`` …
reference        ``reference``, ``gt``, ``ground_truth``, ``target``, ``true_report`` …
report           ``report``, ``caption``, ``text``, ``findings`` …: either, as the others show
metadata         what is known of a study or of a run: ``split``, ``view``, ``prompt``, ``error`` …
system           any other name: what the system of that name wrote, if it is text of several words
================ ==================================================================================
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from xray_captioning.errors import DataError
from xray_captioning.evaluation.baselines import BASELINES
from xray_captioning.findings import SHUFFLED

ID, INDEX, PREDICTION, REFERENCE = "id", "index", "prediction", "reference"
REPORT, METADATA, SYSTEM = "report", "metadata", "system"
Values = Sequence[Any]

ALONE = "(texts)"
"""The column of texts that nothing names."""

_NAMES: dict[str, list[str]] = {
    role: words.split()
    for role, words in tomllib.loads(
        Path(__file__).with_name("column_roles.toml").read_text("utf-8")
    ).items()
}
IDS = tuple(_NAMES[ID])
"""Names of columns that tell which study a text is of, the surest first."""

_INDEX = {"", *_NAMES[INDEX]}
_PREDICTED, _TRUE = frozenset(_NAMES[PREDICTION]), frozenset(_NAMES[REFERENCE])
_REPORTS, _METADATA = frozenset(_NAMES[REPORT]), frozenset(_NAMES[METADATA])
_NEUTRAL = _REPORTS | {"model", "the", "full", "final", "section"}


@cache
def role(name: str) -> str:
    """Return the role of a column by its name alone; of a nested one, ``a.b``, by its parts."""
    words = re.findall(r"[^\W_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
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


def names_column(text: str) -> bool:
    """Whether a text is a usual name of a column and no report: every word of it is of such."""
    words = re.findall(r"[^\W_]+", text.lower())
    known = len(words) <= 3 and set(words) <= _PREDICTED | _TRUE | _NEUTRAL
    return text.strip()[-1:] != "." and (id_rank(text) is not None or (known and bool(words)))


def id_rank(name: str) -> int | None:
    """Return how early in `IDS` a name comes, whatever its spelling; None where it is no id."""
    key = _joined(name.rsplit(".", 1)[-1])
    return _RANKS.get(key)


def _joined(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())


_RANKS = {_joined(name): rank for rank, name in enumerate(IDS)}


def is_plain(name: str) -> bool:
    """Whether a name says "prediction" and no more, so that it is no system's own."""
    words = set(re.findall(r"[^\W_]+", name.lower()))
    return role(name) == PREDICTION and words <= _PREDICTED | _NEUTRAL


def predictions(path: Path, columns: Mapping[str, Values], asked: Sequence[str] = ()) -> list[str]:
    """Return the columns that hold what systems wrote: those asked for, or the ones that show.

    A column that says "prediction" and no more is the only one. Otherwise all columns of texts of
    several words that have a name of their own are systems, baselines and shuffled systems of an
    earlier evaluation aside; so is the only column beside the ids. A report alone is what the
    system wrote.

    Raises
    ------
    DataError
        None of the columns asked for is there, or no rule is certain.
    """
    if ALONE in columns:
        return [ALONE]
    if asked:
        return _asked(path, columns, asked)
    texts = {name: role(name) for name, values in columns.items() if _has_words(values)}
    plain = [name for name in texts if is_plain(name)]
    own = [n for n, kind in texts.items() if kind in (PREDICTION, SYSTEM) and n not in plain]
    alone = len([name for name in columns if role(name) not in (ID, INDEX)]) == 1
    own = [n for n in own if alone or texts[n] == PREDICTION or _has_sentences(columns[n])]
    reports = [name for name, kind in texts.items() if kind == REPORT]
    if {"study", "images", "caption", "log_probability"} <= columns.keys():
        return ["caption"]  # written by the command caption
    if plain or any(texts[name] == PREDICTION for name in own):
        return _only(path, columns, plain) if plain else own
    if own and reports:
        raise _unclear(path, columns, [*reports, *own])
    systems = [n for n in own if n not in BASELINES and not _is_baseline(n)]
    return (systems or own) if own else _only(path, columns, reports)


def references(path: Path, columns: Mapping[str, Values], asked: str | None = None) -> str:
    """Return the column that holds the reports: one named so, or the only one of texts."""
    if ALONE in columns:
        return ALONE
    if asked is not None:
        return _asked(path, columns, [asked])[0]
    texts = {name: role(name) for name, values in columns.items() if _has_words(values)}
    for kinds in ((REFERENCE,), (REPORT,), (SYSTEM, PREDICTION)):
        if found := [name for name, kind in texts.items() if kind in kinds]:
            return _only(path, columns, found, "--reference")[0]
    raise _unclear(path, columns, [], "--reference")


def other_texts(columns: Mapping[str, Values], chosen: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of texts that may be what systems wrote, but are not among the chosen."""
    told = (PREDICTION, SYSTEM, REPORT)
    return tuple(
        name
        for name, values in columns.items()
        if name not in chosen and role(name) in told
        if any(_has_sentences([value]) for value in values)
    )


def _asked(path: Path, columns: Mapping[str, Values], asked: Sequence[str]) -> list[str]:
    if found := [name for name in asked if name in columns]:
        return found
    raise DataError(f"{path}: has no column {', '.join(asked)}; its columns are: {_named(columns)}")


def _only(
    path: Path, columns: Mapping[str, Values], found: list[str], option: str = "--prediction"
) -> list[str]:
    if len(found) != 1:
        raise _unclear(path, columns, found, option)
    return found


def _unclear(
    path: Path, columns: Mapping[str, Values], found: list[str], option: str = "--prediction"
) -> DataError:
    side = "the reports" if option == "--reference" else "what the system wrote"
    what = f"each of {', '.join(found)} may be {side}" if found else f"no column is {side}"
    return DataError(
        f"{path}: {what}; its columns are: {_named(columns)}; name the one: {option} COLUMN"
    )


def _named(columns: Mapping[str, Values]) -> str:
    shown = [name or "''" for name in islice(columns, 20)]
    return ", ".join(shown) + (", …" if len(columns) > len(shown) else "")


def _is_baseline(name: str) -> bool:
    return name.startswith("retrieval ") or f" {SHUFFLED}" in name


def _has_words(values: Values) -> bool:
    """Whether a column holds text: a letter in one of its values, or it is empty throughout."""
    return any(any(map(str.isalpha, _text(value))) for value in values) or not any(values)


def _has_sentences(values: Values) -> bool:
    """Whether most values that are not empty are texts of several words, not names or paths."""
    texts = [text for value in values if (text := _text(value))]
    several = sum(" " in text.strip() and text[:1] not in "[{" for text in texts)
    return 2 * several >= len(texts) > 0


def _text(value: Any) -> str:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, str) else ""
