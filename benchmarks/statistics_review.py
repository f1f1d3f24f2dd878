"""Whether intervals of a reading study cover, and how often its sign test errs.

Two readers rate both systems' texts of each study from 1 to 5, 5 % of the ratings left open. What a
study is like moves all its ratings; the mean of all studies that there could be is the true value.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xray_captioning.review.summary import kappa_interval, mean_interval, sign_test, weighted_kappa

Array = NDArray[np.float64]

SIZES = (10, 20, 50, 100)
LEVELS = {"ratings around the middle": 3.2, "mostly 4": 4.0, "mostly 5": 4.7}
COLUMNS = ["studies", "mean", "difference", "kappa", "half width of kappa", "sign test, no difference"]


def tables(quick: bool) -> Iterator[tuple[str, list[str], list[list[Any]]]]:
    """Yield coverage and size at each level of the ratings."""
    simulations = 100 if quick else 4_000
    for name, level in LEVELS.items():
        yield (
            f"{name}: coverage of 95 % intervals and size of the test, {simulations:,} studies",
            COLUMNS,
            [[n, *coverage(level, n, simulations)] for n in SIZES],
        )


def coverage(level: float, studies: int, simulations: int) -> list[float]:
    """Return the columns of the table but the first."""
    every = ratings(200_000, level, 0.3, np.random.default_rng(0))
    kappa = weighted_kappa(every[0].ravel(), every[1].ravel()) or 0.0
    true = every[..., 0].mean(), (every[..., 0] - every[..., 1]).mean(), kappa
    rng, found = np.random.default_rng(studies), []
    for _ in range(simulations):
        drawn = ratings(studies, level, 0.3, rng)
        intervals = _intervals(np.where(rng.random(drawn.shape) < 0.05, np.nan, drawn))
        same = ratings(studies, level, 0.0, rng)
        found.append(
            [
                *(low <= t <= high for (low, high), t in zip(intervals, true, strict=True)),
                (intervals[2][1] - intervals[2][0]) / 2,
                _rejects(same),
            ]
        )
    return [float(np.nanmean(column)) for column in np.array(found, float).T]


def _intervals(rated: Array) -> list[tuple[float, float]]:
    one, difference = rated[..., 0], rated[..., 0] - rated[..., 1]
    found = mean_interval(one, (1, 5)), mean_interval(difference, (-4, 4)), kappa_interval(*rated)
    # Where nothing varies there is no interval: it claims nothing, and so errs in nothing.
    return [(-9.0, 9.0) if low is None or high is None else (low, high) for low, high in found]


def _rejects(rated: Array) -> bool:
    signs = np.sign((rated[..., 0] - rated[..., 1]).sum(axis=0))
    p = sign_test(int((signs > 0).sum()), int((signs < 0).sum()))
    return p is not None and p <= 0.05


def ratings(studies: int, level: float, better: float, rng: np.random.Generator) -> Array:
    """Return ratings of (readers, studies, systems); the first system is `better` by so much."""
    study = level + 0.7 * rng.standard_normal((1, studies, 1))
    texts = study + 0.5 * rng.standard_normal((1, studies, 2)) + np.array([better, -better]) / 2
    reader = np.array([0.2, -0.2])[:, None, None]
    return np.clip(np.rint(texts + reader + 0.6 * rng.standard_normal((2, studies, 2))), 1, 5)
