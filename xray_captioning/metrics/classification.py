"""How well finding scores separate present from absent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Metric = Callable[[Array, Array], float]

RESAMPLES = 200


def classification_table(
    names: Sequence[str],
    truth: Array,
    scores: Array,
    validation: tuple[Array, Array] | None = None,
) -> list[dict[str, Any]]:
    """Return AUROC and F1 of each finding with 95 % bootstrap intervals.

    Parameters
    ----------
    names : sequence of str
        Findings.
    truth : array, shape (studies, findings)
        1, 0 or nan for unknown, which is left out.
    scores : array, shape (studies, findings)
        Logits.
    validation : (truth, scores), optional
        Where the threshold of F1 is chosen; without it the threshold is a logit of 0.

    Returns
    -------
    list of dict
        ``finding``, ``positives``, ``n``, and ``AUROC`` and ``F1``, both with ``_low`` and
        ``_high``: None where a finding has no positive or no negative study. The last row is the
        mean over findings that have both.
    """
    rng = np.random.default_rng(0)
    rows = []
    for i, name in enumerate(names):
        threshold = 0.0 if validation is None else best_threshold(*(v[:, i] for v in validation))
        known = np.isfinite(truth[:, i])
        rows.append(_row(name, truth[known, i], scores[known, i], threshold, rng))
    mean: dict[str, Any] = {"finding": "mean", "positives": None, "n": len(truth)}
    for metric in ("AUROC", "F1"):
        values = [row[metric] for row in rows if row["AUROC"] is not None]
        mean[metric] = float(np.mean(values)) if values else None
    return [*rows, {key: mean.get(key) for key in rows[0]}]


def best_threshold(truth: Array, scores: Array) -> float:
    """Return the score at or above which F1 is highest; 0 where there is no positive."""
    known = np.isfinite(truth)
    truth, scores = truth[known], scores[known]
    if not truth.any():
        return 0.0
    order = np.argsort(-scores)
    hits = np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + truth.sum())
    return float(scores[order][np.argmax(f1)])


def _f1(truth: Array, positive: Array) -> float:
    # scikit-learn's checks its input for a millisecond, which 200 resamples a finding feel.
    total = truth.sum() + positive.sum()
    return float(2 * (truth * positive).sum() / total) if total else 0.0


def _row(
    name: str, truth: Array, scores: Array, threshold: float, rng: np.random.Generator
) -> dict[str, Any]:
    from sklearn.metrics import roc_auc_score

    row: dict[str, Any] = {"finding": name, "positives": int(truth.sum()), "n": len(truth)}
    positive = (scores >= threshold).astype(float)
    for metric, measure, values in (("AUROC", roc_auc_score, scores), ("F1", _f1, positive)):
        found = low = high = None
        if 0 < truth.sum() < len(truth):
            found = float(measure(truth, values))
            low, high = _interval(measure, truth, values, rng)
        row |= {metric: found, f"{metric}_low": low, f"{metric}_high": high}
    return row


def _interval(
    measure: Metric, truth: Array, values: Array, rng: np.random.Generator
) -> tuple[float, float]:
    # Resampled within each class, so that no resample is without a positive study.
    groups = [np.flatnonzero(truth == label) for label in (0, 1)]
    found = []
    for _ in range(RESAMPLES):
        picked = np.concatenate([rng.choice(group, len(group)) for group in groups])
        found.append(measure(truth[picked], values[picked]))
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)
