"""Everything a run decides, as frozen structures that are read from JSON and written to it.

A configuration travels with the model it made, so that images and texts are prepared in the same
way wherever the model is used.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec
from msgspec import Meta, Struct

from xray_captioning.errors import ConfigError

LARGEST = 2**32  # numbers are smaller: it is the bound of a random seed

Count = Annotated[int, Meta(ge=1, lt=LARGEST)]
CountOrZero = Annotated[int, Meta(ge=0, lt=LARGEST)]
NonNegative = Annotated[float, Meta(ge=0, lt=LARGEST)]
Rate = Annotated[float, Meta(ge=1e-9, lt=LARGEST)]
Share = Annotated[float, Meta(ge=0, lt=1)]


class ImageConfig(Struct, frozen=True, forbid_unknown_fields=True):
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

    size: Annotated[int, Meta(ge=16, lt=LARGEST)] = 224
    resize: Literal["area", "linear", "nearest"] = "area"
    normalisation: Literal["imagenet", "unit", "signed", "caffe", "clip"] = "imagenet"
    views: Count = 2
    repeat_single_view: bool = False
    augment: bool = True


class TextConfig(Struct, frozen=True, forbid_unknown_fields=True):
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

    section: Literal["impression", "findings", "report"] = "impression"
    cleaning: Literal["plain", "r2gen", "legacy"] = "plain"
    minimum_frequency: Count = 1
    maximum_length: Annotated[int, Meta(ge=3, lt=LARGEST)] = 60
    prettify: bool = True
    view_prefix: bool = False


class ModelConfig(Struct, frozen=True, forbid_unknown_fields=True):
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
    pool: Count = 1
    head: Count = 512
    normalisation: Literal["layer", "batch"] = "layer"
    positions: bool = True
    decoder: str = "global_attention"
    units: Count = 512
    embedding: Count = 300
    attention: Count = 512
    layers: Count = 3
    heads: Count = 8
    dropout: Share = 0.2
    tied_embeddings: bool = False
    language_model: str = ""


class TrainingConfig(Struct, frozen=True, forbid_unknown_fields=True):
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

    epochs: Count = 30
    batch_size: Count = 64
    accumulated_batches: Count = 1
    learning_rate: Rate = 1e-3
    weight_decay: NonNegative = 0.0
    clip_norm: NonNegative = 5.0
    patience: Count = 5
    seed: CountOrZero = 0


class CaptionTrainingConfig(TrainingConfig, frozen=True):
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

    finding_weight: NonNegative = 0.0
    balanced: bool = False
    label_smoothing: Share = 0.0
    scheduled_sampling: Share = 0.0
    encoder_learning_rate: NonNegative = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    cache_dtype: Literal["float32", "float16"] = "float32"


class DecodingConfig(Struct, frozen=True, forbid_unknown_fields=True):
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

    beam_size: Count = 1
    length_penalty: NonNegative = 0.0
    no_repeat_ngram: CountOrZero = 0


class Config(Struct, frozen=True, forbid_unknown_fields=True):
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
    fractions: tuple[NonNegative, NonNegative, NonNegative] = (0.8, 0.1, 0.1)
    image: ImageConfig = ImageConfig()
    text: TextConfig = TextConfig()
    model: ModelConfig = ModelConfig()
    encoder_training: TrainingConfig = TrainingConfig()
    training: CaptionTrainingConfig = CaptionTrainingConfig()
    decoding: DecodingConfig = DecodingConfig()

    def to_dict(self) -> dict[str, Any]:
        """Return nested dictionaries of JSON types."""
        return msgspec.json.decode(msgspec.json.encode(self))

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "configuration") -> Config:
        """Build from nested dictionaries; absent fields keep their defaults.

        Parameters
        ----------
        values : dict
        where : str
            What the values were read from; begins the message of an error.

        Raises
        ------
        ConfigError
            A field is unknown, of the wrong type or out of range.
        """
        try:
            config = msgspec.convert(values, cls)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{where}: {_explain(error, values)}") from error
        if abs(sum(config.fractions) - 1) > 1e-6:
            raise ConfigError(
                f"{where}: fractions: {config.fractions} do not fit; they must sum to 1"
            )
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
            owner = values.setdefault(group, {}) if name else values
            if not isinstance(owner, dict):
                raise ConfigError(
                    f"{group} has no field {name!r}; fields are {', '.join(fields())}"
                )
            owner[name or group] = value
        return Config.from_dict(values)


def fields() -> list[str]:
    """Return the dotted names of every field that can be set."""
    names = []
    for group, values in Config().to_dict().items():
        names += [f"{group}.{name}" for name in values] if isinstance(values, dict) else [group]
    return names


def parse_assignment(text: str) -> tuple[str, Any]:
    """Read ``training.epochs=3`` as a dotted name and a JSON value (or a bare string).

    Raises
    ------
    ConfigError
        There is no equals sign.
    """
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


def _explain(error: msgspec.ValidationError, values: Any) -> str:
    """Return which field is wrong, its value, and what it may be.

    msgspec says it as "Expected `int` >= 16 - at `$.image.size`", the path only below the first
    level.
    """
    problem, _, path = str(error).replace("`", "").partition(" - at $.")
    kind: Any = Config
    try:
        for name in path.partition("[")[0].split(".") if path else []:
            kind, values = get_type_hints(kind)[name], values[name]
    except (KeyError, TypeError):  # an unknown field whose name holds what looks like a path
        return str(error)
    where = f"{path}: " if path else ""
    _, unknown, field = problem.partition("unknown field ")
    if unknown:
        known = kind.__struct_fields__ if path else fields()
        return f"{where}unknown field {field!r}; fields are {', '.join(known)}"
    if "enum" in problem:
        problem = f"choose one of {', '.join(get_args(kind))}"
    return f"{where}{values!r:.40} does not fit; {problem[0].lower()}{problem[1:]}"
