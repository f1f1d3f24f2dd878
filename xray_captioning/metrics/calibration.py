"""How well stated confidence fits what turns out right: Brier score and calibration error."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xray_captioning.errors import DataError
from xray_captioning.findings import NO_FINDING
from xray_captioning.metrics.labeler import DENIED, label_report
from xray_captioning.metrics.sides import asserted_sides

BINS = 10
"""Groups of equally many sentences; fewer where there are fewer sentences."""


class Bin(NamedTuple):
    """Sentences of similar confidence."""

    confidence: float  # mean of the stated probabilities, in [0, 1]
    right: float  # share of right sentences, in [0, 1]
    low: float  # 95 % interval of that share (Wilson, 1927)
    high: float
    n: int


class CalibrationScores(NamedTuple):
    """How well stated probabilities fit what happened.

    The calibration error is the mean absolute difference of stated and found shares over bins of
    equally many sentences [1]_; with few sentences it is above 0 even of true probabilities.

    References
    ----------
    .. [1] Nguyen and O'Connor, Posterior calibration and exploratory analysis for natural language
       processing models, EMNLP 2015.
    """

    n: int  # sentences
    right: float  # share of right ones, in [0, 1]
    brier: float  # mean squared difference of probability and outcome, in [0, 1]; 0 is best
    calibration_error: float  # in [0, 1]
    bins: list[Bin]  # the least confident first


def sentence_is_right(sentence: str, reference: str) -> bool:
    """Return whether a reference report supports a sentence.

    The reference must assert each finding that the sentence asserts, certain or not, on the same
    side where both name one. It must assert no finding that the sentence denies. A sentence that
    names no finding ("No acute disease.") is right where the reference has none but support
    devices.

    Examples
    --------
    >>> sentence_is_right("Small left effusion.", "left pleural effusion . cardiomegaly")
    True
    >>> sentence_is_right("Small right effusion.", "left pleural effusion . cardiomegaly")
    False
    """
    said, found = asserted_sides(sentence), asserted_sides(reference)
    denied = {name for name, label in label_report(sentence).items() if label == DENIED}
    if not said and not denied:
        return label_report(reference)[NO_FINDING] == 1
    same = (found.get(name) in (sides, frozenset()) or not sides for name, sides in said.items())
    return said.keys() <= found.keys() and not denied & found.keys() and all(same)


def calibration_scores(confidences: ArrayLike, right: ArrayLike) -> CalibrationScores:
    """Compare stated probabilities with what turned out right.

    Parameters
    ----------
    confidences : array_like of float, shape (n,)
        In [0, 1].
    right : array_like of bool, shape (n,)

    Raises
    ------
    DataError
        There is no sentence, or the two differ in length.
    """
    stated = np.asarray(confidences, np.float64)
    outcome = np.asarray(right, np.float64)
    if not stated.size or stated.shape != outcome.shape:
        raise DataError(
            f"calibration: {stated.size} confidences and {outcome.size} outcomes; give one "
            "outcome for each of at least one confidence"
        )
    order = np.argsort(stated, kind="stable")
    groups = [g for g in np.array_split(order, BINS) if g.size]
    found = [_bin(stated[group], outcome[group]) for group in groups]
    error = sum(b.n * abs(b.confidence - b.right) for b in found) / stated.size
    brier = float(np.mean((stated - outcome) ** 2))
    return CalibrationScores(stated.size, float(outcome.mean()), brier, error, found)


def _bin(stated: NDArray[np.float64], outcome: NDArray[np.float64]) -> Bin:
    from scipy.stats import binomtest

    share = float(outcome.mean())
    low, high = binomtest(int(outcome.sum()), outcome.size).proportion_ci(method="wilson")
    return Bin(float(stated.mean()), share, min(low, share), max(high, share), stated.size)
