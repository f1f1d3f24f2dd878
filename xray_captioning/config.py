"""Everything a run decides, as frozen dataclasses with a JSON round trip.

A configuration travels with the model it made: preprocessing is data.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from xray_captioning.errors import ConfigError


@dataclass(frozen=True)
class ImageConfig:
    """How pixels become an encoder's input.

    Attributes
    ----------
    size : int
        Height and width in pixels after resizing.
    resize : {"area", "linear", "nearest"}
        Interpolation; ``nearest`` is what the published attention model was trained with.
    normalisation : {"imagenet", "unit", "signed", "caffe", "clip"}
        What the encoder's weights expect, as :func:`xray_captioning.data.images.normalise` says.
    views : int
        Images of one study the model looks at.
    repeat_single_view : bool
        Show a lone image in every view, as the published model does, instead of masking the rest.
    augment : bool
        Vary pixels while an encoder is trained; never mirrored.
    """

    size: int = 224
    resize: str = "area"
    normalisation: str = "imagenet"
    views: int = 2
    repeat_single_view: bool = False
    augment: bool = True


@dataclass(frozen=True)
class TextConfig:
    """Which section is written, and how its words are cleaned and counted.

    Attributes
    ----------
    section : {"impression", "findings", "report"}
        ``report`` is findings followed by impression.
    cleaning : {"plain", "r2gen", "legacy"}
        Named protocol of :mod:`xray_captioning.text.cleaning`.
    minimum_frequency : int
        Words seen less often in training become ``<unk>``.
    maximum_length : int
        Tokens of a caption with its start and end tokens.
    prettify : bool
        Capitals and closed-up full stops in what people read; scores always use the raw words.
    view_prefix : bool
        A caption starts with a sentence that names its views; scores leave that sentence out.
    """

    section: str = "impression"
    cleaning: str = "plain"
    minimum_frequency: int = 1
    maximum_length: int = 60
    prettify: bool = True
    view_prefix: bool = False


@dataclass(frozen=True)
class ModelConfig:
    """Encoder, head and decoder.

    Attributes
    ----------
    encoder, decoder : str
        Names of :data:`xray_captioning.encoders.ENCODERS` and
        :data:`xray_captioning.decoders.DECODERS`.
    pool : int
        Side of the average pooling over the encoder's feature map (1: none).
    head : int
        Channels each region is projected to before the decoder.
    normalisation : {"layer", "batch"}
        Normalisation of the projected regions.
    positions : bool
        Add a learned vector for each view, row and column. Without it a decoder cannot tell
        left from right, unless the encoder can.
    units, embedding, attention : int
        Widths of the recurrent state, the word vectors and the attention's hidden layer.
    layers, heads : int
        Blocks and attention heads of a Transformer or GPT-2.
    dropout : float
        On the regions, on what a decoder makes its logits of, and, where it has them, on word
        vectors and on what each block of a Transformer adds, in [0, 1).
    tied_embeddings : bool
        The word vectors serve as the weights of the logits, too (Press and Wolf,
        arXiv:1608.05859).
    language_model : str
        What a ``gpt2`` decoder starts from: a keras-hub preset such as ``gpt2_base_en``, or a
        folder of GPT-2 files. Empty: random weights, and words instead of byte pairs.
    """

    encoder: str = "chexnet"
    pool: int = 1
    head: int = 512
    normalisation: str = "layer"
    positions: bool = True
    decoder: str = "global_attention"
    units: int = 512
    embedding: int = 300
    attention: int = 512
    layers: int = 3
    heads: int = 8
    dropout: float = 0.2
    tied_embeddings: bool = False
    language_model: str = ""


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is fitted.

    Attributes
    ----------
    epochs, batch_size, patience : int
        ``patience`` is the number of epochs without a lower validation loss before stopping.
    learning_rate : float
        The highest: after an epoch of warm-up from a tenth of it a cosine decay to zero begins.
    accumulated_batches : int
        Batches whose mean gradient moves the weights once. Each counts alike, though a caption's
        loss is a mean over words and some batches have more of them.
    clip_norm : float
        Global gradient norm bound.
    weight_decay : float
        Decoupled weight decay (AdamW); 0 is Adam.
    seed : int
        Weights, order and dropout. The split does not depend on it.
    """

    epochs: int = 30
    batch_size: int = 64
    accumulated_batches: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    clip_norm: float = 5.0
    patience: int = 5
    seed: int = 0


