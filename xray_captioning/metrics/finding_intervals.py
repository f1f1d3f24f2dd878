"""Finding probabilities measured against labels, with 95 % intervals over patients.

Studies of one patient are alike, so the variance of a measure is that of patients' totals: every
study has its influence on the measure (by how much it moves it from its expectation, to first
order), and the influences of a patient's studies are added up before they are squared (DeLong et
al. 1988; with clusters: Obuchowski 1997, equations 4 to 8). Sources: ``docs/statistics.md``.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm, rankdata, t

Array = NDArray[Any]

LEAST = 5  # with fewer patients who have a finding, or who have it not, nothing has an interval
PRIOR = 10  # patients as many as which the assumed variance of an area counts; chosen by simulation
LEVEL = 0.975


class Estimate(NamedTuple):
    """A measure and its 95 % interval: nan where a class has fewer than `LEAST` patients."""

    value: float
    low: float
    high: float
    influence: Array  # of each patient up to the last one here; sums to 0


def auroc(present: Array, scores: Array, patients: Array) -> Estimate:
    """Measure the area under the ROC curve of scores, (studies,); both classes are present.

    The interval solves ``(area - a)² = t² V(a)`` for ``a`` (Newcombe 2006, method 5), so that it
    has a width where separation is perfect, too. ``V`` is the variance of Hanley and McNeil (1982)
    times what DeLong's with clusters is of it. A ratio seen in few patients is unstable, so it is
    moderated (Smyth 2004): Hanley and McNeil's own counts as `PRIOR` patients more, in the ratio
    and in the degrees of freedom of Student's t. Patients are numbers from 0.
    """
    positives, negatives = int(present.sum()), int((~present).sum())
    # The share of the other class that a study is on the right side of; ties count half.
    above = rankdata(scores) - np.where(present, _within(scores, present), 0)
    below = rankdata(-scores) - np.where(present, 0, _within(-scores, ~present))
    side = np.where(present, above / negatives, below / positives)
    area = float(side[present].mean())
    counts = _patients(present, patients)
    fewest = min(counts)
    # Each class is averaged over its own patients (Bessel's correction).
    share = np.where(present, _bessel(counts[1]) / positives, _bessel(counts[0]) / negatives)
    single = (side - area) * share
    influence = np.bincount(patients, single)
    ratio = cluster = 1.0
    if fewest < LEAST:
        return Estimate(area, np.nan, np.nan, influence)
    if assumed := _hanley_mcneil(area, positives, negatives):
        ratio = (influence**2).sum() / assumed
        cluster = _design_effect(influence, float((single**2).sum()))
    factor = (fewest * ratio + PRIOR * cluster) / (fewest + PRIOR)
    factor *= t.ppf(LEVEL, fewest - 1 + PRIOR) ** 2
    low, high = _solved(area, positives, negatives, factor)
    return Estimate(area, low, high, influence)


def f1(present: Array, said: Array, patients: Array) -> Estimate:
    """Measure F1 of what is said to be present, (studies,) of bool.

    ``F1 = 2 j / (1 + j)`` where ``j`` is the share of studies with the finding in both among those
    with it in either: a proportion, whose interval is Wilson's. Where a patient has several
    studies they count as fewer, by the ratio of the two variances.
    """
    both, either = present & said, present | said
    share = both.sum() / either.sum()
    influence = np.bincount(patients, both - share * either) / either.sum()
    count = either.sum() / _design_effect(influence, share * (1 - share) / either.sum())
    ends = wilson(float(share), norm.ppf(LEVEL) ** 2 / count)
    if min(_patients(present, patients)) < LEAST:
        ends = np.nan, np.nan
    value, low, high = (float(2 * j / (1 + j)) for j in (share, *ends))
    return Estimate(value, low, high, influence * 2 / (1 + share) ** 2)


def mean_over_prevalence(present: Array, probabilities: Array, patients: Array) -> Estimate:
    """Measure the mean probability over the share that is present: 1 is calibrated in the large.
    The interval is that of the logarithm, by Student's t.
    """
    value = float(probabilities.sum() / present.sum())
    single = probabilities / probabilities.sum() - present / present.sum()
    influence = np.bincount(patients, single)
    fewest = min(_patients(present, patients))
    if fewest < LEAST:
        return Estimate(value, np.nan, np.nan, influence)
    error = np.sqrt((influence**2).sum()) * _bessel(fewest)
    factor = float(np.exp(t.ppf(LEVEL, fewest - 1) * error))
    return Estimate(value, value / factor, value * factor, influence * value)


def mean_of(measured: Sequence[Estimate]) -> Estimate:
    """Average a measure over findings, of which a study may have several: limits are those of a sum
    of correlated terms (Zou 2007), the correlations those of influences.
    """
    values, lows, highs = (np.array([m[i] for m in measured]) for i in range(3))
    patients = max(len(m.influence) for m in measured)
    influences = np.array([np.pad(i, (0, patients - len(i))) for *_, i in measured])
    length = np.linalg.norm(influences, axis=1, keepdims=True)
    unit = influences / np.where(length, length, 1)
    correlation = unit @ unit.T
    np.fill_diagonal(correlation, 1)
    below, above = (np.sqrt(d @ correlation @ d) / len(d) for d in (values - lows, highs - values))
    value = values.mean()
    return Estimate(float(value), value - below, value + above, influences.mean(axis=0))


def wilson(share: float, weight: float) -> tuple[float, float]:
    """Return Wilson's interval of a share; `weight` is the squared quantile over the count."""
    centre = (share + weight / 2) / (1 + weight)
    half = np.sqrt(weight * share * (1 - share) + weight**2 / 4) / (1 + weight)
    # Without rounding the share lies inside in any case.
    return max(min(float(centre - half), share), 0.0), min(max(float(centre + half), share), 1.0)


def _patients(present: Array, patients: Array) -> tuple[int, int]:
    """Return how many patients have studies without, and with, the finding."""
    return len(np.unique(patients[~present])), len(np.unique(patients[present]))


def _within(scores: Array, chosen: Array) -> Array:
    """Return ranks among the chosen studies, and 0 elsewhere."""
    ranks = np.zeros(len(scores))
    ranks[chosen] = rankdata(scores[chosen])
    return ranks


def _bessel(count: int) -> float:
    return float(np.sqrt(count / max(count - 1, 1)))


def _design_effect(influence: Array, independent: float) -> float:
    """Return how many times the variance is what it would be if studies were independent."""
    return max(float((influence**2).sum()) / independent, 1.0) if independent else 1.0


def _hanley_mcneil(area: float, positives: int, negatives: int) -> float:
    # Newcombe's form: half the total in place of either class' count.
    pairs = (positives + negatives) / 2 - 1
    spread = 1 + pairs * ((1 - area) / (2 - area) + area / (1 + area))
    return area * (1 - area) / (positives * negatives) * spread


def _solved(area: float, positives: int, negatives: int, factor: float) -> tuple[float, float]:
    def excess(other: float) -> float:
        return (area - other) ** 2 - factor * _hanley_mcneil(other, positives, negatives)

    near = 1e-9  # at the area itself both terms may be 0
    low = brentq(excess, 0, area - near) if area > near else 0.0
    high = brentq(excess, area + near, 1) if area < 1 - near else 1.0
    return float(low), float(high)
