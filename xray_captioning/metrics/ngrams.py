"""What text metrics share: checked pairs of texts, n-grams counted, and how varied texts are."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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


def runs(words: Sequence[str], order: int) -> list[tuple[str, ...]]:
    """Return the n-grams of a text: every `order` words in a row."""
    return list(zip(*(words[start:] for start in range(order))))


def count_ngrams(texts: Sequence[list[str]]) -> Iterator[tuple[list[tuple[str, ...]], Any]]:
    """Yield, for orders 1 to `MAXIMUM_ORDER`, the n-grams that texts, lists of words, have, and how
    often each text has each: SciPy's csr_array of int64, (texts, n-grams).
    """
    from scipy.sparse import csr_array

    for order in range(1, MAXIMUM_ORDER + 1):
        number: dict[tuple[str, ...], int] = {}
        every = [runs(words, order) for words in texts]
        columns = [number.setdefault(gram, len(number)) for grams in every for gram in grams]
        starts = np.cumsum([0, *map(len, every)])
        ones = np.ones(len(columns), dtype=np.int64)
        counts = csr_array((ones, columns, starts), (len(texts), max(len(number), 1)))
        counts.sum_duplicates()
        yield list(number), counts


def levels(counts: Any, most: int) -> Any:
    """Return whether texts have n-grams once, twice, ... up to `most` times, side by side. The dot
    product of two texts' rows counts each n-gram as often as both have it.
    """
    from scipy.sparse import hstack

    return hstack([counts >= times for times in range(1, most + 1)], "csr")


def distinct_ngrams(texts: Sequence[str], order: int) -> float:
    """Divide the number of different n-grams (of `order` words) of all texts by that of n-grams.

    Li et al. (2016) divide by the number of words; this is the share that became usual. It falls as
    more texts are scored, so compare it on the same studies only, and beside clinical scores: who
    copies training reports at random is the most diverse of all.
    """
    different: set[tuple[str, ...]] = set()
    total = 0
    for text, times in Counter(checked_texts("texts", texts)).items():
        grams = runs(text.split(), order)
        different.update(grams)
        total += times * len(grams)
    return len(different) / total if total else 0.0


def caption_entropy(texts: Sequence[str]) -> float:
    """Compute the entropy of the distribution of captions (Shannon 1948), 0 to log2(n) bits."""
    counts = np.array(list(Counter(checked_texts("texts", texts)).values()))
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum()) + 0.0  # no minus zero
