"""What all text metrics share: checked pairs of texts, and their n-grams counted with NumPy."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xray_captioning.errors import DataError

MAXIMUM_ORDER = 4
"""BLEU and CIDEr count runs of one to four words."""

BLOCK = 5_000
"""Pairs counted at a time, so that memory does not grow with their number."""

References: TypeAlias = Sequence[str] | Sequence[Sequence[str]]
"""One reference text for each hypothesis, or a list of them."""

Pairs: TypeAlias = list[tuple[list[str], str]]
"""The references and the hypothesis of each study."""


def checked_pairs(references: References, hypotheses: Sequence[str]) -> Pairs:
    """Check the two columns every metric begins with and put them side by side.

    Parameters
    ----------
    references : sequence of str or of lists of str
        What the report says; several texts a study where there are several readers.
    hypotheses : sequence of str
        What the system wrote, in the same order.

    Returns
    -------
    list of tuple
        The list of references and the hypothesis of each study.

    Raises
    ------
    DataError
        When the columns are empty, differ in length or hold anything but text.
    """
    for name, column in (("references", references), ("hypotheses", hypotheses)):
        if isinstance(column, str):
            raise DataError(f"{name} is one text; give a list with one text a study")
    left, right = list(references), list(hypotheses)
    if len(left) != len(right):
        raise DataError(
            f"{len(left)} references and {len(right)} hypotheses: give one of each a study"
        )
    if not left:
        raise DataError("no texts to score: the lists of references and hypotheses are empty")
    return [
        (_texts(f"references[{row}]", reference), _texts(f"hypotheses[{row}]", [hypothesis])[0])
        for row, (reference, hypothesis) in enumerate(zip(left, right, strict=True))
    ]


def checked_texts(name: str, texts: Sequence[str]) -> list[str]:
    """Check one column of texts, one a study.

    Parameters
    ----------
    name : str
        What the message calls it.
    texts : sequence of str

    Returns
    -------
    list of str

    Raises
    ------
    DataError
        When the column is empty or holds anything but text.
    """
    if isinstance(texts, str):
        raise DataError(f"{name} is one text; give a list with one text a study")
    column = [_texts(f"{name}[{row}]", [text])[0] for row, text in enumerate(texts)]
    if not column:
        raise DataError(f"{name} has no text; give at least one")
    return column


def _texts(where: str, value: Any) -> list[str]:
    """Make a list of texts of one text or several, and name the place where that fails."""
    texts: list[str] = list(value) if isinstance(value, list | tuple) else [value]
    if not texts:
        raise DataError(f"{where} is an empty list; give at least one text, '' where none is known")
    for text in texts:
        if not isinstance(text, str):
            raise DataError(f"{where} is not text but {type(text).__name__}; write '' for no text")
    return texts


def blocks(pairs: Pairs) -> Iterator[Pairs]:
    """Cut pairs into runs of at most `BLOCK`."""
    return (pairs[start : start + BLOCK] for start in range(0, len(pairs), BLOCK))


@dataclass(frozen=True)
class NgramCounts:
    """The n-grams of one order in some texts: text ``text[i]`` has ``code[i]`` ``count[i]`` times.

    Entries are sorted by text, then by code.

    Parameters
    ----------
    order : int
        Words in a row.
    text, code, count : ndarray of int64, shape (entries,)
        Position of the text, number of the n-gram, how often it occurs there.
    first : ndarray of int64, shape (distinct,)
        Where in `words` the n-gram of each code occurs for the first time.
    words : list of str
        The words of all texts.
    """

    order: int
    text: NDArray[np.int64]
    code: NDArray[np.int64]
    count: NDArray[np.int64]
    first: NDArray[np.int64]
    words: list[str]

    @property
    def ngrams(self) -> list[tuple[str, ...]]:
        """The words of every code."""
        return [tuple(self.words[start : start + self.order]) for start in self.first]


def count_ngrams(texts: Sequence[list[str]]) -> list[NgramCounts]:
    """Count the n-grams of orders 1 to `MAXIMUM_ORDER`.

    Equal n-grams get equal codes in all texts. The code of n words is the rank of the code of
    the first n - 1 together with the last word, so no code is ever larger than their number.

    Parameters
    ----------
    texts : sequence of list of str
        The words of each text.

    Returns
    -------
    list of NgramCounts
        One an order.
    """
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    words = list(chain.from_iterable(texts))
    number: dict[str, int] = {}
    word = np.array([number.setdefault(w, len(number)) for w in words], dtype=np.int64)
    owner = np.repeat(np.arange(len(texts)), lengths)
    end = np.repeat(np.cumsum(lengths), lengths)
    start, code = np.arange(len(words)), np.zeros(len(words), dtype=np.int64)
    counts = []
    for order in range(1, MAXIMUM_ORDER + 1):
        fits = start + order <= end[start]
        start, code = start[fits], code[fits]
        joined = code * len(number) + word[start + order - 1]
        _, first, code = np.unique(joined, return_index=True, return_inverse=True)
        distinct = max(1, len(first))
        entry, count = np.unique(owner[start] * distinct + code, return_counts=True)
        text, entry_code = np.divmod(entry, distinct)
        counts.append(NgramCounts(order, text, entry_code, count, start[first], words))
    return counts


def look_up(
    keys: NDArray[np.int64], values: NDArray[np.float64], wanted: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Find the value of each wanted key, 0 where it is not there.

    Parameters
    ----------
    keys : ndarray of int64, shape (n,)
        Sorted, each once.
    values : ndarray of float64, shape (n,)
        Their values.
    wanted : ndarray of int64, shape (m,)
        Keys to find.

    Returns
    -------
    ndarray of float64, shape (m,)
        Values or zeros.
    """
    if not len(keys):
        return np.zeros(len(wanted))
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0.0)
