"""chrF: F-score over runs of one to six characters (Popović 2015), counted by sacrebleu.

Characters forgive an ending or a hyphen that whole words do not. sacrebleu is an extra; where it is
not installed, everything else works without this score. Its signature (Post 2018) is
``case:mixed|eff:yes|nc:6|nw:0|space:no``.
"""

from collections import Counter
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xray_captioning.errors import require
from xray_captioning.metrics.ngrams import Floats, Hypotheses, Ints, References, checked_pairs

ORDERS = 6  # characters in a row that are counted
_BETA_SQUARED = 2.0**2
# Texts whose n-grams are kept, about 0.2 MB a report: pairs of one reference follow each other.
_KEPT = 64


def chrf_statistics(references: References, hypotheses: Hypotheses) -> Ints:
    """Count n-grams of the hypothesis, of the reference, and the matches by order: int64, (studies,
    6, 3). Of several references the one with the best chrF counts.
    """
    pairs = checked_pairs(references, hypotheses)
    metric = require("sacrebleu.metrics", "chrF", "metrics").CHRF(word_order=0)
    extract = require("sacrebleu.metrics.helpers", "chrF", "metrics").extract_all_char_ngrams

    @lru_cache(_KEPT)
    def grams(text: str) -> list[Counter[str]]:
        counts: list[Counter[str]] = extract(text, ORDERS)
        return counts

    def counts(hypothesis: str, reference: str) -> list[int]:
        # What sacrebleu's public scores are made of has no public name.
        parts = map(metric._get_match_statistics, grams(hypothesis), grams(reference))
        return list(chain.from_iterable(parts))

    rows = [
        max((counts(hypothesis, text) for text in texts), key=metric._compute_f_score)
        for texts, hypothesis in pairs
    ]
    return np.array(rows, dtype=np.int64).reshape(-1, ORDERS, 3)


def chrf_from_statistics(statistics: NDArray[Any]) -> Floats:
    """Compute chrF, from 0 to 100, of rows (..., 6, 3) or sums of them as sacrebleu does."""
    said, wanted, matched = np.moveaxis(np.asarray(statistics, dtype=np.float64), -1, 0)
    both = (said > 0) & (wanted > 0)
    orders = np.maximum(both.sum(axis=-1), 1)
    precision, recall = (
        np.divide(matched, total, out=np.zeros(total.shape), where=both).sum(axis=-1) / orders
        for total in (said, wanted)
    )
    product = (1 + _BETA_SQUARED) * precision * recall
    scale = _BETA_SQUARED * precision + recall
    return 100.0 * np.divide(product, scale, out=np.zeros(product.shape), where=scale > 0)
