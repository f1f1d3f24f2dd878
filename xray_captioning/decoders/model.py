"""Head and decoder as one Keras model that owns their weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect
from msgspec.structs import asdict, replace

from xray_captioning.backend import keras, ops, registered
from xray_captioning.config import Config, ModelConfig
from xray_captioning.data.provenance import TrainedOn
from xray_captioning.decoders import recurrent
from xray_captioning.decoders.context_aggregation import ChainedContext, ContextAttention
from xray_captioning.decoders.decoder import Decoder, Features, State
from xray_captioning.decoders.transformer import Gpt2, Transformer
from xray_captioning.errors import ConfigError
from xray_captioning.plugins import find_model, register_model


class DecoderRow(NamedTuple):
    """A decoder's class and what it is made from, beside the number of words."""

    kind: type[Decoder]
    fields: tuple[str, ...]  # of ModelConfig; grid (views, rows, columns) and maximum_length
    config: type | None = None  # a class of fields of its own, `model.options`


_RECURRENT = ("units", "embedding", "dropout", "tied_embeddings")
_BLOCKS = ("units", "layers", "heads", "dropout", "maximum_length")
DECODERS = {
    "simple": DecoderRow(recurrent.SimpleDecoder, _RECURRENT),
    "gru": DecoderRow(recurrent.GruDecoder, _RECURRENT),
    "lstm": DecoderRow(recurrent.LstmDecoder, _RECURRENT),
    "global_attention": DecoderRow(recurrent.GlobalAttention, (*_RECURRENT, "attention")),
    "chained_context": DecoderRow(ChainedContext, (*_RECURRENT, "attention", "grid")),
    "context_aggregation": DecoderRow(ContextAttention, (*_RECURRENT, "attention", "grid")),
    "transformer": DecoderRow(Transformer, (*_BLOCKS, "tied_embeddings")),
    "gpt2": DecoderRow(Gpt2, _BLOCKS),
}


def check_decoder(config: ModelConfig) -> tuple[DecoderRow, dict[str, Any]]:
    """Refuse a decoder that cannot be built before anything is downloaded; return its row and its own fields."""
    row = find_model(DECODERS, "decoder", config.decoder)
    if "heads" in row.fields and config.units % config.heads:
        units = f"model.units is {config.units}, which {config.heads} heads cannot divide"
        raise ConfigError(f"{units}; change model.units or model.heads")
    return row, _own_fields(config, row)


def _own_fields(config: ModelConfig, row: DecoderRow) -> dict[str, Any]:
    names = _field_names(row.config)
    if unknown := sorted(set(config.options) - set(names)):
        known = f"has no such field of its own; it has {', '.join(names) or 'none'}"
        raise ConfigError(f"model.options.{unknown[0]}: the decoder {config.decoder!r} {known}")
    try:
        made = row.config and msgspec.convert(config.options, row.config)
    except msgspec.ValidationError as error:
        problem, _, field = str(error).replace("`", "").partition(" - at $.")
        raise ConfigError(f"model.options.{field or '*'}: {problem}") from error
    return {name: getattr(made, name) for name in names}


def _field_names(config: type | None) -> list[str]:
    return [field.name for field in getattr(inspect.type_info(config), "fields", ())]


