"""The strongest fixed report: one text said of every study, chosen on the training texts.

Each metric has a favourite of its own, so the floor of a table is a constant for each. Every
choice is exact over its candidates, with one exception named at :func:`constant_captions`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xray_captioning.errors import DataError
from xray_captioning.findings import FINDINGS
from xray_captioning.metrics.bleu import bleu_from_statistics
from xray_captioning.metrics.clinical import label_matrix
from xray_captioning.metrics.labeler import PRESENT, UNCERTAIN
from xray_captioning.metrics.ngrams import NgramCounts, count_ngrams

Array = NDArray[Any]

CONSTANT_METRICS = ("BLEU-4", "BLEU-1", "BLEU-2", "BLEU-3", "ROUGE-L", "CIDEr", "clinical_f1")
"""What a constant is chosen by, the one that is called simply ``constant`` first."""

CANDIDATES, REFERENCES = 2_000, 4_000
"""Texts tried, and training texts that each is scored against, where there are more."""

_PROPER = np.array([name != "No Finding" for name in FINDINGS])
_LONGEST = 64  # words of a candidate that ROUGE-L looks at: the bits of one machine word


def constant_captions(
    texts: Sequence[str],
    references: Sequence[str] | None = None,
    metrics: Sequence[str] = CONSTANT_METRICS,
) -> dict[str, str]:
    """Return, for each metric, the training text that scores highest when said of every study.

    The distinct texts are tried against all of them: the 2,000 most frequent where there are
    more (of equally frequent ones the first), against 4,000 evenly chosen ones. By ROUGE-L a
    candidate of more than 64 words is judged by its first 64, which makes it at most too weak.

    Parameters
    ----------
    texts : sequence of str
        Cleaned training texts: the candidates.
    references : sequence of str, optional
        What they are scored against, where a protocol alters references; one a text.
    metrics : sequence of str
        Of :data:`CONSTANT_METRICS`.

    Returns
    -------
    dict of str to str
        Text by metric; where no training text names a finding, none by ``clinical_f1``.

    Raises
    ------
    DataError
        There is no text.
    """
    if not texts:
        raise DataError("a constant caption needs training texts; there are none")
    candidates = [text for text, _ in Counter(texts).most_common(CANDIDATES)]
    # Ties go to the first text of the alphabet, so that the order of the data plays no part.
    candidates.sort()
    judged = _thinned(texts if references is None else references)
    scores = _scores(candidates, judged, metrics)
    return {
        metric: candidates[int(np.argmax(scores[metric]))]
        for metric in metrics
        if scores[metric].any()
    }


def _thinned(texts: Sequence[str]) -> list[str]:
    if len(texts) <= REFERENCES:
        return list(texts)
    return [texts[i] for i in np.linspace(0, len(texts) - 1, REFERENCES).astype(int)]


def _scores(
    candidates: list[str], references: list[str], metrics: Sequence[str]
) -> dict[str, Array]:
    scores: dict[str, Array] = {}
    if any(metric.startswith("BLEU-") for metric in metrics):
        columns = _bleu(candidates, references).T
        scores = {f"BLEU-{order}": column for order, column in enumerate(columns, 1)}
    others = {"ROUGE-L": _rouge_l, "CIDEr": _cider, "clinical_f1": _clinical_f1}
    return scores | {m: others[m](candidates, references) for m in metrics if m in others}


def _bleu(candidates: list[str], references: list[str]) -> Array:
    counts = _clipped_counts(references)
    lengths = np.array([len(text.split()) for text in references])
    rows = [_statistics(text.split(), counts, lengths) for text in candidates]
    return bleu_from_statistics(np.array(rows))


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
    nothing = np.zeros(0, np.int64)
    matches = [
        sum(int(table.get(g, nothing)[:n].sum()) for g, n in _ngrams(words, order).items())
        for order, table in enumerate(counts, 1)
    ]
    totals = [len(lengths) * max(len(words) - order + 1, 0) for order in range(1, 5)]
    return np.array([*matches, *totals, len(lengths) * len(words), lengths.sum()])


def _rouge_l(candidates: list[str], references: list[str]) -> Array:
    """Mean COCO ROUGE-L of each candidate: Hyyrö's bits, for all references at once."""
    number: dict[str, int] = {}
    words = [[number.setdefault(w, len(number)) for w in text.split()] for text in references]
    length = np.array([len(row) for row in words])
    places = np.full((max(length.max(), 1), len(words)), len(number))  # beyond a text: no word
    for column, row in enumerate(words):
        places[: len(row), column] = row
    scores = []
    for text in candidates:
        candidate = text.split()
        masks = np.zeros(len(number) + 1, np.uint64)
        for bit, word in enumerate(candidate[:_LONGEST]):
            if word in number:
                masks[number[word]] |= np.uint64(1 << bit)
        common = _common(masks[places], min(len(candidate), _LONGEST))
        precision, recall = common / max(len(candidate), 1), common / np.maximum(length, 1)
        whole = recall + 1.44 * precision
        scores.append(np.mean(2.44 * precision * recall / np.where(whole > 0, whole, 1)))
    return np.array(scores)


