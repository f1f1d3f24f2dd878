"""Confidence intervals of scores, and tests of differences: bootstrap over studies or patients.

All systems are scored on the same resamples, so that differences between them are paired. What is
resampled are the studies of one test set: an interval says how much a score could vary with
another test set of the same kind, not how it would vary with another training run or hospital.

Counts of different texts or n-grams have no interval here: a resample leaves out 37 % of the
studies, so the count in a resample always falls short of the count in the sample.

References
----------
.. [1] Efron and Tibshirani, "An Introduction to the Bootstrap", 1993: percentile interval.
.. [2] Koehn, "Statistical Significance Tests for Machine Translation Evaluation", EMNLP 2004.
.. [3] Field and Welsh, "Bootstrapping clustered data", JRSS B 69(3), 2007: whole clusters.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xray_captioning.errors import ConfigError, DataError
from xray_captioning.metrics.ngrams import checked_texts
from xray_captioning.metrics.statistics import Statistics, study_statistics, weighted_scores

_CELLS = 1 << 23  # resamples times studies at a time: 64 MB of weights

Array = NDArray[np.float64]


class Comparison(NamedTuple):
    """A system against a rival on the same resamples; nan where a score is a share of nothing."""

    rival: str
    metric: str
    score: float
    rival_score: float
    difference: float  # score minus the rival's
    low: float  # 95 % interval of the difference
    high: float
    p: float  # two-sided

    @property
    def clear(self) -> bool:
        """Whether the 95 % interval of the difference lies above 0."""
        return self.low > 0


@dataclass(frozen=True)
class Bootstrap:
    """Scores of several systems on the same resamples, by system and metric."""

    scores: dict[str, dict[str, float]]  # on the studies themselves
    replicates: dict[str, dict[str, Array]]  # on the resamples, (resamples,)

    def intervals(self, system: str) -> dict[str, tuple[float, float]]:
        """Return the 95 % percentile interval of each metric, both ends nan where it has no value.

        Resamples in which a score is undefined (no finding in any reference) are left out.
        """
        return {name: _interval(values) for name, values in self.replicates[system].items()}

    def compare(self, system: str, rival: str, metric: str) -> Comparison:
        """Compare two systems by one metric on the same resamples.

        ``p`` is twice the share of the resamples in which the difference is on the other side of 0
        or is 0, at least 2 / (resamples + 1): it is below 0.05 about where the interval leaves out
        0. Many metrics and systems are many tests; nothing is corrected for that.
        """
        score, other = (self.scores[name][metric] for name in (system, rival))
        drawn = self.replicates[system][metric] - self.replicates[rival][metric]
        low, high = _interval(drawn)
        return Comparison(rival, metric, score, other, score - other, low, high, _two_sided(drawn))


def bootstrap(
    references: Sequence[str],
    systems: Mapping[str, Sequence[str]],
    groups: Sequence[Hashable] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    reports: Sequence[str] | None = None,
) -> Bootstrap:
    """Score systems on resamples of the studies.

    Parameters
    ----------
    references : sequence of str
        One text a study.
    systems : mapping of str to sequence of str
        What each system wrote, in the same order.
    groups : sequence, optional
        The patient of each study: all studies of a patient are drawn together. Where it is
        absent, each study is drawn on its own.
    resamples : int, default=1000
        How many times as many patients, or studies, as there are are drawn with replacement.
    seed : int, default=0
    reports : sequence of str, optional
        Texts whose findings and sides count, where they are not the references: a protocol may
        have replaced words of the references.

    Returns
    -------
    Bootstrap
        Metrics are those of :func:`xray_captioning.metrics.statistics.weighted_scores`.

    Raises
    ------
    ConfigError
        There is no resample.
    DataError
        There is no system, or its texts cannot be scored.

    Notes
    -----
    A resample is scored as if it were the test set: ``clinical_f1`` averages over the findings
    that some reference of the *resample* has. Otherwise a finding that was not drawn would count
    as an error, even of a perfect system. The averages over all 14, 5 or 18 findings count an
    absent finding with F1 0. So where findings are rare, their intervals are too low and may not
    contain the score itself.

    Percentile intervals are a little too narrow for few studies, and that of a score of exactly 0
    or 1 has no width. Memory, beyond the texts: about 2 kB a study while a system is scored,
    most of it for the n-grams of CIDEr, and 200 MB however many resamples there are.
    """
    if resamples < 1:
        raise ConfigError(f"resamples is {resamples}; give 1 or more")
    if not systems:
        raise DataError("there is no system to score; give at least one")
    checked_texts("references", references)
    reports = references if reports is None else checked_texts("reports", reports)
    codes = _codes(groups, len(references))
    scores, replicates = {}, {}
    for name, texts in systems.items():
        if len(texts) != len(references):
            raise DataError(
                f"{name} has {len(texts)} texts, but there are {len(references)} references"
            )
        statistics = study_statistics(references, checked_texts(name, texts), reports)
        point = weighted_scores(statistics, np.ones((1, len(references))))
        scores[name] = {metric: float(values[0]) for metric, values in point.items()}
        replicates[name] = _replicates(statistics, codes, resamples, seed)
    return Bootstrap(scores, replicates)


def _codes(groups: Sequence[Hashable] | None, studies: int) -> NDArray[np.int64]:
    """Number of the group of each study, from 0."""
    if groups is None:
        return np.arange(studies)
    if len(groups) != studies:
        raise DataError(f"{len(groups)} groups but {studies} studies: give one group a study")
    number: dict[Hashable, int] = {}
    return np.array([number.setdefault(group, len(number)) for group in groups])


def _replicates(
    statistics: Statistics, codes: NDArray[np.int64], resamples: int, seed: int
) -> dict[str, Array]:
    parts = [weighted_scores(statistics, w) for w in _weights(codes, resamples, seed)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _weights(codes: NDArray[np.int64], resamples: int, seed: int) -> Iterator[Array]:
    """Yield how often each resample has each study, a bounded number of resamples at a time."""
    rng, number = np.random.default_rng(seed), int(np.max(codes)) + 1
    step = max(1, _CELLS // len(codes))
    for start in range(0, resamples, step):
        weights = np.empty((min(step, resamples - start), len(codes)))
        for row in weights:
            row[:] = np.bincount(rng.integers(number, size=number), minlength=number)[codes]
        yield weights


def _interval(values: Array) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if not len(known):
        return (float("nan"), float("nan"))
    low, high = np.percentile(known, (2.5, 97.5))
    return float(low), float(high)


def _two_sided(differences: Array) -> float:
    known = differences[np.isfinite(differences)]
    if not len(known):
        return float("nan")
    smaller = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return min(1.0, 2 * (smaller + 1) / (len(known) + 1))
