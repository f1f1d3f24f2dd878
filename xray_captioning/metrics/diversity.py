"""How much a system's texts differ from each other, whatever the references say.

A system that always writes the same sentence has entropy 0. One that copies training reports at
random is the most diverse of all, so read these numbers beside the clinical scores.

References
----------
.. [1] Li et al., "A Diversity-Promoting Objective Function for Neural Conversation Models",
   NAACL 2016: distinct-1 and distinct-2.
.. [2] Shannon, "A Mathematical Theory of Communication", 1948.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from xray_captioning.metrics.columns import checked_texts


def distinct_ngrams(texts: Sequence[str], order: int) -> float:
    """Divide the number of different n-grams of all texts together by the number of n-grams.

    The paper divides by the number of words, which for an order of 2 or more is a little larger;
    this is the share that became usual, 1 where no n-gram comes twice and 0 where no text has
    that many words. It falls as more texts are scored, so compare it between systems on the same
    studies only. `order` is the number of words in an n-gram, 1 or more.
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
