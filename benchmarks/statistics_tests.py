"""Size and power of the collapse alarm and of the paired tests, by simulation.

The size of a test is how often it calls something real that is not: at most .05. Its power is how
often it sees what is there. Systems are of known quality: of kappa 0 is one that does not look at
the images, but writes alike of all studies of a patient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from population import HOSPITAL, ONE_STUDY, OPEN_I, SEVERAL_STUDIES, Pool, draw_findings, draw_pool, read_images

from xray_captioning.evaluation.baselines import System
from xray_captioning.evaluation.claims import beats_every_baseline, paired_tests, shuffle_test
from xray_captioning.evaluation.jackknife import COMPARED, Statistics, jackknife_sums, patient_sums
from xray_captioning.metrics.clinical import counted_findings

STUDIES, SETS, SHUFFLES, LEVEL, SEEDS = (200, 600, 2_000), 400, 199, 0.05, 20
MANY = tuple((1 / 13) * (12 / 13) ** k for k in range(60))
"""Shares of patients with one, two, ... studies where patients come back often: 13 on average."""

COLLECTIONS = {
    "Open-i, one study a patient": (OPEN_I, ONE_STUDY),
    "a hospital, 1.7 studies a patient": (HOSPITAL, SEVERAL_STUDIES),
    "a hospital, 13 studies a patient": (HOSPITAL, MANY),
}
KAPPAS = (0.0, 0.05, 0.1, 0.2)
EQUAL, BETTER = ("one", "two", "three"), "better"

Array = np.ndarray[Any, Any]
Table = tuple[str, list[str], list[list[Any]]]


def tables(quick: bool) -> Iterator[Table]:
    """Yield the size and power of the alarm, its verdicts, and those of paired tests."""
    sets = 4 if quick else SETS
    yield _alarm(sets)
    yield _verdicts(3 if quick else SEEDS)
    quality = dict.fromkeys(EQUAL, 0.4) | {BETTER: 0.5}
    for title, collection in list(COLLECTIONS.items())[:2]:
        prevalence, studies = collection
        pool = draw_pool(prevalence, 500 if quick else 5_000, quality, studies)
        yield f"Paired tests: {title}", *_paired(pool, sets)


def _alarm(sets: int) -> Table:
    """Return how often a system is let pass: for kappa 0 the size, for others the power."""
    names = ["collection", "studies", *(f"kappa {k}" for k in KAPPAS), "kappa 0, studies shuffled"]
    rows = []
    for title in COLLECTIONS:
        for number in STUDIES:
            passed = np.mean([_passed(title, number, seed) for seed in range(sets)], axis=0)
            rows.append([title, number, *passed.tolist()])
    return f"No alarm, share of {sets} test sets (level .05, {SHUFFLES} shuffles)", names, rows


def _passed(title: str, number: int, seed: int) -> list[bool]:
    rng = np.random.default_rng(seed)
    present, patients, prevalence = _test_set(title, number, rng)
    findings = tuple(name for name, share in prevalence.items() if share >= 0.02)
    said = [read_images(present, prevalence, patients, kappa, rng) for kappa in KAPPAS]
    # Last, what shows why patients are shuffled and not studies.
    units = [*((texts, patients) for texts in said), (said[0], np.arange(len(patients)))]
    return [
        shuffle_test(_labels(present), [_labels(texts)], unit.tolist(), seed, SHUFFLES, findings).p <= LEVEL
        for texts, unit in units
    ]


def _test_set(title: str, number: int, rng: np.random.Generator) -> tuple[Array, Array, Any]:
    prevalence, shares = COLLECTIONS[title]
    chances = np.array(shares) / sum(shares)
    sizes = 1 + rng.choice(len(chances), size=number, p=chances)
    patients = np.repeat(np.arange(number), sizes)[:number]
    return draw_findings(prevalence, patients, rng), patients, prevalence


def _labels(present: Array) -> Any:
    return present.astype(np.int8)  # 1 present, 0 denied


def _verdicts(seeds: int) -> Table:
    """Return for how many seeds of the shuffles the same captions raise the alarm."""
    names, rows = ["system", *(f"alarms, n = {n}" for n in STUDIES)], []
    for name, kappa in (("a fixed report", None), ("kappa 0", 0.0), ("kappa 0.3", 0.3)):
        counts = [_count_alarms(kappa, number, seeds) for number in STUDIES]
        rows.append([name, *(f"{count} of {seeds}" for count in counts)])
    return "Verdicts of the alarm on one test set of Open-i's prevalences", names, rows


def _count_alarms(kappa: float | None, number: int, seeds: int) -> int:
    rng = np.random.default_rng(number)
    present, patients, prevalence = _test_set("Open-i, one study a patient", number, rng)
    said = np.zeros_like(present) | (np.arange(present.shape[1]) == 2)
    if kappa is not None:
        said = read_images(present, prevalence, patients, kappa, rng)
    tests = (shuffle_test(_labels(present), [_labels(said)], patients.tolist(), seed) for seed in range(seeds))
    return sum(test.p > LEVEL for test in tests)


def _paired(pool: Pool, sets: int) -> tuple[list[str], list[list[Any]]]:
    """Return what paired tests say of three equal systems, and of one that is better."""
    names = ["metric", "studies", "size, p", "some of 3, p", "some of 3, p Holm"]
    names += ["better seen, p", "beats every baseline: equal", "better"]
    findings = counted_findings(list(pool.references))
    rng, rows = np.random.default_rng(1), []
    for number in STUDIES:
        found = np.mean([_one_set(pool, number, findings, rng) for _ in range(sets)], axis=0)
        rows += [[metric, number, *row.tolist()] for metric, row in zip(COMPARED, found)]
    return names, sorted(rows, key=lambda row: COMPARED.index(row[0]))


def _one_set(pool: Pool, number: int, findings: Sequence[str], rng: np.random.Generator) -> list[list[bool]]:
    rows = pool.draw(number, rng)
    patients = pool.draw_groups(rows) - 1
    counted = _exchanged([pool.statistics(name, rows) for name in EQUAL], patients, rng)
    counted[BETTER] = pool.statistics(BETTER, rows)
    sums = ((name, patient_sums(values, patients)) for name, values in counted.items())
    found = jackknife_sums(sums, findings)
    tests = paired_tests([System(name, None, []) for name in EQUAL], found)
    beaten = [_beats(name, found) for name in ("one", BETTER)]
    result = []
    for metric in COMPARED:
        same = [test for test in tests if test["metric"] == metric]
        result.append(
            [
                same[0]["p"] <= LEVEL,
                min(test["p"] for test in same) <= LEVEL,
                min(test["p_holm"] for test in same) <= LEVEL,
                found.compare(BETTER, "one", metric).clear,
                *(metric in metrics for metrics in beaten),
            ]
        )
    return result


def _exchanged(counted: Sequence[Statistics], patients: Array, rng: np.random.Generator) -> dict[str, Statistics]:
    """Return systems that are equal: whose captions are whose is drawn anew for each patient."""
    order = rng.permuted(np.tile(np.arange(len(counted)), (patients[-1] + 1, 1)), axis=1)
    place = np.arange(len(patients))
    return {
        name: {key: np.stack([one[key] for one in counted])[order[patients, i], place] for key in counted[0]}
        for i, name in enumerate(EQUAL)
    }


def _beats(name: str, found: Any) -> list[str]:
    """Return in which metrics a system is said to beat two baselines as good as the equal ones."""
    rivals = [System(other, None, [], "baseline") for other in EQUAL if other != name]
    return [row["metric"] for row in beats_every_baseline([System(name, None, []), *rivals], found)]
