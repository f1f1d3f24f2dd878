"""Systems that look at no image, or only at the nearest one: what a model has to beat."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xray_captioning.errors import DataError
from xray_captioning.evaluation.bleu import bleu_from_statistics

Array = NDArray[Any]


def constant_caption(texts: Sequence[str]) -> str:
    """Return the training text that scores the highest corpus BLEU-4 when said of every study.

    Every distinct text is tried, against all of them.

    Parameters
    ----------
    texts : sequence of str
        Cleaned training texts.

    Returns
    -------
    str

    Raises
    ------
    DataError
        There is no text.
    """
    if not texts:
        raise DataError("a constant caption needs training texts; there are none")
    lengths = np.array([len(text.split()) for text in texts])
    counts = _clipped_counts(texts)
    candidates = sorted(set(texts))
    statistics = np.array([_statistics(text.split(), counts, lengths) for text in candidates])
    return candidates[int(np.argmax(bleu_from_statistics(statistics)[:, 3]))]


def random_captions(texts: Sequence[str], count: int, seed: int = 0) -> list[str]:
    """Return training texts drawn at random with replacement.

    Parameters
    ----------
    texts : sequence of str
    count, seed : int
    """
    rng = np.random.default_rng(seed)
    return [texts[i] for i in rng.integers(len(texts), size=count)]


def retrieval_captions(features: Array, texts: Sequence[str], queries: Array) -> list[str]:
    """Return the text of each query's nearest training study by cosine of standardised features.

    Parameters
    ----------
    features : array, shape (training studies, channels)
    texts : sequence of str
        Of the training studies.
    queries : array, shape (studies, channels)
    """
    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-6
    keys, asked = (_unit((x - mean) / deviation) for x in (features, queries))
    return [texts[i] for i in np.argmax(asked @ keys.T, axis=1)]


def _unit(vectors: Array) -> Array:
    unit: Array = vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9)
    return unit


def _ngrams(words: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))


def _clipped_counts(texts: Sequence[str]) -> list[dict[tuple[str, ...], Array]]:
    # For each order and n-gram: how many texts have it at least once, at least twice, ….
    tables = []
    for order in range(1, 5):
        found: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for text in texts:
            for gram, count in _ngrams(text.split(), order).items():
                found[gram].append(count)
        tables.append(
            {gram: np.bincount(counts)[::-1].cumsum()[::-1][1:] for gram, counts in found.items()}
        )
    return tables


def _statistics(
    words: Sequence[str], counts: list[dict[tuple[str, ...], Array]], lengths: Array
) -> Array:
    # The ten sums that BLEU is made of, as bleu_statistics gives them for all texts together.
    matches = [
        sum(int(table[gram][:count].sum()) for gram, count in _ngrams(words, order).items())
        for order, table in enumerate(counts, 1)
    ]
    totals = [len(lengths) * max(len(words) - order + 1, 0) for order in range(1, 5)]
    return np.array([*matches, *totals, len(lengths) * len(words), lengths.sum()])
