"""What a reading study says of other studies: intervals, agreement and tests.

Studies are the unit: all ratings of a study, of either text by any reader, stand or fall together.
The readers are taken as they are; how others would rate, no interval here says.

References
----------
.. [1] Cochran, "Sampling Techniques", 3rd ed., 1977, section 6.4: variance of a ratio of sums.
.. [2] Fleiss and Cohen, "The equivalence of weighted kappa and the intraclass correlation
   coefficient as measures of reliability", Educational and Psychological Measurement 33, 1973.
.. [3] Lin, "A concordance correlation coefficient to evaluate reproducibility", Biometrics 45,
   1989: the inverse hyperbolic tangent makes its distribution nearly normal.
.. [4] Tukey's jackknife: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, ch. 11.
.. [5] Dixon and Mood, "The statistical sign test", JASA 41, 1946.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xray_captioning.evaluation.table import finite

Array = NDArray[np.float64]
Interval = tuple[float, float] | tuple[None, None]

NO_INTERVAL: Interval = (None, None)
"""Where nothing varies from study to study, or there is one study, nothing tells how sure it is."""


def mean_interval(values: Array, bounds: tuple[float, float]) -> Interval:
    """Return the 95 % interval of the mean of all ratings of (readers, studies); nan is missing.

    It is Student's, of the mean as a ratio of two sums over studies: ratings and their number
    [1]_. `bounds` are the lowest and the highest mean that there can be.
    """
    counts, sums = np.isfinite(values).sum(axis=0), np.nansum(values, axis=0)
    studies, total = int((counts > 0).sum()), counts.sum()
    mean = sums.sum() / max(total, 1)
    squares = ((sums - mean * counts) ** 2).sum()
    if studies < 2 or np.isclose(squares, 0):
        return NO_INTERVAL
    half = _student(studies) * np.sqrt(squares * studies / (studies - 1)) / total
    low, high = np.clip((mean - half, mean + half), *bounds)
    return float(low), float(high)


def weighted_kappa(first: Array, second: Array) -> float | None:
    """Return Cohen's kappa with quadratic weights (Cohen, 1968) of two readers' ratings, (n,).

    It is 1 for equal ratings and 0 for what chance gives; None without ratings, or where both
    readers always gave the same number, so that chance explains everything.
    """
    return finite(_kappa(_moments(first, second).sum(axis=0)))


def kappa_interval(first: Array, second: Array) -> Interval:
    """Return the 95 % interval of `weighted_kappa` of (studies, texts); nan is missing.

    With quadratic weights kappa is a function of means alone [2]_. So each study is left out in
    turn, with both its texts, and the spread of kappa's inverse hyperbolic tangent [3]_ gives
    the jackknife's standard error [4]_, used with Student's quantile.
    """
    sums = _moments(first, second).sum(axis=1)
    sums = sums[sums[:, 0] > 0]
    studies = len(sums)
    if studies < 2:
        return NO_INTERVAL
    kappa, without = _kappa(sums.sum(axis=0)), _kappa(sums.sum(axis=0) - sums)
    if not (np.isfinite(without).all() and abs(kappa) < 1 and (np.abs(without) < 1).all()):
        return NO_INTERVAL
    spread = np.arctanh(without).std() * np.sqrt(studies - 1)
    if np.isclose(spread, 0):
        return NO_INTERVAL
    half = _student(studies) * spread
    low, high = np.tanh((np.arctanh(kappa) - half, np.arctanh(kappa) + half))
    return float(low), float(high)


def sign_test(above: int, below: int) -> float | None:
    """Return the two-sided p of the sign test [5]_; ties do not count."""
    from scipy.stats import binomtest

    return float(binomtest(above, above + below).pvalue) if above + below else None


def _student(studies: int) -> float:
    from scipy.stats import t

    return float(t.ppf(0.975, studies - 1))


def _moments(first: Array, second: Array) -> Array:
    """Return what kappa is made of, (..., 6); 0 where either rating is missing."""
    parts = np.ones_like(first), first, second, first**2, second**2, first * second
    both = np.isfinite(first) & np.isfinite(second)
    return np.where(both[..., None], np.stack(parts, axis=-1), 0.0)


def _kappa(sums: Array) -> Any:
    """Return kappa of sums of `_moments`, (..., 6): nan where chance explains everything."""
    total = np.where(sums[..., :1] > 0, sums[..., :1], np.nan)
    one, other, squares, others, product = np.moveaxis(sums / total, -1, 0)[1:]
    observed, chance = squares + others - 2 * product, squares + others - 2 * one * other
    quotient = np.divide(observed, chance, np.full_like(chance, np.nan), where=chance > 1e-9)
    return 1 - quotient
