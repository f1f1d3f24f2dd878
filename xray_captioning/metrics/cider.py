"""CIDEr as pycocoevalcap's ``Cider`` computes it, which the literature calls CIDEr-D.

References
----------
.. [1] Vedantam, Zitnick and Parikh, "CIDEr: Consensus-based Image Description Evaluation",
   CVPR 2015.
.. [2] Chen et al., "Microsoft COCO Captions: Data Collection and Evaluation Server", 2015;
   pycocoevalcap 1.2 (sigma 6, orders 1 to 4, times 10).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xray_captioning.metrics.ngrams import (
    MAXIMUM_ORDER,
    Ngrams,
    Pairs,
    References,
    blocks,
    checked_pairs,
    count_ngrams,
)

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Frequency = Counter[tuple[str, ...]]

_SIGMA = 6.0
_CANDIDATES = 256  # compared with all references at a time, to bound memory


def cider_rows(references: References, hypotheses: Sequence[str]) -> NDArray[np.float64]:
    """Compute the CIDEr of every study; a system's CIDEr is their mean.

    The references also say how common each n-gram is.

    Returns
    -------
    ndarray of float64, shape (studies,)
        From 0 to 10; all 0 for a single study, whose n-grams tell nothing apart.
    """
    pairs = checked_pairs(references, hypotheses)
    frequency: Frequency = Counter()
    for block in blocks(pairs):
        frequency.update(_document_frequency(block))
    return np.concatenate([_block_scores(b, frequency, len(pairs)) for b in blocks(pairs)])


def _document_frequency(pairs: Pairs) -> Frequency:
    """Count in how many studies some reference has each n-gram."""
    texts = [text.split() for texts, _ in pairs for text in texts]
    study = np.repeat(np.arange(len(pairs)), [len(texts) for texts, _ in pairs])
    frequency: Frequency = Counter()
    for grams in count_ngrams(texts):
        distinct = max(1, len(grams.ngrams))
        held = np.unique(study[grams.text] * distinct + grams.code[grams.column]) % distinct
        number = np.bincount(held, minlength=len(grams.ngrams))
        frequency.update(dict(zip(grams.ngrams, number.tolist(), strict=True)))
    return frequency


def _block_scores(pairs: Pairs, frequency: Frequency, studies: int) -> NDArray[np.float64]:
    hypotheses = [hypothesis.split() for _, hypothesis in pairs]
    references = [text.split() for texts, _ in pairs for text in texts]
    number = np.array([len(texts) for texts, _ in pairs])
    study = np.repeat(np.arange(len(pairs)), number)
    similarity = np.zeros(len(references))
    for grams in count_ngrams([*hypotheses, *references]):
        similarity += _cosines(grams, _weights(grams, frequency, studies), study, len(pairs))
    similarity *= _length_penalty(_word_pairs(hypotheses)[study], _word_pairs(references))
    totals = np.bincount(study, weights=similarity, minlength=len(pairs))
    return 10.0 * totals / number / MAXIMUM_ORDER


def _weights(grams: Ngrams, frequency: Frequency, studies: int) -> NDArray[np.float64]:
    """Return what each entry adds to the square of its text's norm.

    That is also what it adds to the product of its text, as a reference, with a hypothesis that
    has it. So an n-gram of the hypothesis counts at most as often as the reference has it:
    repeating a rare word does not pay.
    """
    # The logarithm of the quotient: exactly 0 for what every study has. An n-gram that no
    # reference has counts as if one study had it.
    seen = np.array([frequency.get(ngram, 1) for ngram in grams.ngrams], dtype=np.float64)
    rarity: NDArray[np.float64] = np.log(studies / seen) ** 2
    return rarity[grams.code][grams.column] * grams.total


def _cosines(
    grams: Ngrams, weights: NDArray[np.float64], study: NDArray[np.int64], number: int
) -> NDArray[np.float64]:
    """Return the similarity of one order between each reference and its study's hypothesis."""
    norms = np.sqrt(np.bincount(grams.text, weights, minlength=number + len(study)))
    split = int(np.searchsorted(grams.text, number))
    every = np.concatenate([np.arange(number), study])
    own, others = (grams.keys(part, every) for part in (slice(split), slice(split, None)))
    shared = np.isin(others, own) * weights[split:]
    product = np.bincount(grams.text[split:] - number, shared, minlength=len(study))
    scale = norms[study] * norms[number:]
    return np.divide(product, scale, out=np.zeros(len(study)), where=scale > 0)


def cider_of_constants(references: Sequence[str], candidates: Sequence[str]) -> NDArray[np.float64]:
    """Return the mean of what `cider_rows` gives each fixed text, to rounding: (candidates,)."""
    said, wanted = ([text.split() for text in texts] for texts in (candidates, references))
    frequency = _document_frequency([([text], "") for text in references])
    similarity = np.zeros((len(said), len(wanted)))
    for grams in count_ngrams([*said, *wanted]):
        vectors = _vectors(grams, _weights(grams, frequency, len(wanted)), len(said) + len(wanted))
        own, others = vectors[0][: len(said)], vectors[1][len(said) :]
        for start in range(0, len(said), _CANDIDATES):
            part = slice(start, start + _CANDIDATES)
            similarity[part] += (own[part] @ others.T).toarray()
    similarity *= _length_penalty(_word_pairs(said)[:, None], _word_pairs(wanted))
    return 10.0 * similarity.mean(axis=1) / MAXIMUM_ORDER


def _vectors(
    grams: Ngrams, weights: NDArray[np.float64], texts: int
) -> tuple[csr_array, csr_array]:
    """Return all texts as hypotheses and as references, rows whose products are cosines."""
    from scipy.sparse import csr_array

    norms = np.sqrt(np.bincount(grams.text, weights))[grams.text]
    scale = np.divide(1, norms, out=np.zeros(len(norms)), where=norms > 0)
    places, shape = (grams.text, grams.column), (texts, len(grams.code))
    own, others = (csr_array((values, places), shape) for values in (scale, scale * weights))
    return own, others


def _word_pairs(texts: list[list[str]]) -> NDArray[np.int64]:
    """Return the length that pycocoevalcap compares: the number of word pairs."""
    return np.array([max(len(words) - 1, 0) for words in texts])


def _length_penalty(lengths: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.float64]:
    penalty: NDArray[np.float64] = np.exp(-((lengths - others) ** 2) / (2 * _SIGMA**2))
    return penalty
