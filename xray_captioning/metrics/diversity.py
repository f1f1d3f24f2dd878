"""How much a system's texts differ from each other, whatever the references say.

A system that always writes the same sentence has entropy 0 (Shannon 1948). One that copies training
reports at random is the most diverse of all, so read these numbers beside the clinical scores.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from xray_captioning.metrics.columns import checked_texts


def distinct_ngrams(texts: Sequence[str], order: int) -> float:
    """Divide the number of different n-grams (of `order` words) of all texts by that of n-grams.

    Li et al. (2016) divide by the number of words; this is the share that became usual. It falls as
    more texts are scored, so compare it between systems on the same studies only.
    """
    different: set[tuple[str, ...]] = set()
    total = 0
    for text, times in Counter(checked_texts("texts", texts)).items():
        words = text.split()
        grams = list(zip(*(words[start:] for start in range(order))))
        different.update(grams)
        total += times * len(grams)
    return len(different) / total if total else 0.0


def caption_entropy(texts: Sequence[str]) -> float:
    """Compute the entropy of the distribution of whole captions, in bits; at most log2(n)."""
    counts = np.array(list(Counter(checked_texts("texts", texts)).values()))
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum()) + 0.0  # no minus zero
