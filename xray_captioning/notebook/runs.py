"""Recipes at a size that fits the machine, and training runs that are done once and then reused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xray_captioning.config import Config, load_preset
from xray_captioning.errors import ConfigError
from xray_captioning.notebook.data import FEW, Data

if TYPE_CHECKING:
    import pandas as pd

    from xray_captioning.captioner.captioner import Captioner
    from xray_captioning.data.splits import Split
    from xray_captioning.encoders import Encoder

SIZES = ("auto", "full", "small", "quick")
STAND_INS = {
    "chexnet": "phantom_cnn",
    "densenet121": "phantom_cnn",
    "resnet50": "phantom_cnn",
    "vit": "vit_tiny",
}
# Changes to a preset that let two cores train it in a minute or two.
SMALL: dict[str, Any] = {
    "image.size": 112,
    "image.normalisation": "unit",
    "text.minimum_frequency": 1,
    "model.pool": 1,
    "model.head": 128,
    "model.units": 192,
    "model.embedding": 96,
    "model.attention": 64,
    "model.layers": 2,
    "model.heads": 4,
    "model.dropout": 0.1,
    "model.language_model": "",
    "training.epochs": 9,
    "training.patience": 9,
    "training.batch_size": 32,
    "training.encoder_learning_rate": 0.0,
    "encoder_training.epochs": 8,
    "encoder_training.patience": 8,
    "encoder_training.weight_decay": 0.01,
}
# Transformers need a lower learning rate than recurrent decoders.
RATES = {"transformer": 0.001, "gpt2": 0.001}
# These read a single vector: an epoch takes two seconds, and they need more epochs.
EPOCHS = {"simple": 24, "gru": 24, "lstm": 24}
ENCODERS: dict[str, dict[str, Any]] = {
    "phantom_cnn": {"batch_size": 12, "learning_rate": 0.003},
    "vit_tiny": {"batch_size": 16, "learning_rate": 0.001},
}
# Further changes, with which nothing is learned: they show that every cell runs.
QUICK: dict[str, Any] = {
    "image.size": 64,
    "model.head": 16,
    "model.units": 16,
    "model.embedding": 12,
    "model.attention": 8,
    "model.layers": 1,
    "model.heads": 2,
    "training.epochs": 2,
    "encoder_training.epochs": 2,
}


def recipe(
    preset: str, data: Data, studies: pd.DataFrame, size: str = "auto", section: str | None = None
) -> Config:
    """Return a preset at a size that fits data and machine.

    Parameters
    ----------
    studies : pandas.DataFrame
        With images.
    size : {"auto", "full", "small", "quick"}
        ``full`` is the preset itself; ``small`` has narrow decoders and small encoders on 112 px;
        ``quick`` learns nothing. ``auto`` is full for real data with a GPU and small otherwise.
    section : {"impression", "findings", "report"}, optional
        Instead of the preset's own.
    """
    if size not in SIZES:
        raise ConfigError(f"size is {size!r}; choose one of {', '.join(SIZES)}")
    if size == "auto":
        size = "full" if not data.phantoms and has_gpu() else "small"
    config = load_preset(preset)
    changes: dict[str, Any] = {"text.section": section or config.text.section}
    if data.phantoms:
        changes |= {"fractions": (0.8, 0.08, 0.12), "image.augment": False}
    if len(studies) < FEW:
        changes["fractions"] = (0.5, 0.25, 0.25)
    if size != "full":
        changes |= _small(config, changes["text.section"])
    return config.replace(changes | (QUICK if size == "quick" else {}))


def has_gpu() -> bool:
    """Whether Keras sees a GPU."""
    from xray_captioning.backend import keras

    return bool(keras.distribution.list_devices("gpu"))


def encoder_recipe(config: Config) -> Config:
    """Return the part of a recipe that the encoder depends on, so that recipes can share it."""
    values = config.to_dict()
    shared = {name: values[name] for name in ("fractions", "image", "encoder_training")}
    model = {"encoder": config.model.encoder}
    encoder = Config.from_dict({**shared, "name": f"encoder_{model['encoder']}", "model": model})
    return encoder.replace({"image.views": 2})


def run_folder(config: Config, split: Split, work: str | Path) -> Path:
    """Return the folder of a run; its name changes with the options and with the data."""
    digest = hashlib.sha256((json.dumps(config.to_dict()) + split.digest).encode()).hexdigest()
    return Path(work) / f"{config.name}-{digest[:8]}"


def fit_encoder(
    config: Config, studies: pd.DataFrame, split: Split, data: Data, work: str | Path = "runs"
) -> tuple[Encoder, list[dict[str, Any]]]:
    """Train an encoder to classify findings, unless the working folder holds it already.

    Returned are the encoder and its rows of AUROC and F1, as
    :func:`xray_captioning.train_encoder` returns them.
    """
    from xray_captioning.encoders.saved import starting_encoder
    from xray_captioning.training.encoder import train_encoder

    own = encoder_recipe(config)
    run, cache = run_folder(own, split, work), Path(work) / "cache"
    if not (run / "metrics.json").is_file():
        train_encoder(studies, own, run, split=split, cache=cache, resume=True, about=data.about)
    rows = json.loads((run / "metrics.json").read_text("utf-8"))["rows"]
    return starting_encoder(config, run), rows


def fit_captioner(
    config: Config, studies: pd.DataFrame, split: Split, data: Data, work: str | Path = "runs"
) -> Captioner:
    """Train a decoder on the features of :func:`fit_encoder`, unless it is there already."""
    from xray_captioning.captioner.captioner import Captioner
    from xray_captioning.training.captions import train

    run = run_folder(config, split, work)
    if (run / "manifest.json").is_file():
        return Captioner.load(run)
    encoder, _ = fit_encoder(config, studies, split, data, work)
    return train(
        studies,
        config,
        run,
        encoder,
        split=split,
        cache=Path(work) / "cache",
        resume=True,
        about=data.about,
        measured=False,
    )


def history(run: Path) -> list[dict[str, float]]:
    """Return the log of a run, a row an epoch."""
    import pandas as pd

    rows: list[Any] = pd.read_csv(run / "log.csv").to_dict("records")
    return rows


def results(folder: str | Path) -> dict[str, Any]:
    """Return the ``metrics.json`` of a comparison."""
    return dict(json.loads((Path(folder) / "metrics.json").read_text("utf-8")))


def captions(folder: str | Path) -> dict[str, list[str]]:
    """Return the ``captions.csv`` of a comparison, a list of texts by column."""
    import pandas as pd

    table: Any = pd.read_csv(Path(folder) / "captions.csv", dtype=str, keep_default_na=False)
    return dict(table.to_dict("list"))


def _small(config: Config, section: str) -> dict[str, Any]:
    decoder, encoder = config.model.decoder, config.model.encoder
    encoder = STAND_INS.get(encoder, encoder)
    return {
        **SMALL,
        "text.maximum_length": 48 if section == "impression" else 80,
        "model.encoder": encoder,
        "training.learning_rate": RATES.get(decoder, 0.004),
        "training.epochs": EPOCHS.get(decoder, SMALL["training.epochs"]),
        **{f"encoder_training.{name}": value for name, value in ENCODERS[encoder].items()},
    }
