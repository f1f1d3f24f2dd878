"""CIDEr as pycocoevalcap's ``Cider`` computes it, which the literature calls CIDEr-D.

References
----------
.. [1] Vedantam, Zitnick and Parikh, "CIDEr: Consensus-based Image Description Evaluation",
   CVPR 2015.
.. [2] Chen et al., "Microsoft COCO Captions: Data Collection and Evaluation Server", 2015;
   pycocoevalcap 1.2 (sigma 6, orders 1 to 4, times 10).
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xray_captioning.metrics.ngrams import (
    MAXIMUM_ORDER,
    NgramCounts,
    Pairs,
    References,
    blocks,
    checked_pairs,
    count_ngrams,
    look_up,
)

_SIGMA = 6.0


def cider(references: References, hypotheses: Sequence[str]) -> float:
    """Compute the mean CIDEr of a system.

    Parameters
    ----------
    references : sequence of str or of lists of str
        One or more reference texts a study; they also say how common each n-gram is.
    hypotheses : sequence of str
        The system's texts, in the same order.

    Returns
    -------
    float
        From 0 to 10.

    Raises
    ------
    DataError
        When the columns are empty, differ in length or hold anything but text.
    """
    return float(cider_rows(references, hypotheses).mean())


def cider_rows(references: References, hypotheses: Sequence[str]) -> NDArray[np.float64]:
    """Compute the CIDEr of every study.

    Parameters
    ----------
    references : sequence of str or of lists of str
        One or more reference texts a study; they also say how common each n-gram is.
    hypotheses : sequence of str
        The system's texts, in the same order.

    Returns
    -------
    ndarray of float64, shape (studies,)
        From 0 to 10; all 0 for a single study, whose n-grams tell nothing apart.

    Raises
    ------
    DataError
        When the columns are empty, differ in length or hold anything but text.
    """
    pairs = checked_pairs(references, hypotheses)
    frequency: Counter[tuple[str, ...]] = Counter()
    for block in blocks(pairs):
        frequency.update(_document_frequency(block))
    return np.concatenate([_block_scores(b, frequency, len(pairs)) for b in blocks(pairs)])


def _document_frequency(pairs: Pairs) -> Counter[tuple[str, ...]]:
    """In how many studies some reference has each n-gram."""
    texts = [text.split() for texts, _ in pairs for text in texts]
    study = np.repeat(np.arange(len(pairs)), [len(texts) for texts, _ in pairs])
    frequency: Counter[tuple[str, ...]] = Counter()
    for grams in count_ngrams(texts):
        distinct = max(1, len(grams.first))
        once = np.unique(study[grams.text] * distinct + grams.code) % distinct
        number = np.bincount(once, minlength=len(grams.first))
        frequency.update(dict(zip(grams.ngrams, number.tolist(), strict=True)))
    return frequency


def _block_scores(
    pairs: Pairs, frequency: Counter[tuple[str, ...]], studies: int
) -> NDArray[np.float64]:
    hypotheses = [hypothesis.split() for _, hypothesis in pairs]
    references = [text.split() for texts, _ in pairs for text in texts]
    number = np.array([len(texts) for texts, _ in pairs])
    study = np.repeat(np.arange(len(pairs)), number)
    similarity = np.zeros(len(references))
    for grams in count_ngrams([*hypotheses, *references]):
        weight = _weights(grams, frequency, studies)
        similarity += _cosines(grams, weight, study, len(pairs))
    # The length that is compared is the number of word pairs, as there.
    pairs_in = [np.array([max(len(t) - 1, 0) for t in side]) for side in (hypotheses, references)]
    difference = pairs_in[0][study] - pairs_in[1]
    similarity *= np.exp(-(difference**2) / (2 * _SIGMA**2))
    totals = np.bincount(study, weights=similarity, minlength=len(pairs))
    return 10.0 * totals / number / MAXIMUM_ORDER


def _weights(
    grams: NgramCounts, frequency: Counter[tuple[str, ...]], studies: int
) -> NDArray[np.float64]:
    """Count times inverse document frequency of every entry; unseen n-grams count as one study."""
    seen = np.array([frequency.get(ngram, 1) for ngram in grams.ngrams], dtype=np.float64)
    # The logarithm of the quotient: exactly 0 for what every study has.
    rarity: NDArray[np.float64] = np.log(studies / seen)
    return rarity[grams.code] * grams.count


def _cosines(
    grams: NgramCounts, weight: NDArray[np.float64], study: NDArray[np.int64], number: int
) -> NDArray[np.float64]:
    """Similarity of one order between each reference and the hypothesis of its study."""
    texts = number + len(study)
    distinct, split = max(1, len(grams.first)), np.searchsorted(grams.text, number)
    norms = np.sqrt(np.bincount(grams.text, weights=weight**2, minlength=texts))
    keys = grams.text[:split] * distinct + grams.code[:split]
    reference, own = grams.text[split:] - number, weight[split:]
    other = look_up(keys, weight[:split], study[reference] * distinct + grams.code[split:])
    # Clipped to the reference, so that repeating a rare word does not pay.
    product = np.bincount(reference, weights=np.minimum(other, own) * own, minlength=len(study))
    scale = norms[study] * norms[number:]
    return np.divide(product, scale, out=np.zeros(len(study)), where=scale > 0)
