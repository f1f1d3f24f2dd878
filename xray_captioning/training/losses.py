"""Losses of encoders and decoders."""

from typing import Any

import numpy as np

from xray_captioning.backend import keras, ops, registered


@registered
class MaskedBinaryCrossentropy(keras.losses.Loss):
    """Sigmoid cross-entropy of the labels that are known (not not-a-number).

    A present finding has its weight of `positive_weights` (findings,), an absent one has 1. A
    study's losses are divided by the number of findings, known or not. A divisor that depends on
    the labels would weigh studies by them: a classifier without images would then not answer with
    the share of known labels that are present.
    """

    def __init__(self, positive_weights: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.positive_weights = np.asarray(positive_weights, "float32")

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as JSON types."""
        return {**super().get_config(), "positive_weights": self.positive_weights.tolist()}

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return losses (batch,) of labels (batch, findings), 1, 0 or not-a-number, and logits."""
        known = ops.logical_not(ops.isnan(y_true))
        target = ops.where(known, y_true, 0.0)
        loss = ops.softplus(y_pred) - y_pred * target
        weight = ops.where(target > 0.5, self.positive_weights, 1.0) * ops.cast(known, loss.dtype)
        return ops.mean(loss * weight, axis=-1)


@registered
class WordCrossentropy(keras.losses.Loss):
    """Cross-entropy of the next word, averaged over the words that count.

    `smoothing` is the share of the target, in [0, 1), that is spread evenly over the vocabulary
    (label smoothing, Szegedy et al., arXiv:1512.00567, section 7).
    """

    def __init__(self, smoothing: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**{"reduction": "mean_with_sample_weight", **kwargs})
        self.smoothing = smoothing

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "smoothing": self.smoothing}

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return losses (batch, time) of word ids and logits (batch, time, vocabulary)."""
        loss = ops.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)
        if not self.smoothing:
            return loss
        everywhere = -ops.mean(ops.log_softmax(y_pred, axis=-1), axis=-1)
        return (1 - self.smoothing) * loss + self.smoothing * everywhere
