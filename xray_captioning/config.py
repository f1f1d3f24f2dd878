"""Everything a run decides, as frozen structures that are read from JSON and written to it.

A configuration travels with the model it made, so that images and texts are prepared in the same
way wherever the model is used. ``config.toml`` says what each field means (`xray-captioning fields`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
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
    resize: Annotated[str, Meta(pattern=RESIZE)] = "area"
    normalisation: Annotated[str, Meta(pattern=NORMALISATION)] = "imagenet"
    views: Count = 2
    repeat_single_view: bool = False
    augment: bool = True


class TextConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Which section is written, and how its words are cleaned and counted."""

    section: Literal["impression", "findings", "report"] = "impression"
    cleaning: Literal["plain", "r2gen", "legacy"] = "plain"
    minimum_frequency: Count = 1
    maximum_length: Annotated[int, Meta(ge=3, lt=LARGEST)] = 60
    prettify: bool = True
    view_prefix: bool = False
    context: tuple[Literal["indication", "prior"], ...] = ()
    context_dropout: Share = 0.5


class ModelConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Encoder, head and decoder."""

    encoder: str = "chexnet"
    network: dict[str, Any] = {}
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
    options: dict[str, Any] = {}
    language_model: str = ""

    def __hash__(self) -> int:  # of what tells most models apart; options cannot be hashed
        return hash((self.encoder, self.head, self.decoder, self.units, self.layers))


class TrainingConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How a network is fitted."""

    epochs: Count = 30
    batch_size: Count = 64
    accumulated_batches: Count = 1
    learning_rate: Annotated[float, Meta(ge=1e-9, lt=LARGEST)] = 1e-3
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: NonNegative = 0.0
    clip_norm: NonNegative = 5.0
    patience: Count = 5
    seed: CountOrZero = 0
    precision: Literal["float32", "bfloat16"] = "float32"


class EncoderTrainingConfig(TrainingConfig, frozen=True):
    """How an encoder is fitted to findings."""

    classifier_first: bool = False
    trainable_from: str = ""
    checkpointing: bool = False
    side_weight: NonNegative = 0.0
    region_weight: NonNegative = 0.0


class RewardConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Weights of what the captions that a model samples are rewarded for; with all at 0 nothing is."""

    clinical_f1: NonNegative = 0.0
    sides: NonNegative = 0.0
    contradictions: NonNegative = 0.0
    CIDEr: NonNegative = 0.0


class CaptionTrainingConfig(TrainingConfig, frozen=True):
    """How a decoder is fitted; what keeps it from collapsing is off unless asked for."""

    monitor: Literal["val_loss", Bleu, "val_ROUGE-L", "val_CIDEr", "val_clinical_f1"] = "val_loss"
    reward: RewardConfig = RewardConfig()
    reward_epochs: Count = 6
    finding_weight: NonNegative = 0.0
    balanced: bool = False
    label_smoothing: Share = 0.0
    scheduled_sampling: Share = 0.0
    encoder_learning_rate: NonNegative = 0.0
    cache_dtype: Literal["float32", "float16"] = "float32"

    @property
    def plain_epochs(self) -> int:
        """How many epochs come before those with a reward; all where there is none."""
        return self.epochs if self.reward == RewardConfig() else max(self.epochs - self.reward_epochs, 0)

    @property
    def watched(self) -> str:
        """What decides which epoch is best."""
        return "val_reward" if self.plain_epochs < self.epochs and self.monitor == "val_loss" else self.monitor


class DecodingConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How a caption is searched for."""

    beam_size: Count = 1
    length_penalty: NonNegative = 0.0
    no_repeat_ngram: CountOrZero = 0


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """One run: image, text, model, decoding, and the training of encoder and decoder; it is immutable.
    :func:`load_preset` returns a recipe, :meth:`replace` a changed copy; a ConfigError names a field that does not fit.
    """

    name: str = "custom"
    fractions: tuple[NonNegative, NonNegative, NonNegative] = (0.8, 0.1, 0.1)
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
            flat |= {f"{group}.{n}": v for n, v in values.items()} if isinstance(values, dict) else {group: values}
        return flat

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "configuration") -> Config:
        """Build from nested dictionaries as :meth:`to_dict` returns them; absent fields keep their defaults. A
        ConfigError, whose message begins with `where` they were read from, names what does not fit.
        """
        try:
            config = msgspec.convert(values, cls)
        except (msgspec.ValidationError, UnicodeEncodeError) as error:
            raise ConfigError(f"{where}: {_explain(error, values)}") from error
        if abs(sum(config.fractions) - 1) > 1e-6:
            raise ConfigError(f"{where}: fractions: {config.fractions} do not fit; they must sum to 1")
        return config

    def replace(self, changes: Mapping[str, Any]) -> Config:
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
        if not isinstance(changes, Mapping):
            raise ConfigError(f"expected fields by name, got {changes!r:.60}; write {{'training.epochs': 3}}")
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


def load_preset(name: str | os.PathLike[str]) -> Config:
    """Return a recipe, shipped or of one's own; :meth:`Config.replace` changes fields.

    Parameters
    ----------
    name : str or os.PathLike
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
    if not isinstance(name, (str, os.PathLike)):
        raise ConfigError(f"expected a preset's name or file, got {type(name).__name__}; see presets()")
    values = read_preset(os.fspath(name))
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
        kind = get_args(kind)[0] if "[" in path else kind  # one of a list
        problem = f"choose one of {', '.join(named or get_args(kind))}"
    return f"{where}{values!r:.40} does not fit; {problem[0].lower()}{problem[1:]}"
