"""Head and decoder as one Keras model that owns their weights."""

from __future__ import annotations

import math
from typing import Any

import msgspec
from msgspec.structs import asdict

from xray_captioning.backend import keras, registered
from xray_captioning.config import ModelConfig
from xray_captioning.data.provenance import TrainedOn
from xray_captioning.decoders.context_aggregation import ContextAttention
from xray_captioning.decoders.decoder import Decoder, Features, State
from xray_captioning.decoders.global_attention import GlobalAttention
from xray_captioning.decoders.head import RegionHead
from xray_captioning.decoders.recurrent import GruDecoder, LstmDecoder, SimpleDecoder
from xray_captioning.decoders.transformer import Gpt2, Transformer
from xray_captioning.errors import ConfigError

_RECURRENT = ("units", "embedding", "dropout", "tied_embeddings")
# Each decoder and what it is made from: fields of the configuration, the grid of regions
# (views, rows, columns) and the most tokens of a caption.
DECODERS: dict[str, tuple[type[Decoder], tuple[str, ...]]] = {
    "simple": (SimpleDecoder, _RECURRENT),
    "gru": (GruDecoder, _RECURRENT),
    "lstm": (LstmDecoder, _RECURRENT),
    "global_attention": (GlobalAttention, (*_RECURRENT, "attention")),
    "context_aggregation": (ContextAttention, (*_RECURRENT, "attention", "grid")),
    "transformer": (
        Transformer,
        ("units", "layers", "heads", "dropout", "tied_embeddings", "maximum_length"),
    ),
    "gpt2": (Gpt2, ("units", "layers", "heads", "dropout", "maximum_length")),
}

Grid = tuple[int, int, int]


def build_decoder(
    config: ModelConfig, vocabulary_size: int, grid: Grid, maximum_length: int, **kwargs: Any
) -> Decoder:
    """Return the decoder a configuration names, for a grid of views, rows and columns."""
    check_decoder(config)
    kind, names = DECODERS[config.decoder]
    known = {**asdict(config), "grid": grid, "maximum_length": maximum_length}
    return kind(vocabulary_size, **{name: known[name] for name in names}, **kwargs)


def check_decoder(config: ModelConfig) -> None:
    """Refuse a decoder that cannot be built, before anything is downloaded or computed for it."""
    if config.decoder not in DECODERS:
        raise ConfigError(f"unknown decoder {config.decoder!r}; decoders are {', '.join(DECODERS)}")
    _, names = DECODERS[config.decoder]
    if "heads" in names and config.units % config.heads:
        raise ConfigError(
            f"model.units is {config.units}, which {config.heads} heads cannot divide; "
            "change model.units or model.heads"
        )


@registered
class CaptionModel(keras.Model):
    """Encoder features and tokens in, logits out; built as soon as it is made.

    Parameters
    ----------
    grid : tuple of int
        Views, rows and columns of the encoder's regions.
    channels : int
        Of each region.
    maximum_length : int
        Most tokens of a caption.

    Attributes
    ----------
    trained_on : TrainedOn or None
        The studies it was trained on, where they are known; it goes into a ``.keras`` file.
    """

    def __init__(
        self,
        config: ModelConfig,
        vocabulary_size: int,
        grid: Grid,
        channels: int,
        maximum_length: int = 60,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.config, self.vocabulary_size = config, vocabulary_size
        self.grid, self.channels, self.maximum_length = tuple(grid), channels, maximum_length
        self.trained_on: TrainedOn | None = None
        regions = math.prod(grid)
        self.features_shape = Features((None, regions, channels), (None, regions))
        dtype, sizes = self.dtype_policy.name, (vocabulary_size, grid, maximum_length)
        made = (config.head, config.normalisation, config.positions, config.dropout)
        self.head = RegionHead(*made, name="head", dtype=dtype)
        self.decoder = build_decoder(config, *sizes, name="decoder", dtype=dtype)
        self.build(None)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, and what it was trained on, as JSON types."""
        names = ("vocabulary_size", "grid", "channels", "maximum_length")
        own = {"config": asdict(self.config), **{name: getattr(self, name) for name in names}}
        record = self.trained_on and self.trained_on.to_dict()
        return {**super().get_config(), **own, "trained_on": record}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> CaptionModel:
        """Make a model with new weights of what :meth:`get_config` returned."""
        values = {**config, "config": msgspec.convert(config["config"], ModelConfig)}
        record = values.pop("trained_on", None)  # files of before have none
        model = cls(**values)
        model.trained_on = record and TrainedOn.from_dict(record)
        return model

    def build(self, input_shape: Any) -> None:
        """Build head and decoder; the sizes were given to the constructor."""
        self.head.build(self.features_shape)
        regions, mask = self.features_shape
        self.decoder.build(Features((*regions[:2], self.head.channels), mask), (None, None))
        self.built = True

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        """Return logits (batch, time, vocabulary), float32, by teacher forcing.

        `inputs` are ``regions`` (batch, regions, channels), ``mask`` (batch, regions) and
        ``tokens`` (batch, time).
        """
        features = self.head(Features(inputs["regions"], inputs["mask"]), training=training)
        return self.decoder(features, inputs["tokens"], training=training)

    def start(self, features: Features) -> State:
        """Return the decoder's state for raw encoder features."""
        return self.decoder.start(self.head(features, training=False))

    def step(self, token: Any, state: State) -> tuple[Any, State]:
        """Return the decoder's logits (batch, vocabulary) and next state."""
        return self.decoder.step(token, state)
