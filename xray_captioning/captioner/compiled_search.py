"""The searches of one model: compiled once, padded to a few batch sizes, arrays out."""

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

# A batch is padded to one of these numbers of studies, so that few shapes are compiled.
BATCH_SIZES = (1, 4, 8, 16, 64)

Search = Callable[[Features], SearchResult]


class SearchSettings(NamedTuple):
    """Everything about a search that its compiled function holds fixed."""

    rules: Rules
    beam_size: int = 1  # 1 is greedy search, or sampling where `sampling` is given
    length_penalty: float = 0.0  # of a beam search
    sampling: Sampling | None = None


class CompiledSearch:
    """Compiles the searches of one model and keeps them."""

    def __init__(self, model: CaptionModel) -> None:
        self.model = model
        self._functions: dict[SearchSettings, Callable[..., Any]] = {}
        self._compiled_sizes: dict[SearchSettings, frozenset[int]] = {}

    def prepare(self, settings: SearchSettings) -> Search:
        """Return a function that captions one batch after another.

        It takes `Features` of at most ``BATCH_SIZES[-1]`` studies as arrays, and returns a
        `SearchResult` of arrays. Settings that cannot work raise `ConfigError`.
        """
        _check(settings)
        sampling = settings.sampling
        noise = None if sampling is None else np.random.default_rng(sampling.seed)
        if sampling is not None:  # any seed uses the same compiled function
            settings = settings._replace(sampling=sampling._replace(seed=0))
        if settings not in self._functions:
            self._functions[settings] = self._compile(settings)
        run = self._functions[settings]

        def search(features: Features) -> SearchResult:
            studies = len(features.mask)
            arrays = [*features]
            if noise is not None:  # row by row, so that batch size and padding change nothing
                shape = (studies, settings.rules.maximum_length)
                arrays.append(noise.random(shape, dtype="float32"))
            padded = [pad_rows(x, self._padded_size(settings, studies)) for x in arrays]
            return SearchResult(*(ops.convert_to_numpy(x)[:studies] for x in run(*padded)))

        return search

    def _padded_size(self, settings: SearchSettings, studies: int) -> int:
        """Return the batch size to pad to; more padding is cheaper than compiling anew."""
        known = self._compiled_sizes.get(settings, frozenset())
        fitting = next(size for size in BATCH_SIZES if size >= studies)
        size = min((size for size in known if size >= studies), default=fitting)
        # A new set, because another thread may be reading the old one.
        self._compiled_sizes[settings] = known | {size}
        return size

    def _compile(self, settings: SearchSettings) -> Callable[..., Any]:
        rules, sampling = settings.rules, settings.sampling

        def run(regions: Any, mask: Any, *noise: Any) -> SearchResult:
            state, step = self.model.start(Features(regions, mask)), self.model.step
            # Padding has no region; it is finished before it begins.
            real = ops.any(ops.cast(mask, "bool"), axis=1)
            if sampling is not None:
                return sample_search(state, step, real, rules, sampling, *noise)
            if settings.beam_size == 1:
                return greedy_search(state, step, real, rules)
            size, penalty = settings.beam_size, settings.length_penalty
            return beam_search(state, step, real, rules, size, penalty)

        return compiled(run, self.model, fused=True)


def _check(settings: SearchSettings) -> None:
    size, sampling = settings.beam_size, settings.sampling
    if not isinstance(size, int) or size < 1:
        raise ConfigError(f"beam_size is {size!r}; it must be a whole number from 1 on")
    if sampling is None:
        return
    if size != 1:
        raise ConfigError(f"beam_size is {size}, but words are sampled; leave one of them out")
    if not sampling.temperature > 0:
        raise ConfigError(f"temperature is {sampling.temperature!r}; it must be above 0")
    if not isinstance(sampling.top_k, int) or sampling.top_k < 0:
        raise ConfigError(f"top_k is {sampling.top_k!r}; it must be a whole number from 0 on")
    if not 0 < sampling.top_p <= 1:
        raise ConfigError(f"top_p is {sampling.top_p!r}; it must be above 0 and at most 1")
