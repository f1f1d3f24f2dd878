"""ROUGE-L as the COCO caption evaluation computes it: the longest common subsequence.

References
----------
.. [1] Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004.
.. [2] Chen et al., "Microsoft COCO Captions: Data Collection and Evaluation Server", 2015;
   pycocoevalcap 1.2 (beta 1.2, best precision and best recall over the references).
.. [3] Hyyrö, "Bit-parallel LCS-length computation revisited", 2004.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xray_captioning.evaluation.ngrams import References, checked_pairs

_BETA_SQUARED = 1.2**2


def rouge_l(references: References, hypotheses: Sequence[str]) -> float:
    """Compute the mean ROUGE-L of a system.

    Parameters
    ----------
    references : sequence of str or of lists of str
        One or more reference texts a study.
    hypotheses : sequence of str
        The system's texts, in the same order.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    DataError
        When the columns are empty, differ in length or hold anything but text.
    """
    return float(rouge_l_rows(references, hypotheses).mean())


def rouge_l_rows(references: References, hypotheses: Sequence[str]) -> NDArray[np.float64]:
    """Compute the ROUGE-L of every study.

    Parameters
    ----------
    references : sequence of str or of lists of str
        One or more reference texts a study.
    hypotheses : sequence of str
        The system's texts, in the same order.

    Returns
    -------
    ndarray of float64, shape (studies,)
        From 0 to 1. As in pycocoevalcap an empty text is one empty word: two empty texts score
        1, one empty text 0.

    Raises
    ------
    DataError
        When the columns are empty, differ in length or hold anything but text.
    """
    pairs = checked_pairs(references, hypotheses)
    return np.array([_score(texts, hypothesis) for texts, hypothesis in pairs])


def _score(references: list[str], hypothesis: str) -> float:
    words = hypothesis.split() or [""]
    targets = [text.split() or [""] for text in references]
    common = [longest_common_subsequence(target, words) for target in targets]
    precision = max(common) / len(words)
    recall = max(n / len(target) for n, target in zip(common, targets, strict=True))
    if not precision:
        return 0.0
    return (1 + _BETA_SQUARED) * precision * recall / (recall + _BETA_SQUARED * precision)


def longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Count the words of the longest subsequence that two word lists share.

    One row of the usual table is kept as the bits of one integer (a zero where the length grows
    by one), so that a whole row is an addition and two bit operations.

    Parameters
    ----------
    first, second : sequence of str
        Words.

    Returns
    -------
    int
        The length.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << place
    everywhere = (1 << len(first)) - 1
    row = everywhere
    for word in second:
        matched = row & places.get(word, 0)
        row = (row + matched | row - matched) & everywhere
    return len(first) - row.bit_count()
