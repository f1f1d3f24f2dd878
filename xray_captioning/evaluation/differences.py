"""Statements about several systems, each with a level: paired tests, and "beats every baseline".

Better than *all* rivals is claimed where each test at .05 says so, which needs no correction: an
intersection-union test (Berger 1982). Sources: ``docs/statistics.md``.
"""

import math
from collections.abc import Sequence
from itertools import combinations, product
from typing import Any

import numpy as np

from xray_captioning.evaluation.collapse import LEVEL
from xray_captioning.evaluation.jackknife import Comparison, Jackknife
from xray_captioning.evaluation.systems import System
from xray_captioning.evaluation.table import finite
from xray_captioning.findings import CONSTANT, ORACLE

Row = dict[str, Any]

COMPARED = ("clinical_f1", "BLEU-4", "ROUGE-L", "CIDEr")  # metrics of the paired tests


def holm(p: Sequence[float]) -> list[float]:
    """Return p values corrected for their number by Holm's method (1979), nan for nan."""
    values = np.asarray(p, dtype=np.float64)
    order = [int(i) for i in np.argsort(values, kind="stable") if not math.isnan(values[i])]
    steps = [values[i] * (len(order) - rank) for rank, i in enumerate(order)]
    corrected = np.full(len(values), np.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if steps else []
    return [float(value) for value in corrected]


def fixed_rival(systems: Sequence[System], metric: str) -> str | None:
    """Return the column of the fixed report that the *training* texts choose by a metric, else by
    BLEU-4. One chosen by the test studies would be the luckiest of seven there.
    """
    names = [system.column for system in systems if system.kind == "baseline"]
    return next((n for n in (f"{CONSTANT}-{metric}", CONSTANT) if n in names), None)


def paired_tests(systems: Sequence[System], found: Jackknife) -> list[Row]:
    """Compare each system with the fixed report of each metric, then with every other system:
    `Comparison` and ``p_holm``, corrected for the family of all rows of the same metric.
    """
    names = [system.column for system in systems if system.kind == "system"]
    pairs = [(name, fixed_rival(systems, m), m) for name in names for m in COMPARED]
    pairs += [(*pair, metric) for pair in combinations(names, 2) for metric in COMPARED]
    rows = [(name, found.compare(name, rival, m)) for name, rival, m in pairs if rival is not None]
    corrected = {
        metric: iter(holm([one.p for _, one in rows if one.metric == metric]))
        for metric in COMPARED
    }
    return [
        {"system": name, **comparison_values(one), "p_holm": finite(next(corrected[one.metric]))}
        for name, one in rows
    ]


def beats_every_baseline(systems: Sequence[System], found: Jackknife) -> list[Row]:
    """Return in which metrics a system is better than every baseline, at a level of .05.

    A row has ``system``, ``metric``, ``rivals`` (all baselines but the oracle, which is shown the
    answer), ``p``, the largest of the two-sided p values, and ``level``. There is no row where that
    is above the level, or a baseline scores as high: the table then does not show it.
    """
    rivals = [s.column for s in systems if s.kind == "baseline" and s.name != ORACLE]
    names = [system.column for system in systems if system.kind == "system"]
    rows = []
    for name, metric in product(names, COMPARED):
        every = [found.compare(name, rival, metric) for rival in rivals]
        if every and all(one.clear for one in every):
            p = max(one.p for one in every)
            rows.append(
                {"system": name, "metric": metric, "rivals": rivals, "p": p, "level": LEVEL}
            )
    return rows


def beaten(row: Row) -> str:
    """Return a row of :func:`beats_every_baseline` as a sentence."""
    largest = "below 0.001" if row["p"] < 0.001 else f"{row['p']:.3f}"
    return (
        f"{row['system']} beats every baseline ({len(row['rivals'])}) in {row['metric']}: "
        f"largest p {largest}, level {row['level']}"
    )


def comparison_values(comparison: Comparison) -> Row:
    """Return a comparison as JSON has it."""
    values = comparison._asdict().items()
    return {name: finite(v) if isinstance(v, float) else v for name, v in values}
