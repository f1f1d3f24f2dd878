"""Coverage of the intervals of `train-encoder`'s table, by simulation.

Patients have one to three studies. A finding, and the reader's error on it, is correlated within a
patient (half of the variance of the latent normal variable). Scores are normal in both classes, so
that AUROC, F1 and the true probability of a finding are known. An interval that is not given,
because fewer than five patients have a finding or have it not, does not count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import norm

from xray_captioning.metrics.classification import Estimate, auroc, f1, mean_of, mean_over_prevalence

Array = NDArray[Any]
Table = tuple[str, list[str], list[list[Any]]]

SIZES = (200, 600, 2000)
AREAS = (0.6, 0.8, 0.95)
PREVALENCES = np.array([0.02, 0.05, 0.1, 0.2, 0.4])
SHAPES = {"as wide as the other": 1.0, "half as wide again": 1.5, "three fifths as wide": 0.6}
WITHIN = 0.5  # share of variance that the studies of a patient have in common


def tables(quick: bool) -> Iterator[Table]:
    """Yield a title, column names and rows for each table; `quick` takes seconds, not minutes."""
    runs, sizes = (40, SIZES[:1]) if quick else (2000, SIZES)
    columns = ["studies", "AUROC", *(f"{p:g}" for p in PREVALENCES), "mean of them"]
    covered = {(size, area): _coverage(size, area, 1.0, runs) for size in sizes for area in AREAS}
    for metric in ("AUROC", "F1", "mean probability over prevalence"):
        rows = [[size, area, *found[metric]] for (size, area), found in covered.items()]
        yield f"Coverage of 95 % intervals of {metric}, by prevalence", columns, rows
    shapes = [
        [shape, area, *_coverage(600, area, spread, runs)["AUROC"]]
        for shape, spread in SHAPES.items()
        for area in (AREAS[:1] if quick else AREAS)
    ]
    title = "Coverage of 95 % intervals of AUROC, 600 studies, scores of present findings spread"
    yield title, ["", *columns[1:]], shapes


def _coverage(size: int, area: float, spread: float, runs: int) -> dict[str, list[float]]:
    """Return the coverage of each measure by prevalence and, for AUROC, of the mean."""
    rng = np.random.default_rng([size, int(100 * area), int(10 * spread), 19])
    shift = float(norm.ppf(area) * np.hypot(1, spread))
    hits: dict[str, list[list[bool]]] = defaultdict(lambda: [[] for _ in range(6)])
    for _ in range(runs):
        patients = np.repeat(np.arange(size), rng.integers(1, 4, size))[:size]
        present = _latent(patients, rng) < norm.ppf(PREVALENCES)
        scores = _latent(patients, rng) * np.where(present, spread, 1) + shift * present
        areas = []
        for i, share in enumerate(PREVALENCES):
            if not 0 < present[:, i].sum() < size:
                continue
            found = _measured(present[:, i], scores[:, i], patients, share, shift, area)
            for name, (measured, truth) in found.items():
                if np.isfinite(measured.low):
                    hits[name][i].append(measured.low <= truth <= measured.high)
            areas.append(found["AUROC"][0])
        mean = mean_of([m for m in areas if np.isfinite(m.low)])
        hits["AUROC"][-1].append(mean.low <= area <= mean.high)
    return {name: [np.mean(h) if h else None for h in by] for name, by in hits.items()}


def _measured(
    present: Array, scores: Array, patients: Array, share: float, shift: float, area: float
) -> dict[str, tuple[Estimate, float]]:
    """Return measures of one finding, and their true values.

    Those of F1 and the probabilities are true where both classes are equally wide.
    """
    threshold = norm.isf(share)
    caught = share * norm.sf(threshold - shift)
    true_f1 = 2 * caught / (share + caught + (1 - share) * share)
    probabilities = expit(logit(share) + shift * scores - shift**2 / 2)
    return {
        "AUROC": (auroc(present, scores, patients), area),
        "F1": (f1(present, scores >= threshold, patients), true_f1),
        "mean probability over prevalence": (mean_over_prevalence(present, probabilities, patients), 1.0),
    }


def _latent(patients: Array, rng: np.random.Generator) -> Array:
    """Draw a standard normal variable for each study and finding, correlated within a patient."""
    kinds = len(PREVALENCES)
    common = rng.standard_normal((int(patients[-1]) + 1, kinds))[patients]
    own = rng.standard_normal((len(patients), kinds))
    latent: Array = np.sqrt(WITHIN) * common + np.sqrt(1 - WITHIN) * own
    return latent
