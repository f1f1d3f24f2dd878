"""References as R2Gen's evaluation on IU X-ray makes them, which many published tables follow.

They are not the reports: they are cleaned, words seen fewer than three times in training become
``<unk>``, and words after the 59th are left out. A system's texts are only cleaned.

References
----------
.. [1] Chen et al., "Generating Radiology Reports via Memory-driven Transformer", EMNLP 2020, and
   its released code (threshold 3, sequences of 60 with one start token).
"""

from collections import Counter
from collections.abc import Iterable

from xray_captioning.text.cleaning import clean_r2gen

R2GEN = "r2gen"
"""Name of the protocol, and of its cleaning."""

MINIMUM_FREQUENCY = 3
"""Rarer training words become ``<unk>`` in the references."""

MAXIMUM_WORDS = 59
"""Words of a reference that are scored."""


def r2gen_vocabulary(training_reports: Iterable[str]) -> frozenset[str]:
    """Return the cleaned words that training reports have at least `MINIMUM_FREQUENCY` times."""
    counts = Counter(word for text in training_reports for word in clean_r2gen(text).split())
    return frozenset(word for word, number in counts.items() if number >= MINIMUM_FREQUENCY)


def r2gen_references(
    reports: Iterable[str], vocabulary: frozenset[str], maximum_words: int | None = MAXIMUM_WORDS
) -> list[str]:
    """Make the references that R2Gen scores against of reports as they stand.

    `vocabulary` is :func:`r2gen_vocabulary`'s; None for `maximum_words` keeps whole reports.
    """
    cleaned = (clean_r2gen(text).split()[:maximum_words] for text in reports)
    return [" ".join(w if w in vocabulary else "<unk>" for w in words) for words in cleaned]
