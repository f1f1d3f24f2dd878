"""Whether intervals of reliability cover, and what calibration error and novelty are by chance.

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
from scipy.stats import beta, chi2, norm

from xray_captioning.metrics.calibration import calibration_scores, share_interval
from xray_captioning.training.calibration import usual_radius

Array = NDArray[Any]

SIZES = (60, 200, 600, 2000)
RIGHT = {0.98: (49.0, 1.0), 0.9: (9.0, 1.0), 0.7: (3.5, 1.5)}  # mean, and the beta's parameters
WITHIN = 0.5  # share of variance that the sentences of a study have in common


def tables(quick: bool) -> Iterator[tuple[str, list[str], list[list[Any]]]]:
    """Yield coverage of shares and scores, calibration errors, and how many are flagged."""
    simulations = 50 if quick else 2_000
    yield (
        f"True probabilities, 1.5 sentences a study, {simulations:,} test sets",
        [
            *("right", "studies", "coverage, share", "coverage, Brier", "coverage, skill"),
            *("mean calibration error", "by chance"),
        ],
        [[mean, n, *_found(n, mean, simulations)] for mean in RIGHT for n in SIZES],
    )
    yield (
        "Share of further studies of the same kind with a novelty above 1",
        ["fitted on", "99th percentile", "order statistic", "stated"],
        [[n, *_flagged(n, simulations)] for n in (50, 200, 2000)],
    )


def _found(studies: int, mean: float, simulations: int) -> list[Any]:
    rng, hits = np.random.default_rng(studies), []
    true = _true_brier(mean)
    skill = 1 - true / (mean * (1 - mean))
    for _ in range(simulations):
        stated, right, study = draw_sentences(studies, mean, rng)
        found = calibration_scores(stated, right, study)
        low, high = share_interval(right.astype(float), study)
        hits.append(
            [
                low <= mean <= high,
                np.nan if found.brier_low is None else found.brier_low <= true <= found.brier_high,
                np.nan if found.skill_low is None else found.skill_low <= skill <= found.skill_high,
                found.calibration_error,
                found.error_by_chance,
            ]
        )
    return [_mean(column, simulations) for column in np.array(hits, float).T]


def _mean(column: Array, simulations: int) -> Any:
    shown = column[np.isfinite(column)]  # with few wrong sentences scores have no interval
    return float(shown.mean()) if len(shown) > 0.1 * simulations else "-"


def _flagged(studies: int, simulations: int) -> list[float]:
    """Return mean shares beyond both radii of distances of a known distribution."""
    distances = np.random.default_rng(studies).chisquare(9, (simulations, studies))
    found = [usual_radius(row) for row in distances]
    radii = np.percentile(distances, 99, axis=1), [radius for radius, _ in found]
    return [*(float(chi2.sf(each, 9).mean()) for each in radii), found[0][1]]


def draw_sentences(studies: int, mean: float, rng: np.random.Generator) -> tuple[Array, Array, Array]:
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
