"""Coverage of the 95 % intervals of scores and of their paired differences, by simulation.

A population is scored once: its scores are the true values. Test sets are drawn from it, patients
with replacement, and each set's intervals either hold the true value or do not. Where a set shows
no interval (`xray_captioning.evaluation.jackknife.LEAST_PATIENTS`), it does not count. Thousands of
sets leave a coverage of .95 uncertain by about .01.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from population import HOSPITAL, ONE_STUDY, OPEN_I, SEVERAL_STUDIES, Pool, Prevalence, draw_pool

from xray_captioning.evaluation.jackknife import Jackknife, jackknife_sums, patient_sums
from xray_captioning.metrics.clinical import counted_findings

METRICS = (
    *("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr", "ROUGE-1", "ROUGE-2"),
    *("ROUGE-L-F1", "mean_length", "length_ratio", "clinical_f1", "micro_f1"),
    *("false_positives", "example_f1", "macro_f1_14", "micro_f1_14", "macro_f1_5", "micro_f1_5"),
    *("side_recall", "side_agreement", "severity_agreement", "omissions"),
    *("contradictions", "prior_references", "prior_hallucinations"),
)
SETS = {200: 2_000, 600: 1_000, 2_000: 500}
SYSTEMS = {"good": 0.7, "fair": 0.4, "poor": 0.1}
COLLECTIONS: dict[str, tuple[Prevalence, tuple[float, ...]]] = {
    "Open-i, one study a patient": (OPEN_I, ONE_STUDY),
    "a hospital, 1.7 studies a patient": (HOSPITAL, SEVERAL_STUDIES),
}
Found = list[tuple[int, str, float, float, float]]  # studies, metric, truth, low, high


def tables(quick: bool) -> Iterator[tuple[str, list[str], list[list[Any]]]]:
    """Yield coverage and mean width for each system of each collection, and of differences."""
    for title, (prevalence, studies) in COLLECTIONS.items():
        pool = draw_pool(prevalence, 1_000 if quick else 10_000, SYSTEMS, studies)
        found = simulate(pool, dict.fromkeys(SETS, 10) if quick else SETS)
        for name, intervals in found.items():
            yield f"{title}; {name}", *pivot(intervals)


def pivot(intervals: Found) -> tuple[list[str], list[list[Any]]]:
    """Return a row a metric: coverage, then mean width, for each number of studies."""
    names = ["metric", *(f"coverage, n = {n}" for n in SETS), *(f"width, n = {n}" for n in SETS)]
    cells: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
    for number, metric, truth, low, high in intervals:
        cells.setdefault((metric, number), []).append((truth, low, high))
    rows = []
    for metric in METRICS:
        found = [_coverage(cells.get((metric, number), [])) for number in SETS]
        rows.append([metric, *(cover for cover, _ in found), *(width for _, width in found)])
    return names, rows


def _coverage(intervals: list[tuple[float, float, float]]) -> tuple[float | str, float | str]:
    """Return coverage and mean width where intervals are shown; "-" if that is seldom."""
    truth, low, high = np.array(intervals).reshape(-1, 3).T
    shown = np.isfinite(low)
    if not len(low) or shown.mean() < 0.1:
        return "-", "-"
    held = (low <= truth) & (truth <= high)
    return float(held[shown].mean()), float((high - low)[shown].mean())


def simulate(pool: Pool, sets: dict[int, int]) -> dict[str, Found]:
    """Return the intervals of each system, and of the difference of the first two."""
    findings = counted_findings(list(pool.references))
    truth = {name: pool.true_scores(name, findings) for name in SYSTEMS}
    first, second = list(SYSTEMS)[:2]
    difference = f"{first} minus {second}"
    found: dict[str, Found] = {name: [] for name in (*SYSTEMS, difference)}
    rng = np.random.default_rng(1)
    for number, repetitions in sets.items():
        for _ in range(repetitions):
            one = _score(pool, pool.draw(number, rng), findings)
            for name in SYSTEMS:
                for metric, interval in one.intervals(name).items():
                    found[name].append((number, metric, truth[name][metric], *interval))
            for metric in METRICS:
                gap = one.compare(first, second, metric)
                true_gap = truth[first][metric] - truth[second][metric]
                found[difference].append((number, metric, true_gap, gap.low, gap.high))
    return found


def _score(pool: Pool, rows: Any, findings: tuple[str, ...]) -> Jackknife:
    groups = pool.draw_groups(rows) - 1
    sums = {name: patient_sums(pool.statistics(name, rows), groups) for name in SYSTEMS}
    return jackknife_sums(sums.items(), findings)
