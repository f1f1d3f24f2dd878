"""A system that was trained several times: its scores are means over the runs.

A difference between two systems may be one of their seeds. An interval of a system with several
runs therefore says how much the mean would vary with other test studies *and* other seeds: each
resample draws the studies, the same for all systems, and for each system, on its own, runs. Runs
and studies are crossed (every run captions every study), and both are drawn whole [1]_. Of R runs
R - 1 are drawn, as with fewer levels than ten the variance between them comes out too small by
(R - 1) / R otherwise [2]_.

Two or three runs say little about how much others would vary: such intervals are rough, and mostly
too narrow. With one run nothing is known of other seeds, and only studies are drawn.

References
----------
.. [1] Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2), 2007; Bouthillier et
   al., "Accounting for variance in machine learning benchmarks", MLSys 2021.
.. [2] Rao and Wu, "Resampling inference with complex survey data", JASA 83(401), 1988; Davison and
   Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xray_captioning.evaluation.bootstrap import Array


def mean_row(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the means of numbers over runs; counts stay counts, None is left out."""
    return {name: _mean([row[name] for row in rows]) for name in rows[0]}


def _mean(values: Sequence[Any]) -> Any:
    known = [value for value in values if value is not None]
    if not known or isinstance(known[0], str):
        return values[0]
    whole = all(isinstance(value, int) for value in known)
    mean = sum(known) / len(known)
    return round(mean) if whole else mean


def mean_replicates(
    runs: Sequence[Mapping[str, Array]], rng: np.random.Generator
) -> dict[str, Array]:
    """Return what a system scores on resamples of studies and of its runs.

    Parameters
    ----------
    runs : sequence of mapping of str to ndarray, shape (resamples,)
        For each run its scores on the same resamples of studies, by metric.
    rng : numpy.random.Generator
        Draws the runs; another one for each system.
    """
    if len(runs) == 1:
        return dict(runs[0])
    resamples = len(next(iter(runs[0].values())))
    chosen = rng.integers(len(runs), size=(resamples, len(runs) - 1))
    place = np.arange(resamples)[:, None]
    return {
        name: np.stack([run[name] for run in runs])[chosen, place].mean(axis=1) for name in runs[0]
    }
