"""A caption model in training: teacher forcing, findings loss and scheduled sampling."""

from __future__ import annotations

import math
from typing import Any

from xray_captioning.backend import keras, ops
from xray_captioning.config import CaptionTrainingConfig
from xray_captioning.decoders import CaptionModel, Features
from xray_captioning.encoders import Encoder
from xray_captioning.encoders.encoder import pooled_evidence
from xray_captioning.training.losses import MaskedBinaryCrossentropy


class TeacherForcing(keras.Model):
    """A caption model while it is fitted, with its encoder if that is trained, too.

    `encoder` is None where features come from a cache; `findings` is the number of labels a study
    has, for ``options.finding_weight``.

    References
    ----------
    .. [1] Bengio et al., arXiv:1506.03099 (scheduled sampling); in two parallel passes instead
       of a loop as in Mihaylova and Martins, arXiv:1906.07651.
    """

    def __init__(
        self,
        captions: CaptionModel,
        options: CaptionTrainingConfig,
        encoder: Encoder | None = None,
        findings: int = 0,
    ) -> None:
        super().__init__()
        self.captions, self.options, self.encoder = captions, options, encoder
        self.seeds = keras.random.SeedGenerator(options.seed)
        self.share = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="sampled_share"
        )
        if options.finding_weight:
            self.classifier = keras.layers.Dense(findings, name="findings", dtype="float32")
            self.classifier.build((None, None, captions.head.channels))
            self.finding_loss = MaskedBinaryCrossentropy([1.0] * findings)
        self.built = True

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        """Return logits (batch, time, vocabulary).

        `inputs` are ``tokens`` (batch, time); ``regions`` and ``mask`` (batch, regions), or
        ``images`` (batch, views, height, width, 3) and ``mask`` (batch, views) where there is an
        encoder; and ``findings`` (batch, findings) where they are learned.
        """
        tokens = inputs["tokens"]
        features = self.captions.head(self._features(inputs), training=training)
        if training and self.options.finding_weight:
            logits = pooled_evidence(self.classifier(features.regions), features.mask)
            found = self.finding_loss(inputs["findings"], logits)
            self.add_loss(self.options.finding_weight * found)
        if training and self.options.scheduled_sampling:
            tokens = self._sampled(features, tokens)
        return self.captions.decoder(features, tokens, training=training)

    def _features(self, inputs: dict[str, Any]) -> Features:
        if self.encoder is None:
            return Features(inputs["regions"], inputs["mask"])
        # Batch statistics of a few fine-tuning images would be worse than those it has.
        regions = self.encoder(inputs["images"], training=False)
        a_view = math.prod(self.encoder.grid)
        return Features(regions, ops.repeat(inputs["mask"], a_view, axis=1))

    def _sampled(self, features: Features, tokens: Any) -> Any:
        # Some words of the reference are replaced by those that the model would write.
        said = self.captions.decoder(features, tokens, training=False)
        said = 1 + ops.cast(ops.argmax(said[..., 1:], axis=-1), tokens.dtype)  # never padding
        said = ops.concatenate([tokens[:, :1], said[:, :-1]], axis=1)
        chance = keras.random.uniform(ops.shape(tokens), seed=self.seeds)
        swapped = ops.logical_and(chance < self.share, tokens > 0)
        return ops.where(swapped, said, tokens)


class SamplingSchedule(keras.callbacks.Callback):
    """Raise the share of the model's own words from 0 to its last value."""

    def __init__(self, options: CaptionTrainingConfig) -> None:
        super().__init__()
        self.options = options

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Set the share for an epoch."""
        done = epoch / max(self.options.epochs - 1, 1)
        self.model.share.assign(self.options.scheduled_sampling * done)


class TwoRates(keras.optimizers.AdamW):
    """AdamW with the rate of `slow` variables, which do not decay, multiplied by `ratio`."""

    def __init__(self, slow: Any, ratio: float, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.slow, self.ratio = [v.path for v in slow], ratio
        self.exclude_from_weight_decay(var_list=list(slow))

    def build(self, variables: Any) -> None:
        """Remember which of the variables are slow."""
        super().build(variables)
        self.rates = [self.ratio if v.path in self.slow else 1.0 for v in variables]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable at its own rate."""
        rate = self.rates[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * rate)
