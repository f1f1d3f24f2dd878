"""Losses of encoders and decoders."""

from typing import Any

import numpy as np

from xray_captioning.backend import keras, ops, registered, replicas


@registered
class Averaged(keras.Model):
    """A model whose ``loss`` is the mean over what has weight, of a batch, on however many devices, and of an epoch,
    however it is batched. Its compiled loss is a sum. Keras' own is a mean over each device's part and counts batches
    by their studies: a word among short captions would weigh more than one among long captions.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.mean_loss = keras.metrics.Mean("loss")

    @property
    def metrics(self) -> list[Any]:
        """The mean in the place of Keras' own loss, then the others."""
        return [self.mean_loss, *(m for m in super().metrics if m.name != "loss")]

    def compute_loss(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None, training: bool = True) -> Any:
        weights = ops.ones(ops.shape(y)[:1]) if sample_weight is None else sample_weight
        count = x["count"][0] if "count" in x else ops.sum(weights)  # of all devices
        weights = ops.divide_no_nan(weights, count)
        loss = super().compute_loss(x, y, y_pred, weights, training)
        self.mean_loss.update_state(loss * replicas(), count)
        return loss

    def add_mean(self, weight: float, losses: Any, inputs: dict[str, Any]) -> None:
        """Add the weighted mean of a batch's losses (batch,) to what is minimised, not to ``loss``."""
        share = inputs.get("share", ops.ones_like(losses) / ops.cast(ops.shape(losses)[0], losses.dtype))
        self.add_loss(weight * ops.sum(losses * share) * replicas())  # Keras divides by it

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        # Under TensorFlow Keras takes the mean of a batch over devices, which masks have none of.
        if iterator is not None and replicas() > 1:
            batch, local = next(next(iter(iterator))[2]), self.distribute_strategy.experimental_local_results
            iterator, data_batch = None, keras.tree.map_structure(lambda x: local(x)[0], batch)
        super()._maybe_symbolic_build(iterator, data_batch)


@registered
class MaskedBinaryCrossentropy(keras.losses.Loss):
    """Sigmoid cross-entropy of the labels that are known (not not-a-number), a present finding's weighted by
    `positive_weights` (findings,). A study's losses are divided by the number of findings, known or not: by one that
    depends on labels, a classifier without images would not answer with the share of known labels that are present.
    """

    def __init__(self, positive_weights: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.positive_weights = np.asarray(positive_weights, "float32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "positive_weights": self.positive_weights.tolist()}

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return losses (batch,) of labels (batch, findings), 1, 0 or not-a-number, and logits."""
        known = ops.logical_not(ops.isnan(y_true))
        target = ops.where(known, y_true, 0.0)
        loss = ops.softplus(y_pred) - y_pred * target
        weight = ops.where(target > 0.5, self.positive_weights, 1.0) * ops.cast(known, loss.dtype)
        return ops.mean(loss * weight, axis=-1)


def evidence_outside(logits: Any, mask: Any, cells: Any) -> Any:
    """Return minus the logarithm of the share of evidence, logits (batch, regions, findings), in `cells`: (batch,)."""
    real = ops.cast(mask, "bool")[..., None]
    total, inside = (ops.logsumexp(ops.where(part, logits, -1e9), axis=1) for part in (real, cells))
    return ops.mean(ops.where(ops.any(cells, axis=1), total - inside, 0.0), axis=-1)


@registered
class WordCrossentropy(keras.losses.Loss):
    """Cross-entropy of the next word, averaged over the words that count."""

    # `smoothing` is the share of the target, in [0, 1), that is spread evenly over the vocabulary
    # (label smoothing, Szegedy et al., arXiv:1512.00567, section 7).
    def __init__(self, smoothing: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**{"reduction": "mean_with_sample_weight", **kwargs})
        self.smoothing = smoothing

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "smoothing": self.smoothing}

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return losses (batch, time) of word ids and logits (batch, time, vocabulary)."""
        loss = ops.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)
        if not self.smoothing:
            return loss
        return (1 - self.smoothing) * loss + self.smoothing * -ops.mean(ops.log_softmax(y_pred, axis=-1), axis=-1)
