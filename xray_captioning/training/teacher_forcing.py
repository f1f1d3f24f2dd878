"""A caption model in training: teacher forcing, findings loss and scheduled sampling."""

from collections.abc import Sequence
from typing import Any, Self

import msgspec

from xray_captioning.backend import keras, ops, registered, replicas, shapes_vary, summed
from xray_captioning.config import CaptionTrainingConfig
from xray_captioning.decoders import CaptionModel, Features
from xray_captioning.decoders.decoder import WordDecoder
from xray_captioning.decoders.recurrence import Words
from xray_captioning.encoders import Encoder
from xray_captioning.encoders.encoder import pooled_evidence
from xray_captioning.training.losses import Averaged, MaskedBinaryCrossentropy


@registered
class TeacherForcing(Averaged):
    """A caption model while it is fitted, with its encoder if that is trained, too; the loss is the mean over words."""

    # `encoder`, whose last block is trained, is None where features come from a cache; `findings` is the number of
    # labels a study has, for ``options.finding_weight``. Scheduled sampling is that of Bengio et al., arXiv:1506.03099,
    # in two parallel passes instead of a loop as in Mihaylova and Martins, arXiv:1906.07651.
    def __init__(
        self,
        captions: CaptionModel,
        options: CaptionTrainingConfig,
        encoder: Encoder | None = None,
        findings: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.findings = findings
        self.captions, self.options, self.encoder = captions, options, encoder
        if encoder is not None:
            encoder.unfreeze_last_block()
        self.seeds = keras.random.SeedGenerator(options.seed)
        self.share = self.add_weight((), "zeros", trainable=False, name="sampled_share")
        if options.finding_weight:
            self.classifier = keras.layers.Dense(findings, name="findings", dtype="float32")
            self.classifier.build((None, None, captions.head.channels))
            self.finding_loss = MaskedBinaryCrossentropy([1.0] * findings, reduction=None)
        self.built = True

    def get_config(self) -> dict[str, Any]:
        models = {"captions": self.captions, "encoder": self.encoder}
        parts = {k: keras.saving.serialize_keras_object(model) for k, model in models.items()}
        own = {"options": msgspec.to_builtins(self.options), "findings": self.findings}
        return {**super().get_config(), **parts, **own}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        parts = {name: keras.saving.deserialize_keras_object(config[name]) for name in ("captions", "encoder")}
        return cls(**{**config, **parts, "options": msgspec.convert(config["options"], CaptionTrainingConfig)})

    def compute_loss(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None, training: bool = True) -> Any:
        y, sample_weight = _packed(y_pred, x, y, sample_weight)
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return the metrics after a batch, of words that are to become likelier."""
        y, sample_weight = _packed(y_pred, x, y, sample_weight)
        sample_weight = None if sample_weight is None else ops.maximum(sample_weight, 0)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        """Return logits (batch, time, vocabulary), or packed rows of them to train by.

        `inputs` are ``tokens`` (batch, time); ``regions`` and ``mask`` (batch, regions), or
        ``images`` (batch, views, height, width, 3) and ``mask`` (batch, views) where there is an
        encoder; ``findings`` (batch, findings) where they are learned; and ``context`` where that is read.
        """
        tokens, features = inputs["tokens"], self.captions.head(self.features(inputs), training=training)
        if training and self.options.finding_weight:
            logits = pooled_evidence(self.classifier(features.regions), features.mask)
            self.add_mean(self.options.finding_weight, self.finding_loss(inputs["findings"], logits), inputs)
        features = self.captions.informed(features, inputs.get("context"))
        if training and self.options.scheduled_sampling:
            tokens = self._sampled(features, tokens)
        decoder = self.captions.decoder
        # A decoder with a call of its own gives logits for all places.
        if training and shapes_vary(self) and type(decoder).call is WordDecoder.call:
            return decoder(features, tokens, training=True, packed=True)
        return decoder(features, tokens, training=training)

    def features(self, inputs: dict[str, Any]) -> Features:
        """Return the encoder's features of ``inputs``, which may hold them already."""
        if self.encoder is None:
            return Features(inputs["regions"], inputs["mask"])
        # Batch statistics of a few fine-tuning images would be worse than those it has.
        return Features(self.encoder(inputs["images"], training=False), self.encoder.region_mask(inputs["mask"]))

    def begin_epoch(self, epoch: int, logs: Any = None) -> None:
        """Raise the share of the model's own words from 0 to its last value; where captions are its own it is 0."""
        last = self.options.plain_epochs
        self.share.assign(self.options.scheduled_sampling * epoch / max(last - 1, 1) * (epoch < last))

    def _sampled(self, features: Features, tokens: Any) -> Any:
        # Some words of the reference are replaced by those that the model would write.
        said = self.captions.decoder(features, tokens, training=False)
        said = 1 + ops.cast(ops.argmax(said[..., 1:], axis=-1), tokens.dtype)  # never padding
        said = ops.concatenate([tokens[:, :1], said[:, :-1]], axis=1)
        chance = keras.random.uniform(ops.shape(tokens), seed=self.seeds)
        return ops.where(ops.logical_and(chance < self.share, tokens > 0), said, tokens)


def _packed(logits: Any, x: Any, y: Any, weights: Any) -> Any:
    """Return y and weights (batch, time) as the rows that logits have, if they are packed."""
    if len(logits.shape) == 3:
        return y, weights
    words = Words(x["tokens"], packed=True)
    return tuple(words.rows(words.sorted(part)) for part in (y, weights))


@registered
class TokenAccuracy(keras.metrics.SparseCategoricalAccuracy):
    """Share of an epoch's words that the model ranks first, whatever the batch size."""

    # Of weights (batch, time) Keras takes the mean over time, and with it the padding, first.
    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count words (batch, time) by their weights, and logits (batch, time, vocabulary)."""
        weights = None if sample_weight is None else ops.reshape(sample_weight, (-1,))
        super().update_state(ops.reshape(y_true, (-1,)), ops.reshape(y_pred, (-1, y_pred.shape[-1])), weights)


@registered
class TwoRates(keras.optimizers.AdamW):
    """AdamW with the rate of the variables of `slow` paths times `ratio`; only fast kernels decay."""

    # A kernel is a matrix or convolution that inputs are multiplied with. What else there is stays: biases, gains and
    # shifts of normalisations, the vectors of words and positions. Weight decay bounds how much a map can amplify its
    # input, and these amplify nothing (Radford et al., "Improving Language Understanding by Generative Pre-Training",
    # 2018, section 4.1). A word's vector, besides, would shrink in every step, also where the word does not occur,
    # and so most where it is rare (Karpathy's minGPT, ``GPT.configure_optimizers``). Nor do slow variables decay,
    # which begin at weights that are worth keeping.
    def __init__(self, slow: Sequence[str], ratio: float, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.slow, self.ratio = list(slow), ratio

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "slow": self.slow, "ratio": self.ratio}

    def build(self, variables: Any) -> None:
        is_slow = [v.path in self.slow for v in variables]
        self.rates = [self.ratio if slow else 1.0 for slow in is_slow]
        self.exclude_from_weight_decay(
            [v for v, slow in zip(variables, is_slow) if slow or not v.name.endswith("kernel")]
        )
        super().build(variables)

    def _clip_gradients(self, grads: Any) -> Any:
        # Keras bounds each device's gradient and then adds them up; the norm is that of the sum.
        if (devices := replicas()) == 1:
            return super()._clip_gradients(grads)
        return [g / devices for g in super()._clip_gradients(summed(grads))]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        super().update_step(gradient, variable, learning_rate * self.rates[self._get_variable_index(variable)])


@registered
class WarmRestart(keras.optimizers.schedules.CosineDecay):
    """A cosine decay with warm-up that begins with batch `start`: no earlier one is asked for."""

    # That goes on with a run of which the rate has fallen to zero (Loshchilov and Hutter, "SGDR: Stochastic Gradient
    # Descent with Warm Restarts", arXiv:1608.03983).
    def __init__(self, *args: Any, start: int = 0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.start = start

    def __call__(self, step: Any) -> Any:
        return super().__call__(step - self.start)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "start": self.start}
