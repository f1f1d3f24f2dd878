"""Columns of texts as they are brought: lists, columns of a table, or dictionaries of id to text.

Every metric takes its texts through here, so that none of them pairs texts of different studies.
"""

from collections.abc import Iterable, Mapping, Sequence, Set, ValuesView
from itertools import combinations
from typing import Any

from xray_captioning.errors import DataError


def paired(**columns: Any) -> tuple[Sequence[Any], list[Sequence[Any]]]:
    """Put columns, named as messages call them, side by side: keys, and columns of one length.

    Dictionaries are matched by id, in the order of the first one; an id that JSON made a text is
    the number it was. All else is matched by position, its keys are numbers from 0. An array of
    labels, (n, 18), stays one. Raises a DataError where the room's docstring says so.
    """
    if any(isinstance(column, Mapping) for column in columns.values()):
        keys, found = _by_id(columns)
    else:
        _check_indexes(columns)
        found = {name: in_order(name, column) for name, column in columns.items()}
        keys = range(len(next(iter(found.values()))))
    sizes = {name: len(column) for name, column in found.items()}
    if len(set(sizes.values())) > 1:
        counted = " and ".join(f"{size} {name}" for name, size in sizes.items())
        raise DataError(f"{counted}: give one of each a study, in the same order")
    if not all(sizes.values()):
        raise DataError(f"no texts to score: the lists of {' and '.join(columns)} are empty")
    return keys, list(found.values())


def in_order(name: str, column: Any) -> Sequence[Any]:
    """Return a column as a list, an array of labels as it is; a dictionary is its values."""
    if isinstance(column, str | bytes):
        raise DataError(f"{name} is one text; give a list with one text per study")
    if isinstance(column, Mapping):
        return list(column.values())
    if isinstance(column, Set | ValuesView) or not isinstance(column, Iterable):
        raise DataError(
            f"{name} is a {type(column).__name__}, which does not say which text is of which "
            "study; give a list, or a dictionary of id to text"
        )
    dimensions = getattr(column, "ndim", 1)
    if dimensions == 2 and getattr(getattr(column, "dtype", None), "kind", "") == "i":
        labels: Sequence[Any] = column  # type: ignore[assignment]
        return labels
    if dimensions != 1:
        raise DataError(f"{name} is a table of {dimensions} dimensions; give one column of it")
    return column if isinstance(column, list | tuple) else list(column)


def some_texts(where: str, value: Any) -> list[str]:
    """Return one text or several as a list, and name the place where that fails."""
    texts: list[str] = list(value) if isinstance(value, list | tuple) else [value]
    if not texts:
        raise DataError(f"{where} is an empty list; give at least one text, '' where none is known")
    for text in texts:
        _check_text(where, text)
    return texts


def _check_text(where: str, text: Any) -> None:
    if not isinstance(text, str):
        raise DataError(f"{where} is not text but {type(text).__name__}; write '' for no text")


def one_text(where: str, value: Any) -> str:
    """Return a text, or the only text of a list: COCO's results hold such lists."""
    texts = some_texts(where, value)
    if len(texts) > 1:
        raise DataError(f"{where} is {len(texts)} texts; give one")
    return texts[0]


def checked_texts(name: str, texts: Any) -> list[str]:
    """Return one column of texts as a list; a DataError calls it `name`."""
    column = list(in_order(name, texts))
    if not column:
        raise DataError(f"{name} has no text; give at least one")
    for row, text in enumerate(column):
        _check_text(f"{name}[{row}]", text)
    return column


def _by_id(columns: Mapping[str, Any]) -> tuple[Sequence[Any], dict[str, Sequence[Any]]]:
    """Match dictionaries by id."""
    texts = {name: _text_ids(name, column) for name, column in columns.items()}
    for (name, first), (other, second) in combinations(texts.items(), 2):
        if first.keys() != second.keys():
            alone = {name: first.keys() - second.keys(), other: second.keys() - first.keys()}
            counted = " and ".join(
                f"{len(ids)} only in {where}{f', such as {min(ids)}' if ids else ''}" for where, ids in alone.items()
            )
            raise DataError(f"{name} and {other} are of different studies: {counted}; give the same")
    keys = list(next(iter(texts.values())))
    return keys, {name: [known[key] for key in keys] for name, known in texts.items()}


def _text_ids(name: str, column: Any) -> dict[str, Any]:
    if not isinstance(column, Mapping):
        raise DataError(
            f"{name} is no dictionary, but the other column is; give dictionaries of id to text, "
            "which are matched by id, or lists in the same order"
        )
    texts = {str(key): value for key, value in column.items()}
    if len(texts) < len(column):
        raise DataError(f"{name} has an id as a number and as text; keep one of them")
    return texts


def _check_indexes(columns: Mapping[str, Any]) -> None:
    """Refuse two pandas columns whose rows are not the same ones in the same order."""
    indexed = {n: c for n, c in columns.items() if hasattr(c, "index") and hasattr(c, "to_numpy")}
    for (name, first), (other, second) in combinations(indexed.items(), 2):
        if not first.index.equals(second.index):
            raise DataError(
                f"{name} and {other} are columns of tables with different indexes; give both as "
                ".to_dict() where the index is the study's id, or else .tolist() in the same order"
            )
