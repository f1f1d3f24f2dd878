"""Training data for Keras, in an order that depends on the seed and the epoch only."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from xray_captioning.backend import keras
from xray_captioning.data.features import Array, ArrayCache, Regions, stack_views, study_rows
from xray_captioning.data.images import augment, normalise

Maker = Callable[[Array, np.random.Generator, int], Any]
Inputs = Callable[[Array, np.random.Generator], dict[str, Array]]
Images = Sequence[Sequence[str | None]]  # of each study; None where a view is missing
WINDOW = 48  # so many batches are sorted by length together
AHEAD = 4  # so many batches are prepared while others are trained on, of large ones fewer:
LARGE = 2**26  # bytes that they may take
STEP = 8  # lengths are rounded up to a multiple of this, so that few shapes are compiled


class BatchDataset(keras.utils.PyDataset):
    """Batches of studies, ``make(numbers, rng, index)`` of their numbers, shuffled anew in each epoch by the `seed`, if
    any; `lengths` (studies,) puts similar ones together; `weights` (studies,) draws with replacement.
    """

    def __init__(
        self,
        make: Maker,
        studies: int,
        batch_size: int,
        seed: int | None = None,
        lengths: Array | None = None,
        weights: Array | None = None,
    ) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self._pool: ThreadPoolExecutor | None = None
        self.make, self.studies, self.batch_size = make, studies, batch_size
        self.seed, self.lengths, self.weights = seed, lengths, weights
        self.epoch = 0

    @property
    def epoch(self) -> int:
        """Number of the epoch; it decides the order, together with the seed."""
        return self._epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._epoch, self._plan = epoch, self._arrange(epoch)
        self._ahead: dict[int, Future[Any]] = {}

    def __len__(self) -> int:
        """Return the number of batches."""
        return math.ceil(self.studies / self.batch_size)

    def __getitem__(self, index: int) -> Any:
        """Return one batch, and let others be prepared meanwhile."""
        batch = (self._ahead.pop(index, None) or self._begin(index)).result()
        size = sum(getattr(part, "nbytes", 0) for part in keras.tree.flatten(batch))
        end = min(index + 1 + min(AHEAD, max(1, LARGE // max(size, 1))), len(self))
        for i in range(index + 1, end):
            if i not in self._ahead:
                self._ahead[i] = self._begin(i)
        if end == len(self) and self._pool is not None:
            self._pool.shutdown(wait=False)  # the threads end when they have made what was asked for
            self._pool = None
        return batch

    def _begin(self, index: int) -> Future[Any]:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(2, "batches")
        rng = np.random.default_rng([self.seed or 0, self.epoch, index])
        return self._pool.submit(self.make, self._plan[index], rng, index)

    def _arrange(self, epoch: int) -> list[Array]:
        if self.seed is None:
            return self._cut(np.arange(self.studies))
        rng = np.random.default_rng([self.seed, epoch])
        if self.weights is None:
            order = rng.permutation(self.studies)
        else:
            order = rng.choice(self.studies, self.studies, p=self.weights / self.weights.sum())
        if self.lengths is None:
            return self._cut(order)
        window = WINDOW * self.batch_size
        for start in range(0, len(order), window):
            part = order[start : start + window]
            order[start : start + window] = part[np.argsort(self.lengths[part], kind="stable")]
        batches = self._cut(order)
        return [batches[i] for i in rng.permutation(len(batches))]

    def _cut(self, order: Array) -> list[Array]:
        return np.split(order, range(self.batch_size, self.studies, self.batch_size))


class EvenDataset(keras.utils.PyDataset):
    """Batches that so many devices can share: filled up with copies of studies without weight."""

    def __init__(self, data: BatchDataset, devices: int) -> None:
        super().__init__()
        self.data, self.devices = data, devices

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        """Return inputs, with ``share``, (studies,), 0 of copies, and ``count``, the weights; targets; weights."""
        inputs, targets, *weights = self.data[index]
        studies = len(targets)
        total = -(-studies // self.devices) * self.devices
        rows, real = np.arange(total) % studies, (np.arange(total) < studies).astype("float32")
        given = keras.tree.map_structure(lambda x: x[rows], (inputs, targets))
        weight = (weights[0][rows].T * real).T if weights else real
        told = {"share": real / np.float32(studies), "count": np.full(total, weight.sum(), "float32")}
        return {**told, **given[0]}, given[1], weight


def feature_inputs(of: Regions) -> Inputs:
    """Return a function that makes ``regions`` and ``mask`` (batch, regions) of studies."""
    return lambda numbers, rng: dict(zip(("regions", "mask"), of(numbers)))


def pixel_inputs(cache: ArrayCache, images: Images, views: int, normalisation: str, augmented: bool) -> Inputs:
    """Return what makes ``images`` and ``mask`` (batch, views) of cached grey uint8 (size, size)."""
    return view_inputs(cache, images, views, partial(network_pixels, normalisation=normalisation, augmented=augmented))


def network_pixels(grey: Array, rng: Any, normalisation: str, augmented: bool = False) -> Array:
    """Return grey uint8 (images, size, size) as a network sees them, (images, size, size, 3)."""
    values = grey[..., None].astype(np.float32) / np.float32(255)
    return normalise(np.repeat(augment(values, rng) if augmented else values, 3, axis=-1), normalisation)


def with_context(inputs: Inputs, context: Array, share: float) -> Inputs:
    """Add ``context``, token ids (batch, kinds, words), of which each kind of a study is withheld so often."""
    return lambda numbers, rng: {**inputs(numbers, rng), "context": withheld(context[numbers], share, rng)}


def withheld(context: Array, share: float, rng: np.random.Generator) -> Array:
    """Return token ids (batch, kinds, words) without a `share` of the texts, drawn at random."""
    return context * (rng.random((*context.shape[:2], 1)) >= share)


def view_inputs(
    cache: ArrayCache, images: Images, views: int, change: Callable[[Array, np.random.Generator], Array], blank: Any = 0
) -> Inputs:
    """Return what makes ``images``, changed rows of a cache, where there are none `blank`, and ``mask``."""

    def make(numbers: Array, rng: np.random.Generator) -> dict[str, Array]:
        rows, mask = stack_views([study_rows(cache, images[i]) for i in numbers], views)
        rows[~mask] = blank
        shown = change(rows.reshape(-1, *rows.shape[2:]), rng)
        return {"images": shown.reshape(*mask.shape, *shown.shape[1:]), "mask": mask}

    return make


def caption_batch(inputs: Inputs, tokens: Array, findings: Array | None = None) -> Maker:
    """Return a function that makes batches of (inputs, targets, weights)."""
    # Tokens (studies, time), int32, are start, words, end, zeros; `findings` (studies, findings), float32, 1, 0 or nan.
    lengths = caption_lengths(tokens)
    longest = rounded(lengths.max(initial=1))
    tokens = np.pad(tokens, [(0, 0), (0, longest + STEP)])

    def make(numbers: Array, rng: np.random.Generator, index: int) -> Any:
        time = rounded(lengths[numbers].max())
        # Keras looks at the first two batches to learn which axes vary, so these must differ.
        time = longest if index == 0 else longest + STEP if (index, time) == (1, longest) else time
        given = {**inputs(numbers, rng), "tokens": tokens[numbers, :time]}
        if findings is not None:
            given["findings"] = findings[numbers]
        targets = tokens[numbers, 1 : time + 1]
        return given, targets, (targets > 0).astype("float32")

    return make


def caption_lengths(tokens: Array) -> Array:
    """Return how many tokens each caption (studies, time) has to predict."""
    return np.asarray((tokens > 0).sum(axis=1) - 1)


def rounded(length: int) -> int:
    """Return the length to which captions of a batch are filled up."""
    return STEP * math.ceil(length / STEP)


def finding_batch(inputs: Inputs, labels: Array, more: dict[str, Array] | None = None) -> Maker:
    """Return a function that makes batches of (inputs, labels); labels as findings above, `more` into inputs."""
    return lambda numbers, rng, index: (
        inputs(numbers, rng) | {name: rows[numbers] for name, rows in (more or {}).items()},
        labels[numbers],
    )
