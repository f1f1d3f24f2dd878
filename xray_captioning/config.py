"""Everything a run decides, as frozen structures that are read from JSON and written to it.

A configuration travels with the model it made, so that images and texts are prepared in the same
way wherever the model is used. What it cannot hold is a ConfigError that names the field.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec
from msgspec import Meta, Struct

from xray_captioning.errors import ConfigError, in_one_line, require

LARGEST = 2**32  # numbers are smaller: it is the bound of a random seed

Count = Annotated[int, Meta(ge=1, lt=LARGEST)]
CountOrZero = Annotated[int, Meta(ge=0, lt=LARGEST)]
NonNegative = Annotated[float, Meta(ge=0, lt=LARGEST)]
Rate = Annotated[float, Meta(ge=1e-9, lt=LARGEST)]
Share = Annotated[float, Meta(ge=0, lt=1)]
Bleu = Literal["val_BLEU-1", "val_BLEU-2", "val_BLEU-3", "val_BLEU-4"]

RESIZES = (
    *("area", "linear", "nearest", "xrv", "torchvision", "rad-dino"),
    *("dinov2", "siglip", "clip", "vit", "open-clip", "chexzero"),
)
RESIZE = rf"^({'|'.join(RESIZES)}|(transformers|pillow)-(bilinear|bicubic)(-\d+/\d+)?)$"
NORMALISATIONS = ("imagenet", "unit", "signed", "caffe", "lite", "xrv", "rad-dino", "clip", "chexzero")
_THREE = r"\d*\.?\d+(,\d*\.?\d+){2}"
# No deviation is 0.
NORMALISATION = rf"^({'|'.join(NORMALISATIONS)}|{_THREE}/(?!(.*,)?[0.]+(,|$)){_THREE})$"


class ImageConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How pixels become an encoder's input."""

    size: Annotated[int, Meta(ge=16, lt=LARGEST)] = 224
    """Height and width in pixels after resizing."""
    resize: Annotated[str, Meta(pattern=RESIZE)] = "area"
    """A name of :data:`RESIZES`, or what :func:`xray_captioning.data.resizing.rule_of` reads;
    ``nearest`` is what the published attention model was trained with."""
    normalisation: Annotated[str, Meta(pattern=NORMALISATION)] = "imagenet"
    """What the encoder's weights expect: a name of :data:`NORMALISATIONS`, or mean and deviation
    of red, green and blue in [0, 1], such as ``0.5,0.5,0.5/0.25,0.25,0.25``."""
    views: Count = 2
    """Images of one study the model looks at."""
    repeat_single_view: bool = False
    """Show a lone image in every view, as the published model does, instead of masking the rest."""
    augment: bool = True
    """Vary pixels while an encoder is trained; never mirrored."""


class TextConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Which section is written, and how its words are cleaned and counted."""

    section: Literal["impression", "findings", "report"] = "impression"
    """What is written; ``report`` is findings followed by impression."""
    cleaning: Literal["plain", "r2gen", "legacy"] = "plain"
    """Named protocol of :mod:`xray_captioning.text.cleaning`."""
    minimum_frequency: Count = 1
    """Words seen less often in training become ``<unk>``."""
    maximum_length: Annotated[int, Meta(ge=3, lt=LARGEST)] = 60
    """Tokens of a caption with its start and end tokens."""
    prettify: bool = True
    """Capitals and closed-up full stops in what people read; scores always use the raw words."""
    view_prefix: bool = False
    """A caption starts with a sentence that names its views; scores leave that sentence out."""


class ModelConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Encoder, head and decoder."""

    encoder: str = "chexnet"
    """A name of :data:`xray_captioning.encoders.ENCODERS`, or of a hub."""
    network: dict[str, Any] = {}
    """Of a Vision Transformer whose folder says otherwise than its name, what its ``config.json`` has; else empty."""
    pool: Count = 1
    """Side of the average pooling over the encoder's feature map (1: none)."""
    head: Count = 512
    """Channels each region is projected to before the decoder."""
    normalisation: Literal["layer", "batch"] = "layer"
    """Normalisation of the projected regions."""
    positions: bool = True
    """Add a learned vector for each view, row and column. Without it a decoder cannot tell left
    from right, unless the encoder can."""
    decoder: str = "global_attention"
    """A name of :data:`xray_captioning.decoders.DECODERS`."""
    units: Count = 512
    """Width of the recurrent state."""
    embedding: Count = 300
    """Width of the word vectors."""
    attention: Count = 512
    """Width of the attention's hidden layer."""
    layers: Count = 3
    """Blocks of a Transformer or GPT-2."""
    heads: Count = 8
    """Attention heads of a Transformer or GPT-2."""
    dropout: Share = 0.2
    """On the regions, on what a decoder makes its logits of, and, where it has them, on word
    vectors and on what each block of a Transformer adds."""
    tied_embeddings: bool = False
    """The word vectors serve as the weights of the logits, too (Press and Wolf, arXiv:1608.05859)."""
    options: dict[str, Any] = {}
    """Fields that a decoder of one's own brings, as ``model.options.FIELD``."""
    language_model: str = ""
    """What a ``gpt2`` decoder starts from: a keras-hub preset such as ``gpt2_base_en``, or a
    folder of GPT-2 files. Empty: random weights, and words instead of byte pairs."""

    def __hash__(self) -> int:  # of what tells most models apart; options cannot be hashed
        return hash((self.encoder, self.head, self.decoder, self.units, self.layers))


class TrainingConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How a network is fitted."""

    epochs: Count = 30
    """Times that every training study is seen, at most."""
    batch_size: Count = 64
    """Studies, or an encoder's images, in a step."""
    accumulated_batches: Count = 1
    """Batches whose mean gradient moves the weights once. Each counts alike, though a caption's
    loss is a mean over words and some batches have more of them."""
    learning_rate: Rate = 1e-3
    """The highest, which is reached after an epoch of warm-up from a tenth of it."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """What follows: a cosine decay to zero, which starts over where a run is extended, or the
    highest rate to the end; an extended run is then as one that was planned so long."""
    weight_decay: NonNegative = 0.0
    """Decoupled weight decay (AdamW) of kernels; of no biases, normalisations and learned vectors. 0 is Adam."""
    clip_norm: NonNegative = 5.0
    """Bound of the global gradient norm."""
    patience: Count = 5
    """Epochs without a better one, by validation loss or ``monitor``, before training stops."""
    seed: CountOrZero = 0
    """Weights, order and dropout. The split does not depend on it."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What is computed in while the network is trained; its weights are float32 either way."""


class EncoderTrainingConfig(TrainingConfig, frozen=True):
    """How an encoder is fitted to findings."""

    classifier_first: bool = False
    """For a network that has learned already. The classifier starts as a logistic regression on
    its features, not at random, so that it does not unlearn them (Kumar et al., arXiv:2202.10054),
    and batch normalisation keeps its statistics."""
    trainable_from: str = ""
    """Name, or its beginning, of the first layer that is trained, such as ``conv5_``; those before it
    stay as they are, batch normalisation with its statistics. Without ``image.augment`` what they
    make of each image is computed once and kept in the cache. Empty: all layers are trained."""
    checkpointing: bool = False
    """Keep in memory only what leads from one part of the network to the next; the rest is computed
    again on the way back (Chen et al., arXiv:1604.06174). Slower; the same losses."""


class CaptionTrainingConfig(TrainingConfig, frozen=True):
    """How a decoder is fitted; what keeps it from collapsing is off unless asked for."""

    monitor: Literal["val_loss", Bleu, "val_ROUGE-L", "val_CIDEr", "val_clinical_f1"] = "val_loss"
    """What decides which epoch is best: the validation loss, the lower the better, or a score of
    greedy captions, the higher the better. After each epoch these are written for the validation
    studies, or for 500 of them, the same ones in each epoch."""
    finding_weight: NonNegative = 0.0
    """Weight of a finding classifier's loss on the projected regions, beside the caption's."""
    balanced: bool = False
    """Draw studies with rare findings more often, by the inverse square root of frequency."""
    label_smoothing: Share = 0.0
    """Share of the target spread over all words (Szegedy et al., arXiv:1512.00567)."""
    scheduled_sampling: Share = 0.0
    """Share of words replaced by the model's own in the last epoch, rising from 0 (Bengio et al., arXiv:1506.03099)."""
    encoder_learning_rate: NonNegative = 0.0
    """Of the encoder's last block, which is then trained, too; 0 leaves it frozen and its features in the cache."""
    cache_dtype: Literal["float32", "float16"] = "float32"
    """What features are kept in on disk."""


class DecodingConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How a caption is searched for."""

    beam_size: Count = 1
    """1 is greedy search."""
    length_penalty: NonNegative = 0.0
    """Exponent of the length normalisation of Wu et al., arXiv:1609.08144, eq. 14; 0 is none."""
    no_repeat_ngram: CountOrZero = 0
    """No n-gram of this length occurs twice in a caption; 0 allows all."""


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """One run: image, text, model, decoding, and the training of encoder and decoder.

    It is immutable. :func:`load_preset` returns a recipe, :meth:`replace` a changed copy and
    :meth:`from_dict` one from JSON values; these two check every field.
    """

    name: str = "custom"
    """The preset's."""
    fractions: tuple[NonNegative, NonNegative, NonNegative] = (0.8, 0.1, 0.1)
    """Shares of train, validation and test, for both networks, where the data publish no split of their own."""
    image: ImageConfig = ImageConfig()
    text: TextConfig = TextConfig()
    model: ModelConfig = ModelConfig()
    encoder_training: EncoderTrainingConfig = EncoderTrainingConfig()
    training: CaptionTrainingConfig = CaptionTrainingConfig()
    decoding: DecodingConfig = DecodingConfig()

    def to_dict(self) -> dict[str, Any]:
        """Return nested dictionaries of JSON types."""
        return msgspec.json.decode(msgspec.json.encode(self))

    def flat(self) -> dict[str, Any]:
        """Return JSON values by dotted name, such as ``training.epochs``."""
        flat: dict[str, Any] = {}
        for group, values in self.to_dict().items():
            nested = isinstance(values, dict)
            flat |= {f"{group}.{n}": v for n, v in values.items()} if nested else {group: values}
        return flat

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "configuration") -> Config:
        """Build from nested dictionaries; absent fields keep their defaults.

        Parameters
        ----------
        values : dict
            As :meth:`to_dict` returns them.
        where : str
            What the values were read from; it begins the message of an error.

        Raises
        ------
        ConfigError
            A field is unknown, of the wrong type or out of range.
        """
        try:
            config = msgspec.convert(values, cls)
        except (msgspec.ValidationError, UnicodeEncodeError) as error:
            raise ConfigError(f"{where}: {_explain(error, values)}") from error
        if abs(sum(config.fractions) - 1) > 1e-6:
            problem = f"fractions: {config.fractions} do not fit; they must sum to 1"
            raise ConfigError(f"{where}: {problem}")
        return config

    def replace(self, changes: dict[str, Any]) -> Config:
        """Return a copy with some fields changed.

        Parameters
        ----------
        changes : dict
            New values by dotted name, such as ``{"training.epochs": 3}``; see :func:`fields`.

        Raises
        ------
        ConfigError
            A field is unknown, of the wrong type or out of range.
        """
        values = self.to_dict()
        for dotted, value in changes.items():
            *groups, name = dotted.split(".")
            owner = values
            for group in groups:
                owner = owner.setdefault(group, {})
                if not isinstance(owner, dict):
                    raise ConfigError(f"{group} has no field {name!r}; fields are {', '.join(fields())}")
            owner[name] = value
        return Config.from_dict(values)


def fields() -> list[str]:
    """Return the dotted names of every field that can be set."""
    return list(Config().flat())


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


def read_preset(name: str) -> dict[str, Any]:
    """Return what the file of a recipe, see :func:`load_preset`, holds: fields that it sets, and ``about``."""
    shipped, yaml = name in presets(), name.endswith((".yaml", ".yml"))
    if not shipped and not yaml and not name.endswith(".json"):
        raise ConfigError(f"unknown preset {name!r}; presets are {', '.join(presets())}, and files .json and .yaml")
    file = resources.files("xray_captioning.presets") / f"{name}.json" if shipped else Path(name)
    if yaml:
        require("yaml", "presets in YAML", "yaml")
    try:
        values: Any = (msgspec.yaml.decode if yaml else json.loads)(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError, msgspec.DecodeError) as error:
        advice = "give a file that holds fields to set"
        raise ConfigError(f"preset {name}: cannot be read ({in_one_line(error)}); {advice}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"preset {name}: expected fields by group, such as training: {{epochs: 3}}")
    return values


def load_preset(name: str) -> Config:
    """Return a recipe, shipped or of one's own; :meth:`Config.replace` changes fields.

    Parameters
    ----------
    name : str
        One of :func:`presets`, such as ``"chexnet_attention"``, or the path of a file .json or .yaml
        with fields by group, as :meth:`Config.to_dict` returns them; absent ones keep their defaults.

    Raises
    ------
    ConfigError
        There is no recipe of that name, or it cannot be read or does not fit.

    Examples
    --------
    >>> load_preset("phantom_attention").replace({"training.epochs": 3}).training.epochs
    3
    """
    values = read_preset(name)
    values.pop("about", None)
    return Config.from_dict({"name": Path(name).stem, **values}, f"preset {name}")


def _explain(error: Exception, values: Any) -> str:
    """Return which field is wrong, its value, and what it may be."""
    # msgspec says "Expected `int` >= 16 - at `$.image.size`", the path only below the first level.
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
    named = {"image.resize": RESIZES, "image.normalisation": NORMALISATIONS}.get(path)
    if "enum" in problem or "regex" in problem:
        problem = f"choose one of {', '.join(named or get_args(kind))}"
    return f"{where}{values!r:.40} does not fit; {problem[0].lower()}{problem[1:]}"
