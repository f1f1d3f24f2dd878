"""A model's searches: compiled once, padded to a few batch sizes, numbers out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from xray_captioning.backend import compiled, ops
from xray_captioning.data.features import pad_rows
from xray_captioning.decoders import CaptionModel, Features
from xray_captioning.errors import ConfigError
from xray_captioning.search import (
    Rules,
    Sampling,
    SearchResult,
    beam_search,
    greedy_search,
    sample_search,
)

BATCHES = (1, 4, 8, 16, 64)  # studies are padded to one of these, so that few shapes are compiled

Search = Callable[[Features], SearchResult]


class Plan(NamedTuple):
    """Everything about a search that its compiled function holds fixed.

    Attributes
    ----------
    rules : Rules
    beam_size : int
        1 is greedy, or drawn where ``sampling`` says how.
    length_penalty : float
        Of a beam search.
    sampling : Sampling or None
    """

    rules: Rules
    beam_size: int = 1
    length_penalty: float = 0.0
    sampling: Sampling | None = None


class Searches:
    """Compiled searches of one model.

    Parameters
    ----------
    model : CaptionModel
    """

    def __init__(self, model: CaptionModel) -> None:
        self.model = model
        self._compiled: dict[Plan, Callable[..., Any]] = {}
        self._sizes: dict[Plan, frozenset[int]] = {}  # of its batches

    def begin(self, plan: Plan) -> Search:
        """Return a function that captions one batch after another.

        Parameters
        ----------
        plan : Plan

        Returns
        -------
        callable
            Of `Features` of at most ``BATCHES[-1]`` studies as arrays; returns a `SearchResult`
            of arrays.

        Raises
        ------
        ConfigError
            The beam size or the sampling cannot be.
        """
        _check(plan)
        sampling = plan.sampling
        fixed = plan if sampling is None else plan._replace(sampling=sampling._replace(seed=0))
        if fixed not in self._compiled:
            self._compiled[fixed] = self._compile(fixed)
        run = self._compiled[fixed]
        noise = None if sampling is None else np.random.default_rng(sampling.seed)

        def search(features: Features) -> SearchResult:
            studies = len(features.mask)
            arrays = [*features]
            if noise is not None:  # study by study, so that batches and padding change nothing
                arrays.append(noise.random((studies, plan.rules.maximum_length), dtype="float32"))
            padded = [pad_rows(x, self._size(fixed, studies)) for x in arrays]
            return SearchResult(*(ops.convert_to_numpy(x)[:studies] for x in run(*padded)))

        return search

    def _size(self, plan: Plan, studies: int) -> int:
        """Return the size of a batch for so many studies; padding is cheaper than compiling."""
        known = self._sizes.get(plan, frozenset())
        fitting = next(size for size in BATCHES if size >= studies)
        size = min((size for size in known if size >= studies), default=fitting)
        self._sizes[plan] = known | {size}  # another thread may be reading the old one
        return size

    def _compile(self, plan: Plan) -> Callable[..., Any]:
        def run(regions: Any, mask: Any, *noise: Any) -> SearchResult:
            state, step = self.model.start(Features(regions, mask)), self.model.step
            # Padding has no region; it is finished before it begins.
            real = ops.any(ops.cast(mask, "bool"), axis=1)
            if plan.sampling is not None:
                return sample_search(state, step, real, plan.rules, plan.sampling, *noise)
            if plan.beam_size == 1:
                return greedy_search(state, step, real, plan.rules)
            return beam_search(state, step, real, plan.rules, plan.beam_size, plan.length_penalty)

        return compiled(run, self.model, fused=True)


def _check(plan: Plan) -> None:
    size, sampling = plan.beam_size, plan.sampling
    if not isinstance(size, int) or size < 1:
        raise ConfigError(f"beam_size is {size!r}; it must be a whole number from 1 on")
    if sampling is None:
        return
    if size != 1:
        raise ConfigError(f"beam_size is {size}, but words are drawn; leave one of them out")
    if not sampling.temperature > 0:
        raise ConfigError(f"temperature is {sampling.temperature!r}; it must be above 0")
    if not isinstance(sampling.top_k, int) or sampling.top_k < 0:
        raise ConfigError(f"top_k is {sampling.top_k!r}; it must be a whole number from 0 on")
    if not 0 < sampling.top_p <= 1:
        raise ConfigError(f"top_p is {sampling.top_p!r}; it must be above 0 and at most 1")
