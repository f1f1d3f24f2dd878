"""How well stated confidence fits what turns out right: Brier score, calibration error, selective risk."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom, t

from xray_captioning.errors import DataError
from xray_captioning.findings import NO_FINDING
from xray_captioning.metrics import labeler, mentions

BINS = 10  # groups of equally many sentences; fewer where there are fewer sentences
LEAST = 5
"""Studies with a wrong, and with a right outcome, below which Brier score and skill have none."""
COVERAGES = (0.5, 0.7, 0.8, 0.9, 0.95, 1.0)
Z = 1.959964  # of a 95 % interval
Floats = NDArray[np.float64]


class Bin(NamedTuple):
    """Sentences of similar confidence."""

    confidence: float  # mean of the stated probabilities, in [0, 1]
    right: float  # share of right sentences, in [0, 1]
    low: float  # 95 % interval of that share, see `share_interval`
    high: float
    n: int


class CalibrationScores(NamedTuple):
    """How well stated probabilities fit what happened."""

    n: int  # sentences
    right: float  # share of right ones, in [0, 1]
    brier: float  # mean squared difference of probability and outcome, in [0, 1]; 0 is best
    brier_low: float | None  # 95 % interval of that mean, see `brier_interval`
    brier_high: float | None
    skill: float | None  # 1 less brier's ratio to that of stating the base rate; None where all are right, or none is
    skill_low: float | None  # 95 % interval, see `skill_interval`
    skill_high: float | None
    log_loss: float  # mean negative log-likelihood, natural logarithm; 0 is best
    calibration_error: float  # mean absolute difference of stated and found shares over the bins, in [0, 1]
    error_by_chance: float  # that of true probabilities, see `error_by_chance`
    bins: list[Bin]  # the least confident first

    def worse_than(self, other: Self) -> bool:
        """Whether the log loss is higher, or the calibration error by more than by chance."""
        margin = other.calibration_error + self.error_by_chance
        return self.calibration_error > margin or self.log_loss > other.log_loss


class Shown(NamedTuple):
    """What is wrong among the sentences whose confidence is no lower than a threshold."""

    coverage: float  # share of the sentences that are shown, in [0, 1]
    threshold: float  # the least confidence of these
    risk: float  # share of wrong ones among them, in [0, 1]
    low: float  # 95 % interval of that share, see `share_interval`
    high: float


class SelectiveRisk(NamedTuple):
    """How well confidence chooses what to withhold (El-Yaniv and Wiener, JMLR 11, 2010; Geifman, arXiv:1805.08206)."""

    area: float  # mean, over all coverages, of the risk of the most confident sentences; in [0, 1], 0 is best
    chance: float  # that of sentences in random order, the share of wrong ones
    best: float  # that of an order in which all wrong ones come last
    shown: list[Shown]  # at each of `COVERAGES`


def sentence_is_right(sentence: str, reference: str) -> bool:
    """Return whether a report supports a sentence."""
    # It asserts each finding that the sentence asserts, on the same side where both name one, and none that it denies;
    # for a sentence without a finding none but support devices.
    said, found = (mentions.asserted_details(labeler.find_mentions(text)) for text in (sentence, reference))
    denied = {name for name, label in labeler.label_report(sentence).items() if label == labeler.DENIED}
    if not said and not denied:
        return labeler.label_report(reference)[NO_FINDING] == 1
    if denied & found.keys() or not said.keys() <= found.keys():
        return False
    return all(not sides or found[name][0] in (sides, frozenset()) for name, (sides, *_) in said.items())


def calibration_scores(confidences: ArrayLike, right: ArrayLike, studies: ArrayLike | None = None) -> CalibrationScores:
    """Compare stated probabilities in [0, 1], (n,), with what turned out right, (n,), by study or each its own."""
    from sklearn.metrics import log_loss

    stated, outcome = np.asarray(confidences, np.float64), np.asarray(right, np.float64)
    if not stated.size or stated.shape != outcome.shape:
        what = f"{stated.size} confidences and {outcome.size} outcomes"
        raise DataError(f"calibration: {what}; give one outcome for each of at least one confidence")
    order = np.argsort(stated, kind="stable")
    names = np.arange(stated.size) if studies is None else np.asarray(studies)
    study = np.unique(names, return_inverse=True)[1]
    found = [
        Bin(float(stated[g].mean()), float(outcome[g].mean()), *share_interval(outcome[g], study[g]), g.size)
        for g in np.array_split(order, BINS)
        if g.size
    ]
    error = sum(b.n * abs(b.confidence - b.right) for b in found) / stated.size
    brier, base = (float(((x - outcome) ** 2).mean()) for x in (stated, outcome.mean()))
    low, high = brier_interval(stated, outcome, study)
    skill, (skill_low, skill_high) = 1 - brier / base if base else None, skill_interval(stated, outcome, study)
    n, right, chance = stated.size, float(outcome.mean()), error_by_chance(found)
    loss = float(log_loss(outcome, stated, labels=[0, 1]))
    return CalibrationScores(n, right, brier, low, high, skill, skill_low, skill_high, loss, error, chance, found)


def selective_risk(confidences: ArrayLike, right: ArrayLike, studies: ArrayLike) -> SelectiveRisk:
    """Return what is wrong among the more confident sentences: their confidence, outcome and study are (n,), n > 0."""
    stated, wrong = np.asarray(confidences, np.float64), ~np.asarray(right, bool)
    study, shown = np.unique(studies, return_inverse=True)[1], []
    for coverage in COVERAGES:
        threshold = np.sort(stated)[-max(1, math.ceil(coverage * stated.size))]
        kept = stated >= threshold
        risk, interval = float(wrong[kept].mean()), share_interval(wrong[kept].astype(float), study[kept])
        shown.append(Shown(float(kept.mean()), float(threshold), risk, *interval))
    return SelectiveRisk(mean_risk(stated, wrong), float(wrong.mean()), mean_risk(-wrong.astype(float), wrong), shown)


def mean_risk(stated: Floats, wrong: NDArray[np.bool_]) -> float:
    """Return the area under the curve of risk over coverage; equally confident sentences are in random order."""
    which = np.unique(-stated, return_inverse=True)[1]
    sizes, found = np.bincount(which), np.bincount(which, wrong)
    shown = np.arange(1, len(stated) + 1)
    return float((np.interp(shown, [0, *sizes.cumsum()], [0, *found.cumsum()]) / shown).mean())


def wilson(share: float, weight: float) -> tuple[float, float]:
    """Return Wilson's interval of a share; `weight` is the squared quantile over the count."""
    centre = (share + weight / 2) / (1 + weight)
    half = np.sqrt(weight * share * (1 - share) + weight**2 / 4) / (1 + weight)
    # Without rounding the share lies inside in any case.
    return max(min(float(centre - half), share), 0.0), min(max(float(centre + half), share), 1.0)


