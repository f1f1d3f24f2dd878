"""ROUGE twice: ROUGE-L as the COCO caption evaluation computes it, and rouge-score's three.

COCO's ROUGE-L weighs recall more than precision and takes words as they stand between spaces.
rouge-score, which summarisation papers use, takes the plain F1 of the runs of a-z and 0-9 of the
lower-cased text, without stemming: full stops and commas are no words there, and "right-sided"
is two. Equal names, different numbers. rouge-score's last release is of 2022 and fills a table in
plain Python for every pair, so what it computes is written here and tested against it.

References
----------
.. [1] Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004.
.. [2] Chen et al., "Microsoft COCO Captions: Data Collection and Evaluation Server", 2015;
   pycocoevalcap 1.2 (beta 1.2, best precision and best recall over the references).
.. [3] google-research/rouge, package rouge-score 0.1.2 (default tokenizer, best F1 over the
   references for each score).
.. [4] Hyyrö, "Bit-parallel LCS-length computation revisited", 2004.
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from xray_captioning.metrics.ngrams import References, checked_pairs

_BETA_SQUARED = 1.2**2
_ALPHANUMERIC = re.compile("[a-z0-9]+")


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


def rouge_score_rows(references: References, hypotheses: Sequence[str]) -> NDArray[np.float64]:
    """Compute the F1 of ROUGE-1, ROUGE-2 and ROUGE-L of every study as rouge-score does.

    Parameters
    ----------
    references : sequence of str or of lists of str
        One or more reference texts a study.
    hypotheses : sequence of str
        The system's texts, in the same order.

    Returns
    -------
    ndarray of float64, shape (studies, 3)
        From 0 to 1; 0 where either text has no word, or for ROUGE-2 fewer than two.

    Raises
    ------
    DataError
        When the columns are empty, differ in length or hold anything but text.
    """
    pairs = checked_pairs(references, hypotheses)
    return np.array([_best_f1(texts, hypothesis) for texts, hypothesis in pairs])


def _best_f1(references: list[str], hypothesis: str) -> list[float]:
    said = _ALPHANUMERIC.findall(hypothesis.lower())
    scores = [_f1s(_ALPHANUMERIC.findall(text.lower()), said) for text in references]
    return [max(column) for column in zip(*scores, strict=True)]


def _f1s(target: list[str], said: list[str]) -> tuple[float, float, float]:
    words = len(target) + len(said)
    bigrams = Counter(pairwise(target)) & Counter(pairwise(said))
    return (
        _f1((Counter(target) & Counter(said)).total(), words),
        _f1(bigrams.total(), words - 2),
        _f1(longest_common_subsequence(target, said), words),
    )


def _f1(common: int, both: int) -> float:
    """F1 of what is common from the sizes of both sides together."""
    return 2 * common / both if common else 0.0


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
