"""Whether stated probabilities are kept: right sentences, calibration error, reliability plot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xray_captioning.errors import DataError
from xray_captioning.files import atomic_path
from xray_captioning.metrics.labeler import DENIED, label_report
from xray_captioning.metrics.sides import asserted_sides

BINS = 10
COLOURS = ("#999999", "#0072B2", "#D55E00")


class Bin(NamedTuple):
    """Sentences of similar confidence.

    Attributes
    ----------
    confidence : float
        Mean of what was stated, in [0, 1].
    right : float
        Share of right ones, in [0, 1].
    low, high : float
        95 % interval of that share [1]_.
    n : int

    References
    ----------
    .. [1] Wilson, Probable inference, the law of succession, and statistical inference, 1927.
    """

    confidence: float
    right: float
    low: float
    high: float
    n: int


class Reliability(NamedTuple):
    """How well stated probabilities fit what happened.

    Attributes
    ----------
    n : int
        Sentences.
    right : float
        Share of right ones, in [0, 1].
    brier : float
        Mean squared difference of probability and outcome, in [0, 1]; 0 is best.
    calibration_error : float
        Mean absolute difference of stated and found shares over bins of equally many sentences
        [1]_, in [0, 1]; of few sentences it is not 0 however true the probabilities are.
    bins : list of Bin
        From the least confident on.

    References
    ----------
    .. [1] Nguyen and O'Connor, Posterior calibration and exploratory analysis for natural language
       processing models, EMNLP 2015.
    """

    n: int
    right: float
    brier: float
    calibration_error: float
    bins: list[Bin]


def sentence_is_right(sentence: str, reference: str) -> bool:
    """Tell whether a reference report bears a sentence out.

    Each finding that the sentence asserts, certain or not, must be asserted by the reference, too,
    and on the same side where both name one; no finding that it denies may be asserted there. A
    sentence that speaks of no finding ("No acute disease.") is right where the reference has none
    but support devices.

    Parameters
    ----------
    sentence, reference : str

    Returns
    -------
    bool

    Raises
    ------
    DataError
        If one of them is not a string.

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
        return label_report(reference)["No Finding"] == 1
    same = (found.get(name) in (sides, frozenset()) or not sides for name, sides in said.items())
    return said.keys() <= found.keys() and not denied & found.keys() and all(same)


def reliability(confidences: ArrayLike, right: ArrayLike, bins: int = BINS) -> Reliability:
    """Compare stated probabilities with what turned out right.

    Parameters
    ----------
    confidences : array_like of float, shape (n,)
        In [0, 1].
    right : array_like of bool, shape (n,)
    bins : int
        Groups of equally many sentences; fewer where there are fewer sentences.

    Returns
    -------
    Reliability

    Raises
    ------
    DataError
        There is no sentence, or the two differ in length.
    """
    stated = np.asarray(confidences, np.float64)
    outcome = np.asarray(right, np.float64)
    if not stated.size or stated.shape != outcome.shape:
        raise DataError(
            f"reliability: {stated.size} confidences and {outcome.size} outcomes; give one "
            "outcome for each of at least one confidence"
        )
    order = np.argsort(stated, kind="stable")
    groups = [g for g in np.array_split(order, bins) if g.size]
    found = [_bin(stated[group], outcome[group]) for group in groups]
    error = sum(b.n * abs(b.confidence - b.right) for b in found) / stated.size
    brier = float(np.mean((stated - outcome) ** 2))
    return Reliability(stated.size, float(outcome.mean()), brier, error, found)


def _bin(stated: NDArray[np.float64], outcome: NDArray[np.float64]) -> Bin:
    n, share, z = stated.size, float(outcome.mean()), 1.959964
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = min(max(0.0, middle - half), share), max(min(1.0, middle + half), share)
    return Bin(float(stated.mean()), share, low, high, n)


def plot_reliability(curves: Mapping[str, Reliability], path: str | Path) -> None:
    """Draw the share of right sentences over the stated probability, with 95 % intervals.

    Parameters
    ----------
    curves : mapping of str to Reliability
        By name, drawn in this order.
    path : path
        A PNG file.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 4.2), layout="constrained")
    axis = figure.subplots()
    least = min(min(b.confidence, b.low) for curve in curves.values() for b in curve.bins)
    axis.plot([0, 1], [0, 1], color="0.75", linestyle="--", linewidth=1)
    for colour, (name, curve) in zip(COLOURS, curves.items()):
        label = f"{name}: calibration error {curve.calibration_error:.3f}"
        _draw(axis, curve.bins, colour, label)
    edge = max(0.0, math.floor(least * 20) / 20 - 0.05)
    axis.set(
        xlim=(edge, 1.01),
        ylim=(edge, 1.01),
        xlabel="stated probability that a sentence is right",
        ylabel="share of sentences that are right",
        aspect="equal",
    )
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8, loc="lower right")
    with atomic_path(path) as aside:
        figure.savefig(aside, dpi=130, metadata={"Software": None})


def _draw(axis: object, bins: Sequence[Bin], colour: str, label: str) -> None:
    x, y = [b.confidence for b in bins], [b.right for b in bins]
    spans = [[b.right - b.low for b in bins], [b.high - b.right for b in bins]]
    style = {"fmt": "o-", "markersize": 4, "linewidth": 1, "elinewidth": 0.8, "capsize": 2}
    axis.errorbar(x, y, spans, color=colour, label=label, **style)  # type: ignore[attr-defined]