def share_interval(outcome: Floats, study: Any) -> tuple[float, float]:
    """Return a 95 % interval of a share of outcomes (n,), 1 or 0, of studies, (n,)."""
    # Wilson's for as many independent outcomes as have the variance that these have between studies.
    share, studies = float(outcome.mean()), len(np.unique(study))
    spread, variance, n = share * (1 - share), _variance(outcome, study), float(outcome.size)
    if not spread or studies == 1:
        n = studies
    elif variance:  # divided by that of independent outcomes it is the design effect
        n = min(n, n * spread / (n - 1) / variance)
    return wilson(share, Z**2 / n)


def brier_interval(stated: Floats, outcome: NDArray[Any], study: Any) -> tuple[float, float] | tuple[None, None]:
    """Return a 95 % interval of the Brier score, Wilson's alike for the squared differences, (n,), or none."""
    # A few wrong outcomes make nearly all of both: so with fewer than `LEAST` studies with one, or a right one.
    losses = (stated - outcome) ** 2
    mean, variance = float(losses.mean()), _variance(losses, study)
    known = variance and _fewest(outcome, study) >= LEAST
    return wilson(mean, Z**2 * variance / (mean * (1 - mean))) if known else (None, None)


def _fewest(outcome: NDArray[Any], study: Any) -> int:
    """Return how many studies have a wrong outcome, or a right one, whichever are fewer."""
    return min(len(np.unique(study[outcome == value])) for value in (0, 1))


def skill_interval(stated: Floats, outcome: NDArray[Any], study: Any) -> tuple[float, float] | tuple[None, None]:
    """Return a 95 % interval of the skill, a ratio of two sums over studies: Student's, or none as `brier_interval`."""
    fewest = _fewest(outcome, study)
    if fewest < LEAST:  # studies of the rarer outcome, the degrees of freedom
        return None, None
    losses, base = (stated - outcome) ** 2, (outcome.mean() - outcome) ** 2
    ratio = losses.mean() / base.mean()
    reach = float(t.ppf(0.975, fewest - 1)) * (math.sqrt(_variance(losses - ratio * base, study)) / base.mean())
    return float(1 - ratio - reach), min(float(1 - ratio + reach), 1.0)


def error_by_chance(bins: Sequence[Bin]) -> float:
    """Return the mean calibration error of true probabilities in such bins: if outcomes depend it is higher."""
    # De Moivre's mean absolute deviation of a binomial count.
    n, p = (np.array([getattr(b, name) for b in bins]) for name in ("n", "confidence"))
    p = np.clip(p, 1e-12, 1.0)  # SciPy's pmf overflows near the least number there is
    most = np.minimum(np.floor(n * p) + 1, n)
    return float((2 * most * (1 - p) * binom.pmf(most, n, p)).sum() / n.sum())


def _variance(values: Floats, study: Any) -> float:
    """Return the variance of a mean of values (n,) whose studies are independent; 0 of one."""
    sums = np.bincount(study, values - values.mean())[np.unique(study)]
    if len(sums) < 2:
        return 0.0
    return float(len(sums) / (len(sums) - 1) * (sums**2).sum() / values.size**2)
