"""BLEU-1 to BLEU-4 under the three rules that published tables mix. ``coco`` counts over the whole corpus (Papineni
et al. 2002; pycocoevalcap 1.2). ``nltk`` is the mean of sentence scores by the installed NLTK, almost 0 where one
order has no match; ``legacy`` that of NLTK 3.2.5: the product stops there, as if the higher orders were perfect.
"""

import warnings
from collections.abc import Sequence
from functools import reduce

import numpy as np

from xray_captioning.errors import ConfigError
from xray_captioning.metrics import ngrams
from xray_captioning.metrics.ngrams import Floats, Hypotheses, Ints, References

BLEU_PROTOCOLS = ("coco", "nltk", "legacy")
_LEGACY_WEIGHTS = np.array([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.33, 0.33, 0.33, 0], [0.25, 0.25, 0.25, 0.25]])
_EVEN_WEIGHTS = [(1 / order,) * order for order in range(1, ngrams.MAXIMUM_ORDER + 1)]


def bleu(references: References, hypotheses: Hypotheses, protocol: str = "coco") -> Floats:
    """Compute BLEU-1 to BLEU-4 of a system by one of `BLEU_PROTOCOLS`: (4,), from 0 to 1."""
    pairs = ngrams.checked_pairs(references, hypotheses)
    return of_protocol(protocol, np.concatenate([block_statistics(b) for b in ngrams.blocks(pairs)]), pairs)


def of_protocol(protocol: str, statistics: Ints, pairs: ngrams.Pairs) -> Floats:
    """Return the `bleu` of pairs and their `block_statistics`."""
    if protocol not in BLEU_PROTOCOLS:
        raise ConfigError(f"unknown BLEU protocol {protocol!r}: choose one of {', '.join(BLEU_PROTOCOLS)}")
    if protocol == "nltk":
        return nltk_bleu_rows([texts for texts, _ in pairs], [text for _, text in pairs]).mean(axis=0)
    if protocol == "legacy":
        return legacy_bleu_rows(statistics).mean(axis=0)
    return bleu_from_statistics(statistics.sum(axis=0))


def block_statistics(block: ngrams.Block) -> Ints:
    """Count what BLEU is made of: int64, (pairs, 10)."""
    # Clipped matches of orders 1 to 4, n-grams of the hypothesis of these, its length, and the closest reference's.
    length, others = block.words.lengths[block.hypothesis], block.words.lengths[block.reference]
    # The closest one comes first, of two as close the shorter one.
    order = np.lexsort((others, abs(others - length[block.pair]), block.pair))
    return np.column_stack([_matches(block), _totals(length), length, others[order][block.first]])


def _matches(block: ngrams.Block) -> Ints:
    """Count n-grams that a reference has, too, (pairs, 4)."""
    last = np.append(block.first[1:], len(block.pair)) - 1
    chosen = [block.reference[np.minimum(block.first + n, last)] for n in range((last - block.first).max() + 1)]
    columns = []
    for _, counts in block.words.counts:
        wanted = reduce(lambda one, other: one.maximum(other), (counts[rows] for rows in chosen))
        columns.append(counts[block.hypothesis].minimum(wanted).sum(axis=1))
    return np.stack(columns, axis=1)


def _totals(length: Ints) -> Ints:
    """Return how many n-grams of each order texts of these lengths have."""
    return np.maximum(length[:, None] - np.arange(ngrams.MAXIMUM_ORDER), 0)


def bleu_of_constants(references: Sequence[str], candidates: Sequence[str]) -> Floats:
    """Return what `bleu` gives each fixed text (``coco``), to rounding: (candidates, 4)."""
    said, wanted = ([text.split() for text in texts] for texts in (candidates, references))
    columns = []
    for _, counts in ngrams.Words([*said, *wanted]).counts:
        own, others = counts[: len(said)], counts[len(said) :]
        most = max(int(own.max()), 1)
        columns.append(ngrams.levels(own, most) @ ngrams.levels(others, most).sum(axis=0))
    length = np.array([len(words) for words in said])
    totals = len(wanted) * np.column_stack([_totals(length), length])
    closest = np.full(len(said), sum(len(words) for words in wanted))
    return bleu_from_statistics(np.column_stack([*columns, totals, closest]))


def bleu_from_statistics(statistics: Ints) -> Floats:
    """Compute BLEU-1 to BLEU-4, (..., 4), of rows or sums of them, (..., 10), as pycocoevalcap."""
    # pycocoevalcap's two constants: no division by zero, and 0 stays almost 0.
    small, tiny = 1e-9, 1e-15
    parts = np.asarray(statistics, dtype=np.float64)
    precisions = (parts[..., :4] + tiny) / (parts[..., 4:8] + small)
    scores = np.cumprod(precisions, axis=-1) ** (1 / np.arange(1, ngrams.MAXIMUM_ORDER + 1))
    return scores * np.exp(np.minimum(1 - 1 / ((parts[..., 8:9] + tiny) / (parts[..., 9:10] + small)), 0.0))


def legacy_bleu_rows(statistics: Ints) -> Floats:
    """Compute sentences' BLEU, (studies, 4), as NLTK 3.2.5 did; 0 without a common word; BLEU-4 can exceed BLEU-1."""
    matches, totals = statistics[:, :4], np.maximum(statistics[:, 4:8], 1)
    # Once an order has no match, no higher one has any.
    logarithms = np.log(np.where(matches > 0, matches / totals, 1.0))
    length, closest = statistics[:, 8], statistics[:, 9]
    penalty = np.exp(np.minimum(1 - closest / np.maximum(length, 1), 0.0))
    return np.where(matches[:, :1] > 0, penalty[:, None] * np.exp(logarithms @ _LEGACY_WEIGHTS.T), 0.0)


def nltk_bleu_rows(references: References, hypotheses: Hypotheses) -> Floats:
    """Compute each sentence's BLEU, (studies, 4), by the installed NLTK, without smoothing."""
    from nltk.translate.bleu_score import sentence_bleu

    pairs = ngrams.checked_pairs(references, hypotheses)
    split = [([text.split() for text in texts], hypothesis.split()) for texts, hypothesis in pairs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of every order without a match
        return np.array([sentence_bleu(*pair, _EVEN_WEIGHTS) for pair in split], dtype=np.float64)
