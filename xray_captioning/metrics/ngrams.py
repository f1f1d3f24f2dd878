"""What text metrics share: checked pairs of texts, n-grams counted, and how varied texts are."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xray_captioning.metrics.columns import checked_texts, one_text, paired, some_texts

MAXIMUM_ORDER = 4  # BLEU and CIDEr count runs of one to four words
BLOCK = 5_000  # pairs counted at a time, so that memory does not grow with their number

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

Hypotheses: TypeAlias = Sequence[str] | Mapping[Any, str] | Mapping[Any, Sequence[str]]
"""A text of each study: in the order of the references, or by id where those are by id."""

References: TypeAlias = Hypotheses | Sequence[Sequence[str]]
"""One reference text of each study, or a list of them."""

Pairs: TypeAlias = list[tuple[list[str], str]]  # the references and the hypothesis of each study


def checked_pairs(references: References, hypotheses: Hypotheses) -> Pairs:
    """Check references and hypotheses as the room's docstring says, and put them side by side."""
    keys, columns = paired(references=references, hypotheses=hypotheses)
    return [
        (some_texts(f"references[{key}]", reference), one_text(f"hypotheses[{key}]", hypothesis))
        for key, reference, hypothesis in zip(keys, *columns, strict=True)
    ]


def blocks(pairs: Pairs) -> Iterator[Pairs]:
    """Cut pairs into runs of at most `BLOCK`."""
    return (pairs[start : start + BLOCK] for start in range(0, len(pairs), BLOCK))


class DistinctTexts(NamedTuple):
    """The different texts of some pairs, each once, and which of them the pairs are made of."""

    words: list[list[str]]  # of each text
    hypothesis: Ints  # number of the text, (pairs,)
    reference: Ints  # of all pairs, one behind the other, (references,)
    pair: Ints  # that a reference is of, (references,)


def distinct_texts(pairs: Pairs) -> DistinctTexts:
    """Number the different texts of pairs, so that what a text has is counted once."""
    number: dict[str, int] = {}
    said = [number.setdefault(hypothesis, len(number)) for _, hypothesis in pairs]
    wanted = [number.setdefault(text, len(number)) for texts, _ in pairs for text in texts]
    pair = np.repeat(np.arange(len(pairs)), [len(texts) for texts, _ in pairs])
    return DistinctTexts([text.split() for text in number], np.array(said), np.array(wanted), pair)


class Ngrams(NamedTuple):
    """The n-grams of one order in some texts, an entry for each occurrence, sorted by text.

    The first, the second and the third occurrence of an n-gram in a text have different columns.
    So the n-grams that two texts share, each as often as both have it, are the columns that both
    have.
    """

    text: Ints  # position of the text, (entries,)
    column: Ints  # of the occurrence, (entries,)
    total: Ints  # how often the text has the n-gram in all, (entries,)
    code: Ints  # number of the n-gram that a column belongs to, (columns,)
    ngrams: list[tuple[str, ...]]  # the words of each number

    def table(self, values: NDArray[Any], texts: int) -> Any:
        """Return values of the entries as SciPy's csr_array, (texts, columns)."""
        from scipy.sparse import csr_array

        starts = np.searchsorted(self.text, np.arange(texts + 1))
        return csr_array((values, self.column, starts), (texts, len(self.code)))


def count_ngrams(texts: Sequence[list[str]]) -> Iterator[Ngrams]:
    """Yield the n-grams of texts, lists of words, for orders 1 to `MAXIMUM_ORDER`.

    The number of an n-gram is the rank of the number of its first n - 1 words together with
    its last word, so that no number is ever larger than there are n-grams.
    """
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    words = list(chain.from_iterable(texts))
    number: dict[str, int] = {}
    word = np.array([number.setdefault(w, len(number)) for w in words], dtype=np.int64)
    owner = np.repeat(np.arange(len(texts)), lengths)
    end = np.repeat(np.cumsum(lengths), lengths)
    start, code = np.arange(len(words)), np.zeros(len(words), dtype=np.int64)
    for order in range(1, MAXIMUM_ORDER + 1):
        fits = start + order <= end[start]
        start, code = start[fits], code[fits]
        joined = code * len(number) + word[start + order - 1]
        _, first, code = np.unique(joined, return_index=True, return_inverse=True)
        ngrams = [tuple(words[place : place + order]) for place in start[first]]
        yield _occurrences(owner[start], code, ngrams)


def _occurrences(text: Ints, code: Ints, ngrams: list[tuple[str, ...]]) -> Ngrams:
    """Give each occurrence of an n-gram in a text a column, see `Ngrams`."""
    order = np.lexsort((code, text))
    text, code = text[order], code[order]
    new = np.diff(text, prepend=-1).astype(bool) | np.diff(code, prepend=-1).astype(bool)
    first, place = np.flatnonzero(new), np.cumsum(new) - 1
    total = np.diff(first, append=len(code))[place]
    most = int(total.max(initial=1))
    occurrence = code * most + np.arange(len(code)) - first[place]
    columns, column = np.unique(occurrence, return_inverse=True)
    return Ngrams(text, column, total, columns // most, ngrams)


def distinct_ngrams(texts: Sequence[str], order: int) -> float:
    """Divide the number of different n-grams (of `order` words) of all texts by that of n-grams.

    Li et al. (2016) divide by the number of words; this is the share that became usual. It falls as
    more texts are scored, so compare it on the same studies only, and beside clinical scores: who
    copies training reports at random is the most diverse of all.
    """
    different: set[tuple[str, ...]] = set()
    total = 0
    for text, times in Counter(checked_texts("texts", texts)).items():
        words = text.split()
        grams = list(zip(*(words[start:] for start in range(order))))
        different.update(grams)
        total += times * len(grams)
    return len(different) / total if total else 0.0


def caption_entropy(texts: Sequence[str]) -> float:
    """Compute the entropy of the distribution of captions (Shannon 1948), 0 to log2(n) bits."""
    counts = np.array(list(Counter(checked_texts("texts", texts)).values()))
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum()) + 0.0  # no minus zero
