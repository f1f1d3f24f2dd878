"""The searches of one model: compiled once, padded to a few batch sizes, arrays out; graphs run as they are."""

import math
from collections.abc import Callable
from functools import lru_cache, partial
from numbers import Integral
from typing import Any

import numpy as np

from xray_captioning.captioner.graphs import GraphModel
from xray_captioning.data.features import Features, pad_rows, power_of_two
from xray_captioning.errors import ConfigError
from xray_captioning.search import Rules, Sampling, SearchResult, beam_search, greedy_search, sample_search
from xray_captioning.search.loop import array_namespace

# A batch is padded to one of these numbers of studies, so that few shapes are compiled.
BATCH_SIZES = (1, 4, 8, 16, 64)
# So many searches are kept compiled; the one that was not used for longest makes room.
KEPT = 16
# Fewer studies are searched without XLA: its compiling would take longer than it saves.
WORTH_FUSING = 500

Search = Callable[..., SearchResult]
Size = int | None
Draw = Sampling | None


class CompiledSearch:
    """Compiles the searches of one model, and keeps the last `KEPT` of them."""

    def __init__(self, model: Any) -> None:
        self._compiled = lru_cache(KEPT)(partial(_Compiled, model))

    def prepare(
        self, rules: Rules, beam_size: int = 1, length_penalty: float = 0.0, sampling: Draw = None, total: Size = None
    ) -> Search:
        """Return a function from `Features` of up to ``BATCH_SIZES[-1]`` studies, and context, to a `SearchResult`."""
        # A beam of 1 is greedy search, or sampling where that is given; `total` is how many studies will be searched,
        # where that is known. Settings that cannot work raise `ConfigError`.
        _check(beam_size, sampling)
        fused = total is None or total >= WORTH_FUSING
        if sampling is None:
            noise, run = None, self._compiled(rules, int(beam_size), None, fused)
            numbers = [np.asarray(length_penalty, "float32")] if beam_size > 1 else []
        else:
            noise = np.random.default_rng(sampling.seed)
            width = power_of_two(int(sampling.top_k)) if sampling.top_k else 0
            run = self._compiled(rules, int(beam_size), width, fused)
            kinds = {"temperature": "float32", "top_k": "int32", "top_p": "float32"}
            numbers = [np.asarray(getattr(sampling, name), kind) for name, kind in kinds.items()]

        def search(features: Features, context: Any = None) -> SearchResult:
            arrays = [*features, *([] if context is None else [context])]
            if noise is not None:  # row by row, so that batch size and padding change nothing
                arrays.append(noise.random((len(features.mask), rules.maximum_length), "float32"))
            return run(arrays, numbers)

        return search


class _Compiled:
    # The width is with how many candidates a step of sampling works, 0 being all and None no sampling.
    def __init__(self, model: Any, rules: Rules, beam_size: int, width: int | None, fused: bool):
        self.model, self.rules, self.beam_size, self.width = model, rules, beam_size, width
        self._run: Any = self._search
        self._pads = not isinstance(model, GraphModel)
        if self._pads:
            from xray_captioning.backend import compiled

            self._run = compiled(self._search, model, fused)
        self._sizes: frozenset[int] = frozenset()

    def __call__(self, arrays: list[Any], numbers: Any) -> SearchResult:
        studies = len(arrays[0])
        if not self._pads:
            return self._run(numbers, *arrays)
        fitting = next(size for size in BATCH_SIZES if size >= studies)
        # More padding is cheaper than compiling anew.
        size = min((size for size in self._sizes if size >= studies), default=fitting)
        self._sizes |= {size}  # a new set, because another thread may be reading the old one
        found = self._run(numbers, *(pad_rows(array, size) for array in arrays))
        ops = array_namespace(found)
        return SearchResult(*(ops.convert_to_numpy(x)[:studies] for x in found))

    def _search(self, numbers: Any, regions: Any, mask: Any, *more: Any) -> SearchResult:
        rules, step, width = self.rules, self.model.step, self.width
        state = self.model.start(Features(regions, mask), *(more if width is None else more[:-1]))
        ops = array_namespace(state)
        # Padding has no region; it is finished before it begins.
        real = ops.any(ops.cast(mask, "bool"), axis=1)
        if width is not None:
            return sample_search(state, step, real, rules, Sampling(*numbers), more[-1], width)
        if self.beam_size == 1:
            return greedy_search(state, step, real, rules)
        return beam_search(state, step, real, rules, self.beam_size, *numbers)


def _check(size: int, sampling: Sampling | None) -> None:
    if not isinstance(size, Integral) or size < 1:
        raise ConfigError(f"beam_size is {size!r}; it must be a whole number from 1 on")
    if sampling is None:
        return
    if size != 1:
        raise ConfigError(f"beam_size is {size}, but words are sampled; leave one of them out")
    if not 0 < sampling.temperature < math.inf:
        raise ConfigError(f"temperature is {sampling.temperature!r}; it must be above 0")
    if not isinstance(sampling.top_k, Integral) or sampling.top_k < 0:
        raise ConfigError(f"top_k is {sampling.top_k!r}; it must be a whole number from 0 on")
    if not 0 < sampling.top_p <= 1:
        raise ConfigError(f"top_p is {sampling.top_p!r}; it must be above 0 and at most 1")
