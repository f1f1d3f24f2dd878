"""CIDEr as pycocoevalcap 1.2's ``Cider`` computes it, which the literature calls CIDEr-D.

Vedantam et al. 2015, equations 3 and 4, with sigma 6 and orders 1 to 4, times 10.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from xray_captioning.metrics import ngrams
from xray_captioning.metrics.columns import in_order
from xray_captioning.metrics.ngrams import Floats, Hypotheses, Ints, References

_SIGMA = 6.0
_CANDIDATES = 256  # compared with all references at a time, to bound memory


class DocumentFrequency(NamedTuple):
    """How common n-grams are in the references of a collection."""

    studies: int
    having: Counter[tuple[str, ...]]  # studies of which some reference has an n-gram


def document_frequency(references: References) -> DocumentFrequency:
    """Count in how many studies some reference has each n-gram."""
    texts = in_order("references", references)
    pairs = ngrams.checked_pairs(texts, [""] * len(texts))
    having: Counter[tuple[str, ...]] = Counter()
    for block in ngrams.blocks(pairs):
        texts = [text.split() for texts, _ in block for text in texts]
        study = np.repeat(np.arange(len(block)), [len(texts) for texts, _ in block])
        for grams in ngrams.count_ngrams(texts):
            distinct = max(1, len(grams.ngrams))
            held = np.unique(study[grams.text] * distinct + grams.code[grams.column]) % distinct
            number = np.bincount(held, minlength=len(grams.ngrams))
            having.update(dict(zip(grams.ngrams, number.tolist(), strict=True)))
    return DocumentFrequency(len(pairs), having)


def cider_rows(
    references: References, hypotheses: Hypotheses, frequency: DocumentFrequency | None = None
) -> Floats:
    """Compute the CIDEr of every study, (studies,), from 0 to 10; a system's CIDEr is their mean.

    `frequency` says how common each n-gram is; by default in these references. All are 0 for a
    single study, whose n-grams tell nothing apart.
    """
    pairs = ngrams.checked_pairs(references, hypotheses)
    common = document_frequency([texts for texts, _ in pairs]) if frequency is None else frequency
    return np.concatenate([_block_scores(block, common) for block in ngrams.blocks(pairs)])


def _block_scores(pairs: ngrams.Pairs, frequency: DocumentFrequency) -> Floats:
    texts = ngrams.distinct_texts(pairs)
    said, wanted = texts.hypothesis[texts.pair], texts.reference
    similarity = np.zeros(len(wanted))
    for grams in ngrams.count_ngrams(texts.words):
        own, others = _vectors(grams, frequency, len(texts.words))
        similarity += own[said].multiply(others[wanted]).sum(axis=1)
    lengths = _word_pairs(texts.words)
    similarity *= _length_penalty(lengths[said], lengths[wanted])
    totals = np.bincount(texts.pair, weights=similarity, minlength=len(pairs))
    return 10.0 * totals / np.bincount(texts.pair) / ngrams.MAXIMUM_ORDER


def cider_of_constants(references: Sequence[str], candidates: Sequence[str]) -> Floats:
    """Return the mean of what `cider_rows` gives each fixed text, to rounding: (candidates,)."""
    said, wanted = ([text.split() for text in texts] for texts in (candidates, references))
    frequency = document_frequency(references)
    similarity = np.zeros((len(said), len(wanted)))
    for grams in ngrams.count_ngrams([*said, *wanted]):
        vectors = _vectors(grams, frequency, len(said) + len(wanted))
        own, others = vectors[0][: len(said)], vectors[1][len(said) :]
        for start in range(0, len(said), _CANDIDATES):
            part = slice(start, start + _CANDIDATES)
            similarity[part] += (own[part] @ others.T).toarray()
    similarity *= _length_penalty(_word_pairs(said)[:, None], _word_pairs(wanted))
    return 10.0 * similarity.mean(axis=1) / ngrams.MAXIMUM_ORDER


def _vectors(grams: ngrams.Ngrams, frequency: DocumentFrequency, texts: int) -> tuple[Any, Any]:
    """Return all texts as hypotheses and as references, rows whose products are cosines.

    An entry's weight is what it adds to the square of its text's norm, and also to the product of
    its text, as a reference, with a hypothesis that has it. So an n-gram of the hypothesis counts
    at most as often as the reference has it: repeating a rare word does not pay.
    """
    # The logarithm of the quotient: exactly 0 for what every study has. An n-gram that no
    # reference has counts as if one study had it.
    having = frequency.having
    seen = np.array([having.get(ngram, 1) for ngram in grams.ngrams], dtype=np.float64)
    rarity = np.log(frequency.studies / seen) ** 2
    weights = rarity[grams.code][grams.column] * grams.total
    norms = np.sqrt(np.bincount(grams.text, weights))[grams.text]
    scale = np.divide(1, norms, out=np.zeros(len(norms)), where=norms > 0)
    return grams.table(scale, texts), grams.table(scale * weights, texts)


def _word_pairs(texts: list[list[str]]) -> Ints:
    """Return the length that pycocoevalcap compares: the number of word pairs."""
    return np.array([max(len(words) - 1, 0) for words in texts])


def _length_penalty(lengths: Ints, others: Ints) -> Floats:
    penalty: Floats = np.exp(-((lengths - others) ** 2) / (2 * _SIGMA**2))
    return penalty