def _common(matches: NDArray[np.uint64], size: int) -> NDArray[np.int64]:
    everywhere = np.uint64((1 << size) - 1)
    row = np.full(matches.shape[1], everywhere)
    for match in matches:  # unsigned sums wrap, as they have to
        matched = row & match
        row = (row + matched | row - matched) & everywhere
    ones: NDArray[np.int64] = np.unpackbits(row.view(np.uint8)).reshape(len(row), -1).sum(axis=1)
    return size - ones.astype(np.int64)


def _cider(candidates: list[str], references: list[str]) -> Array:
    """Mean CIDEr of each candidate."""
    texts = [text.split() for text in (*references, *candidates)]
    pairs = np.array([max(len(words) - 1, 0) for words in texts])
    own, others = pairs[: len(references)], pairs[len(references) :, None]
    totals = np.zeros(len(candidates))
    for grams in count_ngrams(texts):
        totals += _cosines(grams, others, own)
    return totals / len(references) * 10 / 4


def _cosines(grams: NgramCounts, pairs: Array, others: Array) -> Array:
    """Sum over the references of one order's similarity, from a table of who has which n-gram.

    Texts are the references, then the candidates; `pairs`, shape (candidates, 1), and `others`,
    shape (references,), are their numbers of word pairs.
    """
    split, count = len(others), len(pairs)
    held = grams.text < split
    frequency = np.bincount(grams.code[held], minlength=len(grams.first))
    weight = np.log(split / np.maximum(frequency, 1))[grams.code] * grams.count
    norms = np.sqrt(np.bincount(grams.text, weights=weight**2, minlength=split + count))
    order = np.argsort(grams.code[held], kind="stable")
    holder, value = grams.text[held][order], weight[held][order]
    first = np.cumsum(frequency) - frequency
    edges = np.searchsorted(grams.text, np.arange(split, split + count + 1))
    totals = np.zeros(count)
    for i, (start, end) in enumerate(pairwise(edges)):
        codes, sizes = grams.code[start:end], frequency[grams.code[start:end]]
        jump = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        place = np.repeat(first[codes], sizes) + jump
        product = np.minimum(np.repeat(weight[start:end], sizes), value[place]) * value[place]
        similar = np.bincount(holder[place], weights=product, minlength=split)
        scale = norms[:split] * norms[split + i]
        similar = similar * np.exp(-((pairs[i] - others) ** 2) / 72)
        totals[i] = np.divide(similar, scale, np.zeros(split), where=scale > 0).sum()
    return totals


def _clinical_f1(candidates: list[str], references: list[str]) -> Array:
    """Macro F1 of each candidate: a finding asserted of all has its prevalence as precision."""
    said, true = (
        np.isin(label_matrix(texts), (PRESENT, UNCERTAIN)) for texts in (candidates, references)
    )
    positive = true.sum(axis=0) * _PROPER
    f1 = 2 * positive / (len(references) + positive)
    mean: Array = said @ f1 / max(np.count_nonzero(positive), 1)
    return mean