def register_decoder(name: str, cls: type[Decoder], config: type | None = None, fields: Sequence[str] = ()) -> None:
    """Make a decoder of one's own known by a name; docs/own_models.md has an example.

    Parameters
    ----------
    name : str
        What ``model.decoder`` calls it.
    cls : subclass of Decoder
        Made with the number of words, the values of both kinds of fields, and ``name`` and ``dtype``.
    config : type, optional
        A dataclass, or msgspec.Struct, of fields of its own, which have defaults: ``--set model.options.FIELD=VALUE``.
    fields : sequence of str
        The fields of :class:`~xray_captioning.config.ModelConfig` that it is made from, such as ``units``, and
        ``grid`` (views, rows and columns of regions) and ``maximum_length`` (tokens of a caption).

    Raises
    ------
    ConfigError
        Another decoder has this name, the class is no Decoder, or fields are unknown, without default or named twice.
    """
    row, where = DecoderRow(cls, tuple(fields), config), f"decoder {name!r}"
    if not (isinstance(cls, type) and issubclass(cls, Decoder)):
        raise ConfigError(f"{where}: its class is {cls!r:.60}; derive one from xc.Decoder")
    known = {*asdict(ModelConfig()), "grid", "maximum_length"}
    if wrong := set(fields) - known or set(_field_names(config)) & known:
        raise ConfigError(f"{where}: {min(wrong)}: `fields` are of {', '.join(sorted(known))}, config has others")
    _own_fields(ModelConfig(decoder=name), row)  # has defaults
    register_model(DECODERS, "decoder", name, row, cls.__module__)