@dataclass(frozen=True)
class CaptionTrainingConfig(TrainingConfig):
    """How a decoder is fitted; what keeps it from collapsing is off unless asked for.

    Attributes
    ----------
    finding_weight : float
        Weight of a finding classifier's loss on the projected regions, beside the caption's.
    balanced : bool
        Draw studies with rare findings more often, by the inverse square root of frequency.
    label_smoothing : float
        Share of the target spread over all words (Szegedy et al., arXiv:1512.00567), in [0, 1).
    scheduled_sampling : float
        Share of words replaced by the model's own in the last epoch, rising from 0 in the first
        (Bengio et al., arXiv:1506.03099), in [0, 1).
    encoder_learning_rate : float
        Of the encoder's last block, which is then trained, too; 0 leaves the encoder frozen and
        its features in the cache.
    precision : {"float32", "bfloat16"}
        What the decoder computes in while it is trained; its weights are float32 either way.
    cache_dtype : {"float32", "float16"}
        What features are kept in on disk.
    """

    finding_weight: float = 0.0
    balanced: bool = False
    label_smoothing: float = 0.0
    scheduled_sampling: float = 0.0
    encoder_learning_rate: float = 0.0
    precision: str = "float32"
    cache_dtype: str = "float32"


@dataclass(frozen=True)
class DecodingConfig:
    """How a caption is searched for.

    Attributes
    ----------
    beam_size : int
        1 is greedy search.
    length_penalty : float
        Exponent of the length normalisation of Wu et al., arXiv:1609.08144, eq. 14; 0 is none.
    no_repeat_ngram : int
        No n-gram of this length occurs twice in a caption; 0 allows all.
    """

    beam_size: int = 1
    length_penalty: float = 0.0
    no_repeat_ngram: int = 0


