"""CIDEr as pycocoevalcap 1.2's ``Cider``, which the literature calls CIDEr-D: Vedantam et al. 2015,
equations 3 and 4, with sigma 6 and orders 1 to 4, times 10.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from xray_captioning.metrics import ngrams
from xray_captioning.metrics.ngrams import Floats, Hypotheses, Ints, References, in_order

_SIGMA = 6.0
_CANDIDATES = 256  # compared with all references at a time, to bound memory


class DocumentFrequency(NamedTuple):
    """How common n-grams are in the references of a collection."""

    studies: int
    having: Counter[tuple[str, ...]]  # studies of which some reference has an n-gram


def document_frequency(references: References) -> DocumentFrequency:
    """Count in how many studies some reference has each n-gram."""
    texts = in_order("references", references)
    having: Counter[tuple[str, ...]] = Counter()
    for several, _ in ngrams.checked_pairs(texts, [""] * len(texts)):
        words = [text.split() for text in several]
        orders = range(1, ngrams.MAXIMUM_ORDER + 1)
        having.update({gram for one in words for n in orders for gram in ngrams.runs(one, n)})
    return DocumentFrequency(len(texts), having)


def cider_rows(references: References, hypotheses: Hypotheses, frequency: DocumentFrequency | None = None) -> Floats:
    """Compute the CIDEr of every study, (studies,), from 0 to 10; a system's is their mean. `frequency`
    says how common each n-gram is, by default in these references; of a single study all are 0.
    """
    pairs = ngrams.checked_pairs(references, hypotheses)
    common = document_frequency([texts for texts, _ in pairs]) if frequency is None else frequency
    return np.concatenate([_block_scores(block, common) for block in ngrams.blocks(pairs)])


def _block_scores(pairs: ngrams.Pairs, frequency: DocumentFrequency) -> Floats:
    texts = ngrams.distinct_texts(pairs)
    said, wanted = texts.hypothesis[texts.pair], texts.reference
    similarity = np.zeros(len(wanted))
    for grams, counts in ngrams.count_ngrams(texts.words):
        rarity, scale = _weights(grams, counts, frequency)
        # An n-gram of the hypothesis counts at most as often as the reference has it: repeating a
        # rare word does not pay.
        shared = counts[said].minimum(counts[wanted]).multiply(counts[wanted]) @ rarity
        similarity += shared * scale[said] * scale[wanted]
    lengths = _word_pairs(texts.words)
    similarity *= np.exp(-((lengths[said] - lengths[wanted]) ** 2) / (2 * _SIGMA**2))
    totals = np.bincount(texts.pair, weights=similarity, minlength=len(pairs))
    return 10.0 * totals / np.bincount(texts.pair) / ngrams.MAXIMUM_ORDER


def cider_of_constants(references: Sequence[str], candidates: Sequence[str]) -> Floats:
    """Return the mean of what `cider_rows` gives each fixed text, to rounding: (candidates,)."""
    from scipy.sparse import hstack

    said, wanted = ([text.split() for text in texts] for texts in (candidates, references))
    frequency = document_frequency(references)
    similarity = np.zeros((len(said), len(wanted)))
    for grams, counts in ngrams.count_ngrams([*said, *wanted]):
        rarity, scale = _weights(grams, counts, frequency)
        own, others = counts[: len(said)], counts[len(said) :]
        most = max(int(own.max()), 1)
        weighted = hstack([others.multiply(rarity)] * most).multiply(ngrams.levels(others, most)).T
        for start in range(0, len(said), _CANDIDATES):
            part = slice(start, start + _CANDIDATES)
            shared = (ngrams.levels(own[part], most) @ weighted).toarray()
            similarity[part] += shared * scale[: len(said)][part, None] * scale[len(said) :]
    similarity *= np.exp(-((_word_pairs(said)[:, None] - _word_pairs(wanted)) ** 2) / (2 * _SIGMA**2))
    return 10.0 * similarity.mean(axis=1) / ngrams.MAXIMUM_ORDER


def _weights(grams: Sequence[tuple[str, ...]], counts: Any, frequency: DocumentFrequency) -> tuple[Floats, Floats]:
    """Return the weight of each n-gram, squared, and one over each text's norm."""
    # The logarithm of the quotient: exactly 0 for what every study has. An n-gram that no
    # reference has counts as if one study had it.
    seen = np.array([frequency.having.get(gram, 1) for gram in grams or [()]], dtype=np.float64)
    rarity = np.log(frequency.studies / seen) ** 2
    norms = np.sqrt(counts.power(2) @ rarity)
    return rarity, np.divide(1, norms, out=np.zeros(len(norms)), where=norms > 0)


def _word_pairs(texts: list[list[str]]) -> Ints:
    """Return the length that pycocoevalcap compares: the number of word pairs."""
    return np.array([max(len(words) - 1, 0) for words in texts])
