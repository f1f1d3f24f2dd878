"""Whether intervals of reliability cover, and the calibration error of true probabilities.

A study has one to three sentences, which are right or wrong together more often than those of two
studies. Their probabilities of being right are known and stated as they are: a calibration without
any error, so that what `calibration_scores` finds is chance.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import beta, norm

from xray_captioning.metrics.calibration import calibration_scores, share_interval

Array = NDArray[Any]

SIZES = (60, 200, 600, 2000)
RIGHT = {0.98: (49.0, 1.0), 0.9: (9.0, 1.0), 0.7: (3.5, 1.5)}  # mean, and the beta's parameters
WITHIN = 0.5  # share of variance that the sentences of a study have in common


def tables(quick: bool) -> Iterator[tuple[str, list[str], list[list[Any]]]]:
    """Yield coverage of shares and Brier scores, and the mean calibration error."""
    simulations = 50 if quick else 2_000
    yield (
        f"True probabilities, 1.5 sentences a study, {simulations:,} test sets",
        ["right", "studies", "coverage, share", "coverage, Brier", "mean calibration error"],
        [[mean, n, *_found(n, mean, simulations)] for mean in RIGHT for n in SIZES],
    )


def _found(studies: int, mean: float, simulations: int) -> list[Any]:
    rng, hits = np.random.default_rng(studies), []
    true = _true_brier(mean)
    for _ in range(simulations):
        stated, right, study = draw_sentences(studies, mean, rng)
        found = calibration_scores(stated, right, study)
        low, high = share_interval(right.astype(float), study)
        hits.append(
            [
                low <= mean <= high,
                np.nan if found.brier_low is None else found.brier_low <= true <= found.brier_high,
                found.calibration_error,
            ]
        )
    share, brier, error = np.array(hits, float).T
    shown = brier[np.isfinite(brier)]  # with few wrong sentences a Brier score has no interval
    covered = float(shown.mean()) if len(shown) > 0.1 * simulations else "-"
    return [float(share.mean()), covered, float(error.mean())]


def draw_sentences(
    studies: int, mean: float, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Return stated probabilities, whether sentences are right, and their studies: (sentences,)."""
    study = np.repeat(np.arange(studies), rng.choice([1, 2, 3], studies, p=[0.6, 0.3, 0.1]))
    stated = beta.ppf(ndtr(_shared(study, rng)), *RIGHT[mean])
    return stated, _shared(study, rng) < norm.ppf(stated), study


def _shared(study: Array, rng: np.random.Generator) -> Array:
    common = rng.standard_normal(study[-1] + 1)[study]
    own = rng.standard_normal(len(study))
    value: Array = np.sqrt(WITHIN) * common + np.sqrt(1 - WITHIN) * own
    return value


def _true_brier(mean: float) -> float:
    """Return the mean of p (1 - p) of the beta distribution."""
    a, b = RIGHT[mean]
    return a * b / ((a + b) * (a + b + 1))
