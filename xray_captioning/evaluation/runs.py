"""Several runs of systems: what they have in common is counted once, and rows are their means."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from xray_captioning.files import no_terminal
from xray_captioning.metrics.ngrams import BLOCK
from xray_captioning.metrics.statistics import Statistics


def statistics_of_runs(
    count: Callable[..., Statistics], runs: Sequence[Sequence[str]], *columns: Sequence[str]
) -> Iterator[Statistics]:
    """Yield the statistics of each run; equal pairs are counted once, with a progress bar.

    `count` takes columns of texts, a run's first and then `columns` (references, reports), and
    gives statistics of their rows, none of which depends on another.
    """
    from tqdm import tqdm

    number: dict[tuple[str, ...], int] = {}
    # Study by study, so that what is counted of a reference serves all runs.
    rows = [
        [number.setdefault((text, *known), len(number)) for text in said]
        for known, said in zip(zip(*columns, strict=True), zip(*runs, strict=True), strict=True)
    ]
    pairs = list(number)
    starts = tqdm(range(0, len(pairs), BLOCK), "scores", disable=no_terminal(), leave=False)
    parts = [count(*zip(*pairs[start : start + BLOCK], strict=True)) for start in starts]
    statistics = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    for row in np.array(rows).T:
        yield {name: values[row] for name, values in statistics.items()}


def mean_row(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the means of numbers over runs; counts stay counts.

    None where a run has none, as the jackknife's means are nan there: the mean over the other runs
    would be that of those that happen to have a value.
    """
    return {name: _mean([row[name] for row in rows]) for name in rows[0]}


def _mean(values: Sequence[Any]) -> Any:
    if any(value is None for value in values):
        return None
    if isinstance(values[0], str):
        return values[0]
    whole = all(isinstance(value, int) for value in values)
    mean = sum(values) / len(values)
    return round(mean) if whole else mean
