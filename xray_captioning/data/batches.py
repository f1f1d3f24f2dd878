"""Batches for Keras, in an order that depends on the seed and the epoch only."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from xray_captioning.backend import keras
from xray_captioning.data.features import Array, ArrayCache, stack_features, stack_views
from xray_captioning.data.images import augment, normalise


class Batches(keras.utils.PyDataset):
    """Batches of study numbers, shuffled anew in each epoch.

    Parameters
    ----------
    make : callable
        ``make(numbers, rng) -> batch`` for an array of study numbers.
    studies, batch_size : int
    seed : int or None
        None keeps the order.
    """

    def __init__(
        self,
        make: Callable[[Array, np.random.Generator], Any],
        studies: int,
        batch_size: int,
        seed: int | None = None,
    ) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self.make, self.studies, self.batch_size, self.seed = make, studies, batch_size, seed
        self.epoch = 0

    def __len__(self) -> int:
        """Return the number of batches."""
        return math.ceil(self.studies / self.batch_size)

    def __getitem__(self, index: int) -> Any:
        """Return one batch."""
        order = np.arange(self.studies)
        if self.seed is not None:
            np.random.default_rng([self.seed, self.epoch]).shuffle(order)
        numbers = order[index * self.batch_size : (index + 1) * self.batch_size]
        return self.make(numbers, np.random.default_rng([self.seed or 0, self.epoch, index]))


def caption_batch(
    cache: ArrayCache, images: Sequence[Sequence[str]], views: int, tokens: Array
) -> Callable[[Array, np.random.Generator], Any]:
    """Return a maker of (inputs, targets, weights) from cached features.

    Parameters
    ----------
    cache : ArrayCache
        Of feature maps (rows, columns, channels).
    images : sequence of sequences of str
        The images of each study.
    views : int
    tokens : array, shape (studies, time), int32
        Start token, words, end token, zeros.
    """
    # All batches have one shape, which Keras fixes when it sees the first; no longer than needed.
    tokens = tokens[:, : max(int((tokens > 0).sum(axis=1).max(initial=0)), 2)]

    def make(numbers: Array, rng: np.random.Generator) -> Any:
        rows = [[cache[path] for path in images[i]] for i in numbers]
        regions, mask = stack_features(rows, views)
        chosen = tokens[numbers]
        inputs = {"regions": regions, "mask": mask, "tokens": chosen[:, :-1]}
        targets = chosen[:, 1:]
        return inputs, targets, (targets > 0).astype("float32")

    return make


def finding_batch(
    cache: ArrayCache,
    images: Sequence[Sequence[str]],
    views: int,
    labels: Array,
    normalisation: str,
    augmented: bool,
) -> Callable[[Array, np.random.Generator], Any]:
    """Return a maker of (inputs, labels) from cached pixels.

    Parameters
    ----------
    cache : ArrayCache
        Of grey images (size, size), uint8.
    images : sequence of sequences of str
    views : int
    labels : array, shape (studies, findings), float32
        1 present, 0 absent, not-a-number unknown.
    normalisation : str
    augmented : bool
        Change the pixels a little in each epoch; never mirrored.
    """

    def make(numbers: Array, rng: np.random.Generator) -> Any:
        pixels, mask = stack_views([[cache[path] for path in images[i]] for i in numbers], views)
        grey = pixels.reshape(-1, *pixels.shape[2:], 1).astype(np.float32) / np.float32(255)
        if augmented:
            grey = augment(grey, rng)
        flat = normalise(np.repeat(grey, 3, axis=-1), normalisation)
        return {"images": flat.reshape(*pixels.shape, 3), "mask": mask}, labels[numbers]

    return make