@dataclass(frozen=True)
class Config:
    """One run: image, text, model, decoding, and the training of encoder and decoder.

    Attributes
    ----------
    name : str
        Of the preset.
    fractions : tuple of float
        Shares of train, validation and test, for encoder and decoder alike, where the data
        publish no split of their own.
    """

    name: str = "custom"
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    image: ImageConfig = field(default_factory=ImageConfig)
    text: TextConfig = field(default_factory=TextConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    encoder_training: TrainingConfig = field(default_factory=TrainingConfig)
    training: CaptionTrainingConfig = field(default_factory=CaptionTrainingConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)

    def to_dict(self) -> dict[str, Any]:
        """Return nested dictionaries of JSON types."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "configuration") -> Config:
        """Build from nested dictionaries; absent fields keep their defaults.

        Raises
        ------
        ConfigError
            A field is unknown, of the wrong type or out of range.
        """
        config = _build(cls, values, where)
        _check(config, where)
        return config

    def replace(self, changes: dict[str, Any]) -> Config:
        """Return a copy with dotted fields changed, such as ``{"training.epochs": 3}``.

        Raises
        ------
        ConfigError
            A field is unknown, of the wrong type or out of range.
        """
        values = self.to_dict()
        for dotted, value in changes.items():
            group, _, name = dotted.partition(".")
            if group not in values or (name and not isinstance(values[group], dict)):
                raise ConfigError(f"unknown field {dotted!r}; fields are {', '.join(fields())}")
            if name:
                values[group][name] = value
            else:
                values[group] = value
        return Config.from_dict(values)


def fields() -> list[str]:
    """Return the dotted names of every field that can be set."""
    names = []
    for group, values in Config().to_dict().items():
        names += [f"{group}.{name}" for name in values] if isinstance(values, dict) else [group]
    return names


def parse_assignment(text: str) -> tuple[str, Any]:
    """Read ``training.epochs=3`` as a dotted name and a JSON value (or a bare string)."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"cannot read {text!r}; write FIELD=VALUE, such as training.epochs=3")
    try:
        return name.strip(), json.loads(value)
    except (ValueError, RecursionError):
        return name.strip(), value.strip()


def presets() -> list[str]:
    """Return the names of the shipped recipes."""
    folder = resources.files("xray_captioning.presets")
    return sorted(p.name[:-5] for p in folder.iterdir() if p.name.endswith(".json"))


def load_preset(name: str) -> Config:
    """Return a shipped recipe.

    Raises
    ------
    ConfigError
        There is no recipe of that name.
    """
    if name not in presets():
        raise ConfigError(f"unknown preset {name!r}; presets are {', '.join(presets())}")
    text = resources.files("xray_captioning.presets").joinpath(f"{name}.json").read_text("utf-8")
    values = json.loads(text)
    values.pop("about", None)
    return Config.from_dict({"name": name, **values}, f"preset {name}")


def _build(cls: Any, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: {values!r:.40} does not fit; it must be an object of fields")
    hints = typing.get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ConfigError(f"{where}: unknown field {unknown[0]!r}; fields are {', '.join(hints)}")
    return cls(**{name: _convert(hints[name], v, f"{where}.{name}") for name, v in values.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, where)
    if isinstance(hint, types.GenericAlias):
        items = typing.get_args(hint)
        if not isinstance(value, (list, tuple)) or len(value) != len(items):
            raise ConfigError(
                f"{where}: {value!r:.40} does not fit; it must be {len(items)} values"
            )
        return tuple(_convert(h, v, where) for h, v in zip(items, value))
    if hint is float and type(value) is int and abs(value) < LARGEST:
        return float(value)
    if type(value) is not hint:
        raise ConfigError(
            f"{where}: {value!r:.40} does not fit; it must be of type {hint.__name__}"
        )
    if hint in (int, float) and not abs(value) < LARGEST:  # nor not-a-number
        raise ConfigError(f"{where}: {value!r:.40} does not fit; it must be below {LARGEST}")
    return value


LARGEST = 2**32  # the bound of a seed; nothing else is larger
_CHOICES = {
    "image.resize": ("area", "linear", "nearest"),
    "image.normalisation": ("imagenet", "unit", "signed", "caffe", "clip"),
    "text.section": ("impression", "findings", "report"),
    "text.cleaning": ("plain", "r2gen", "legacy"),
    "model.normalisation": ("layer", "batch"),
    "training.precision": ("float32", "bfloat16"),
    "training.cache_dtype": ("float32", "float16"),
}
_TRAINING = {
    "epochs": 1,
    "batch_size": 1,
    "accumulated_batches": 1,
    "patience": 1,
    "learning_rate": 1e-9,
    "weight_decay": 0,
    "clip_norm": 0,
    "seed": 0,
}
_MINIMA = {
    "image.size": 16,
    "image.views": 1,
    "text.minimum_frequency": 1,
    "text.maximum_length": 3,
    **{f"model.{name}": 1 for name in ("pool", "head", "units", "embedding", "attention")},
    **{f"model.{name}": 1 for name in ("layers", "heads")},
    "model.dropout": 0,
    "decoding.beam_size": 1,
    "decoding.length_penalty": 0,
    "decoding.no_repeat_ngram": 0,
    **{f"training.{name}": least for name, least in _TRAINING.items()},
    **{f"encoder_training.{name}": least for name, least in _TRAINING.items()},
    "training.finding_weight": 0,
    "training.label_smoothing": 0,
    "training.scheduled_sampling": 0,
    "training.encoder_learning_rate": 0,
}
_BELOW_ONE = ("model.dropout", "training.label_smoothing", "training.scheduled_sampling")


def _check(config: Config, where: str) -> None:
    values = config.to_dict()
    for dotted, choices in _CHOICES.items():
        group, name = dotted.split(".")
        if values[group][name] not in choices:
            raise ConfigError(
                f"{where}: {dotted} is {values[group][name]!r}; choose one of {', '.join(choices)}"
            )
    for dotted, least in _MINIMA.items():
        group, name = dotted.split(".")
        if values[group][name] < least:
            raise ConfigError(
                f"{where}: {dotted} is {values[group][name]}; it must be at least {least}"
            )
    for dotted in _BELOW_ONE:
        group, name = dotted.split(".")
        if values[group][name] >= 1:
            raise ConfigError(f"{where}: {dotted} is {values[group][name]}; it must be below 1")
    fractions = config.fractions
    if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ConfigError(f"{where}: fractions is {fractions}; they must be >= 0 and sum to 1")