@registered
class RegionHead(keras.layers.Layer):
    """Project each region, add its position, normalise it ("layer") or real regions of a batch ("batch"), drop out."""

    def __init__(self, channels: int, normalisation: str, positions: bool, dropout: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels, self.normalisation, self.positions = channels, normalisation, positions
        dtype, layers = self.dtype_policy, keras.layers
        kind = layers.BatchNormalization if normalisation == "batch" else layers.LayerNormalization
        self.project = layers.Dense(channels, "relu", name="project", dtype=dtype)
        self.norm = kind(name="norm", dtype=dtype)
        self.dropout = keras.layers.Dropout(dropout, dtype=dtype)

    def build(self, features_shape: Any) -> None:
        _, regions, _ = features_shape[0]
        self.project.build(features_shape[0])
        self.norm.build((None, regions, self.channels))
        if self.positions:
            self.position = self.add_weight((regions, self.channels), "random_normal", name="position")

    def call(self, features: Features, training: bool | None = None) -> Features:
        """Return features of regions (batch, regions, channels) and the same mask."""
        regions = self.project(ops.cast(features.regions, self.compute_dtype))
        if self.positions:
            regions = regions + ops.cast(self.position, regions.dtype)
        if self.normalisation == "batch":
            regions = self.norm(regions, training=training, mask=features.mask)
        else:
            regions = self.norm(regions)
        regions = ops.where(ops.cast(features.mask, "bool")[..., None], regions, 0)
        return Features(self.dropout(regions, training=training), features.mask)


@registered
class TextEncoder(keras.layers.Layer):
    """A study's texts, one of each kind, as one vector: word vectors, a convolution over three words, the maximum over
    a text (Kim, arXiv:1408.5882), and a matrix for each kind. It is exactly zero where no text has a word.
    """

    def __init__(self, vocabulary_size: int, embedding: int, channels: int, kinds: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kinds, self.channels, dtype, layers = kinds, channels, self.dtype_policy, keras.layers
        self.embedding = layers.Embedding(vocabulary_size, embedding, name="embedding", dtype=dtype)
        self.convolution = layers.Conv1D(channels, 3, padding="same", activation="relu", name="words", dtype=dtype)
        self.project = layers.Dense(channels, use_bias=False, name="project", dtype=dtype)

    def build(self, tokens_shape: Any) -> None:
        self.embedding.build((None, None))
        self.convolution.build((None, None, self.embedding.output_dim))
        self.project.build((None, self.kinds * self.channels))

    def call(self, tokens: Any) -> Any:
        """Return vectors (batch, channels) of token ids (batch, kinds, words), int32, zeros behind each text."""
        tokens = ops.reshape(tokens, (-1, tokens.shape[-1]))
        vectors = self.embedding(tokens)
        there = ops.cast(tokens > 0, vectors.dtype)[..., None]
        found = ops.max(self.convolution(vectors * there) * there, axis=1)  # none is below 0
        return self.project(ops.reshape(found, (-1, self.kinds * self.channels)))


@registered
class CaptionModel(keras.Model):
    """Encoder features and tokens in, logits out; built as soon as it is made. ``grid`` is the number of views, rows
    and columns of the regions, of so many ``channels``; a caption, and each of ``context`` kinds of text, has at most
    ``maximum_length`` tokens. ``trained_on`` says on which studies it was trained, also in a ``.keras`` file.
    """

    def __init__(
        self,
        config: ModelConfig,
        vocabulary_size: int,
        grid: Any,
        channels: int,
        maximum_length: int = 60,
        context: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        row, own = check_decoder(config)
        config = replace(config, options=own)  # with defaults, which may be others later
        self.config, self.vocabulary_size = config, vocabulary_size
        self.grid, self.channels, self.maximum_length = tuple(grid), channels, maximum_length
        self.context = context
        self.trained_on: TrainedOn | None = None
        regions = math.prod(grid)
        self.features_shape = Features((None, regions, channels), (None, regions))
        dtype = self.dtype_policy.name
        made = (config.head, config.normalisation, config.positions, config.dropout)
        self.head = RegionHead(*made, name="head", dtype=dtype)
        known = {**asdict(config), "grid": grid, "maximum_length": maximum_length}
        sizes = {name: known[name] for name in row.fields}
        self.decoder = row.kind(vocabulary_size, **sizes, **own, name="decoder", dtype=dtype)
        if context:
            words = vocabulary_size, config.embedding, config.head, context
            self.texts = TextEncoder(*words, name="texts", dtype=dtype)
        self.build(None)

    def get_config(self) -> dict[str, Any]:
        names = ("vocabulary_size", "grid", "channels", "maximum_length", "context")
        own = {"config": asdict(self.config), **{name: getattr(self, name) for name in names}}
        return {**super().get_config(), **own, "trained_on": self.trained_on and self.trained_on.to_dict()}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> CaptionModel:
        values = {**config, "config": msgspec.convert(config["config"], ModelConfig)}
        record = values.pop("trained_on", None)  # files of before have none
        model = cls(**values)
        model.trained_on = record and TrainedOn.from_dict(record)
        return model

    def build(self, input_shape: Any) -> None:
        self.head.build(self.features_shape)
        regions, mask = self.features_shape
        self.decoder.build(Features((*regions[:2], self.head.channels), mask), (None, None))
        if self.context:
            self.texts.build((None, self.context, self.maximum_length))

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        """Return logits (batch, time, vocabulary), float32, by teacher forcing. `inputs` are ``regions`` (batch,
        regions, channels), ``mask`` (batch, regions), ``tokens`` (batch, time) and perhaps ``context``, as in `start`.
        """
        features = self.head(Features(inputs["regions"], inputs["mask"]), training=training)
        return self.decoder(self.informed(features, inputs.get("context")), inputs["tokens"], training=training)

    def informed(self, features: Features, context: Any) -> Features:
        """Add what texts say, if there are any, to every projected region: so each decoder has it, and undiluted."""
        if context is None:
            return features
        there = ops.cast(features.mask, features.regions.dtype)[..., None]
        return Features(features.regions + there * self.texts(context)[:, None], features.mask)

    def start(self, features: Features, context: Any = None) -> State:
        """Return the decoder's state for raw encoder features, and token ids (batch, kinds, words) of texts."""
        return self.decoder.start(self.informed(self.head(features, training=False), context))

    def step(self, token: Any, state: State) -> tuple[Any, State]:
        return self.decoder.step(token, state)


def new_model(config: Config, encoder: Any, tokenizer: Any, dtype: str = "float32") -> CaptionModel:
    """Return an untrained head and decoder that fit an encoder and a vocabulary."""
    sizes = tokenizer.vocabulary_size, (config.image.views, *encoder.grid), encoder.channels
    return CaptionModel(config.model, *sizes, config.text.maximum_length, len(config.text.context), dtype=dtype)
