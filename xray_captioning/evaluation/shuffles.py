"""Whether what a system writes depends on the study at all: a permutation test.

Captions are given to other patients, many times, and scored each time. The share of the shuffles
that score at least as high as the captions where they belong is the p value.

Patients are shuffled, not studies: the findings of one patient's studies are alike, and so may be
the captions, even of a system that cannot tell a finding (``benchmarks/statistics_tests.py``). A
patient may draw himself: leaving that out would make p too small [3]_.

Few studies, or studies that are nearly all alike, leave the test no power: a shuffle that gives
every study captions of a study with the same findings scores as high as no shuffle at all. The
share of such shuffles is the least p that any captions can reach, the references included.

References
----------
.. [1] Good, "Permutation, Parametric, and Bootstrap Tests of Hypotheses", 3rd edition, 2005.
.. [2] Phipson and Smyth, "Permutation P-values Should Never Be Zero", Statistical Applications in
   Genetics and Molecular Biology 9(1), 2010: p of random shuffled_orders, equation 2.
.. [3] Southworth, Kim and Owen, "Properties of balanced permutations", Journal of Computational
   Biology 16(4), 2009.
.. [4] Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological
   Measurement 20(1), 1960: agreement beyond chance as a share of what is possible.
"""

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xray_captioning.errors import DataError
from xray_captioning.metrics.clinical import asserted, finding_columns, scores_from_counts

Array = NDArray[Any]

SHUFFLES = 1_999  # of a test; with them .05 is a whole number of the 2,000 ranks
WORDS = "word_f1"  # F1 of the different words of a caption and of its reference, mean over studies


class ShuffleTest(NamedTuple):
    """A system's captions where they belong, and given to other patients."""

    metric: str  # "clinical_f1", or "word_f1" where no reference has a finding
    score: float  # where they belong, from 0 to 1
    shuffled: float  # mean over the shuffles
    excess: float  # score minus shuffled
    share: float  # excess over what is possible, 1 - shuffled: 0 by chance, 1 a perfect system
    p: float  # one-sided, at least 1 / (shuffles + 1)
    least_p: float  # what the references themselves, as captions, would have
    shuffles: int


def shuffled_orders(patients: Sequence[Hashable], number: int, seed: int) -> Iterator[Array]:
    """Yield, `number` times, which study's caption each study gets: int64, (studies,).

    All studies of a patient get captions of one patient drawn at random, in their order and from
    the start again where that patient has fewer studies. Where each has one study this is a random
    permutation of the studies.
    """
    codes = np.unique(np.asarray(patients), return_inverse=True)[1]
    rows, sizes = np.argsort(codes, kind="stable"), np.bincount(codes)
    starts = np.cumsum(sizes) - sizes
    place = np.empty_like(rows)
    place[rows] = np.arange(len(rows)) - starts[codes[rows]]
    rng = np.random.default_rng(seed)
    for _ in range(number):
        donor = rng.permutation(len(sizes))[codes]
        yield rows[starts[donor] + place % sizes[donor]]


def shuffle_test(
    reports: Sequence[str],
    runs: Sequence[Sequence[str]],
    patients: Sequence[Hashable],
    seed: int = 0,
    shuffles: int = SHUFFLES,
    findings: Sequence[str] | None = None,
) -> ShuffleTest:
    """Test whether captions go better with their own studies than with others'. `runs` are a
    system's captions, all shuffled alike and averaged; `findings` those of ``clinical_f1``.
    ``least_p`` bounds ``p`` where all patients have equally many studies; else captions unlike the
    references may come a little below it.
    """
    if len(set(patients)) < 2:
        raise DataError("captions of one patient cannot be given to others; give at least two")
    orders = [np.arange(len(reports)), *shuffled_orders(patients, shuffles, seed)]
    present = asserted(reports)
    counted = present & finding_columns(findings)
    some = bool(counted.any())
    scored = [
        _clinical_f1(present, asserted(texts), orders, findings)
        if some
        else _word_f1(reports, texts, orders)
        for texts in runs
    ]
    own, *others = np.mean(scored, axis=0)
    # Sums in another order differ in the last digits: a system that always says the same is equal.
    reached = int((np.array(others) >= own - 1e-9).sum())
    mean = float(np.mean(others))
    alike = counted @ (1 << np.arange(counted.shape[1])) if some else _words(reports)[1]
    unchanged = sum(bool((alike[order] == alike).all()) for order in orders[1:])
    return ShuffleTest(
        metric="clinical_f1" if some else WORDS,
        score=float(own),
        shuffled=mean,
        excess=float(own) - mean,
        share=(float(own) - mean) / (1 - mean) if mean < 1 else 0.0,
        p=(1 + reached) / (1 + shuffles),
        least_p=(1 + unchanged) / (1 + shuffles),
        shuffles=shuffles,
    )


def _clinical_f1(
    present: Array, said: Array, orders: Sequence[Array], findings: Sequence[str] | None
) -> Array:
    """Score each order of captions, (orders,), from labels (studies, 18) that are made once."""
    positives = present.sum(axis=0)
    counts = np.empty((len(orders), len(positives), 3), dtype=np.int64)
    for count, order in zip(counts, orders):
        given = said[order]
        hits = (given & present).sum(axis=0)
        count[:] = np.column_stack([hits, given.sum(axis=0) - hits, positives - hits])
    return np.nan_to_num(scores_from_counts(counts, findings)["clinical_f1"])


def _word_f1(reports: Sequence[str], texts: Sequence[str], orders: Sequence[Array]) -> Array:
    """Score each order of captions, (orders,), from the F1 of every caption with every report."""
    (wanted, row), (said, column) = (_words(column) for column in (reports, texts))
    words = sorted(frozenset().union(*wanted, *said))
    one, other = (
        np.array([[word in own for word in words] for own in sets], np.float32)
        for sets in (wanted, said)
    )
    total = one.sum(axis=1)[:, None] + other.sum(axis=1)
    pairs = 2 * (one @ other.T) / np.maximum(total, 1)
    return np.array([pairs[row, column[order]].mean(dtype=np.float64) for order in orders])


def _words(texts: Sequence[str]) -> tuple[list[frozenset[str]], Array]:
    """Return the different sets of words, and which of them each text has."""
    number: dict[frozenset[str], int] = {}
    codes = [number.setdefault(frozenset(text.split()), len(number)) for text in texts]
    return list(number), np.array(codes)
