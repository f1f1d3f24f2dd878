"""ROUGE twice: ROUGE-L as the COCO caption evaluation computes it, and rouge-score's three.

COCO's (pycocoevalcap 1.2: beta 1.2, best precision and best recall over the references) weighs recall
more and takes words as they stand between spaces. rouge-score 0.1.2 takes the plain F1, the best over
the references, of the runs of a-z and 0-9 of the lower-cased text, without stemming. It fills a table
in plain Python for every pair, so it is written here and tested against it.
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from xray_captioning.metrics.ngrams import Floats, Hypotheses, Ints, References, checked_pairs

_BETA_SQUARED = 1.2**2
_ALPHANUMERIC = re.compile("[a-z0-9]+")


def rouge_l_rows(references: References, hypotheses: Hypotheses) -> Floats:
    """Compute the COCO ROUGE-L of every study, (studies,), from 0 to 1; a system's is their mean.
    As in pycocoevalcap an empty text is one empty word.
    """
    best = []
    for texts, hypothesis in checked_pairs(references, hypotheses):
        precision, recall = _shares(_WordOrder([_words(text) for text in texts]), hypothesis)
        best.append((precision.max(), recall.max()))
    return _f_measure(*np.array(best).T)


def rouge_l_of_constants(references: Sequence[str], candidates: Sequence[str]) -> Floats:
    """Return the mean of what `rouge_l_rows` gives each fixed text, to rounding: (candidates,)."""
    order = _WordOrder([_words(text) for text in references])
    return np.array([_f_measure(*_shares(order, text)).mean() for text in candidates])


def _words(text: str) -> list[str]:
    return text.split() or [""]


class _WordOrder:
    """Texts prepared for the longest subsequence that each shares with another (Hyyrö 2004).

    They lie one behind the other in one large integer, a bit a word and a free bit after each. One row
    of the usual table is such an integer (a zero where the length grows by one), so that a row of all
    texts' tables is an addition and two bit operations; what the addition carries over ends in the free
    bit.
    """

    def __init__(self, texts: Sequence[Sequence[str]]) -> None:
        self.lengths = np.array([len(text) for text in texts])
        ends = np.cumsum(self.lengths + 1)
        self.starts, self.bits = ends - self.lengths - 1, int(ends[-1])
        self.places: dict[str, int] = {}
        for start, text in zip(self.starts.tolist(), texts, strict=True):
            for place, word in enumerate(text, start):
                self.places[word] = self.places.get(word, 0) | 1 << place
        free = sum(1 << end - 1 for end in ends.tolist())
        self.everywhere = (1 << self.bits) - 1 - free

    def common(self, words: Sequence[str]) -> Ints:
        """Return the length of the longest common subsequence with each text, shape (texts,)."""
        row = self.everywhere
        for word in words:
            matched = row & self.places.get(word, 0)
            row = (row + matched | row - matched) & self.everywhere
        data = np.frombuffer(row.to_bytes(self.bits // 8 + 1, "little"), np.uint8)
        ones = np.add.reduceat(np.unpackbits(data, bitorder="little"), self.starts, dtype=np.int64)
        return self.lengths - ones


def _shares(order: _WordOrder, hypothesis: str) -> tuple[Floats, Floats]:
    """Return precision and recall of a hypothesis against each text."""
    words = _words(hypothesis)
    common = order.common(words)
    return common / len(words), common / order.lengths


def _f_measure(precision: Floats, recall: Floats) -> Floats:
    scale = recall + _BETA_SQUARED * precision
    product = (1 + _BETA_SQUARED) * precision * recall
    return np.divide(product, scale, out=np.zeros(len(scale)), where=scale > 0)


def rouge_score_rows(references: References, hypotheses: Hypotheses) -> Floats:
    """Compute the F1 of ROUGE-1, ROUGE-2 and ROUGE-L, (studies, 3), as rouge-score does."""
    best = []
    for texts, hypothesis in checked_pairs(references, hypotheses):
        said = _ALPHANUMERIC.findall(hypothesis.lower())
        scores = [_f1s(_ALPHANUMERIC.findall(text.lower()), said) for text in texts]
        best.append([max(column) for column in zip(*scores, strict=True)])
    return np.array(best)


def _f1s(target: list[str], said: list[str]) -> list[float]:
    words = len(target) + len(said)
    unigrams = (Counter(target) & Counter(said)).total()
    bigrams = (Counter(pairwise(target)) & Counter(pairwise(said))).total()
    longest = int(_WordOrder([target]).common(said)[0])
    # F1 of what is common from the sizes of both sides together.
    counts = ((unigrams, words), (bigrams, words - 2), (longest, words))
    return [2 * common / both if common else 0.0 for common, both in counts]
