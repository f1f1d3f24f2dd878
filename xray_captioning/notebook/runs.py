"""Recipes at a size that fits the machine, and training runs that are done once and then reused."""

from __future__ import annotations

import hashlib
import json
import tomllib
from importlib import resources
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
        changes |= _small(config, changes["text.section"], size == "quick")
    return config.replace(changes)


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


def sizes() -> dict[str, Any]:
    """Return the tables of ``recipes.toml``: what makes a preset fit a small machine."""
    text = resources.files("xray_captioning.notebook").joinpath("recipes.toml").read_text("utf-8")
    return tomllib.loads(text)


def _small(config: Config, section: str, quick: bool) -> dict[str, Any]:
    changes = sizes()
    encoder = changes["stand_in"].get(config.model.encoder, config.model.encoder)
    return {
        **changes["small"],
        "text.maximum_length": 48 if section == "impression" else 80,
        "model.encoder": encoder,
        **changes["decoder"].get(config.model.decoder, {}),
        **changes["encoder"][encoder],
        **(changes["quick"] if quick else {}),
    }
