"""How far each score of a test set of n studies is from the score of the population, on average.

A score that is a mean over studies has no bias. A ratio of sums has one of order 1 / n, and a score
that averages over findings, counts distinct texts or takes a maximum may have a large one: then
two systems may be compared on the same studies only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from population import HOSPITAL, OPEN_I, Pool, draw_pool

from xray_captioning.evaluation.jackknife import scores_from_sums
from xray_captioning.metrics.clinical import counted_findings
from xray_captioning.metrics.ngrams import caption_entropy, distinct_ngrams
from xray_captioning.metrics.scores import word_statistics

Array = NDArray[Any]

SIZES = (50, 200, 590, 2000)
PREVALENCES = {"Open-i": OPEN_I, "hospital": HOSPITAL}
_AT_A_TIME = 250  # simulated test sets whose counts are held in memory

COUNTED: dict[str, Callable[[list[str]], float]] = {
    "distinct": lambda texts: float(len(set(texts))),
    "distinct-1": lambda texts: distinct_ngrams(texts, 1),
    "distinct-2": lambda texts: distinct_ngrams(texts, 2),
    "top_share": lambda texts: max(map(texts.count, set(texts))) / len(texts),
    "entropy": caption_entropy,
}
"""What is counted of a system's captions alone."""


def tables(quick: bool) -> Iterator[tuple[str, list[str], list[list[Any]]]]:
    """Yield two tables a prevalence: bias at each n beside the standard error, and what counts."""
    patients, simulations = (1_000, 50) if quick else (10_000, 2_000)
    for name, prevalence in PREVALENCES.items():
        pool = draw_pool(prevalence, patients, {"reader": 0.5}, seed=1)
        columns = ["score", "true", *(f"bias, n = {n}" for n in SIZES), "standard error at 590"]
        rows = bias_rows(pool, "reader", simulations)
        yield f"{name} prevalences, a system of kappa .5, {simulations:,} test sets", columns, rows
        few = max(10, simulations // 100)
        yield (
            f"{name} prevalences, scores of texts taken together, {few} test sets",
            ["score", *(f"mean, n = {n}" for n in SIZES)],
            text_rows(pool, "reader", few),
        )


def bias_rows(pool: Pool, system: str, simulations: int) -> list[list[Any]]:
    """Return name, true value, bias at each of `SIZES` and standard error at 590 of each score."""
    findings = counted_findings(list(pool.references))
    true = pool.true_scores(system, findings)
    found = {n: simulated_scores(pool, system, n, simulations, findings) for n in SIZES}
    return [
        [name, value, *(_signed(np.nanmean(found[n][name]) - value) for n in SIZES), float(np.nanstd(found[590][name]))]
        for name, value in true.items()
        # CIDEr's n-grams would be as rare as in the whole population; nothing is uncertain there.
        if name != "CIDEr" and not name.endswith("_present")
    ]


def simulated_scores(
    pool: Pool, system: str, studies: int, simulations: int, findings: tuple[str, ...]
) -> dict[str, Array]:
    """Return every score of simulated test sets, (simulations,) each."""
    rng = np.random.default_rng(studies)
    counted = {name: values.astype(np.float64) for name, values in pool.counted[system].items()}
    parts = []
    for start in range(0, simulations, _AT_A_TIME):
        count = min(_AT_A_TIME, simulations - start)
        weights = np.zeros((count, len(pool.patients)))
        for row in weights:
            np.add.at(row, pool.draw(studies, rng), 1)
        sums = {name: np.tensordot(weights, values, 1) for name, values in counted.items()}
        parts.append(scores_from_sums(sums, findings))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def text_rows(pool: Pool, system: str, simulations: int) -> list[list[Any]]:
    """Return the mean at each of `SIZES` of what depends on the whole set of texts."""
    rng = np.random.default_rng(0)
    found: dict[str, list[Array]] = {}
    for studies in SIZES:
        drawn = [_text_scores(pool, system, pool.draw(studies, rng)) for _ in range(simulations)]
        for name in drawn[0]:
            found.setdefault(name, []).append(np.mean([scores[name] for scores in drawn]))
    return [[name, *(f"{mean:.3f}" for mean in means)] for name, means in found.items()]


def _text_scores(pool: Pool, system: str, rows: Array) -> dict[str, float]:
    references, texts = list(pool.references[rows]), list(pool.texts[system][rows])
    counted = {name: measure(texts) for name, measure in COUNTED.items()}
    return {"CIDEr": float(word_statistics(references, texts)["CIDEr"].mean()), **counted}


def _signed(value: float) -> str:
    return f"{value:+.3f}"
