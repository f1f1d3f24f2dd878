"""Recipes that fit the machine, runs that are done once and then reused, and what they show."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xray_captioning.config import Config, load_preset
from xray_captioning.data.studies import select_images
from xray_captioning.data.targets import reference_texts
from xray_captioning.errors import ConfigError
from xray_captioning.evaluation.cases import example
from xray_captioning.evaluation.table import SHOWN
from xray_captioning.files import read_toml
from xray_captioning.notebook.data import FEW, Data
from xray_captioning.plots.panels import Example

if TYPE_CHECKING:
    import pandas as pd

    from xray_captioning.captioner.caption import Caption
    from xray_captioning.captioner.captioner import Captioner
    from xray_captioning.data.splits import Split
    from xray_captioning.encoders import Encoder

VIEWS, SIDE = 2, 224  # of a study, and pixels of an image, in figures
SIZES = ("auto", "full", "small", "quick")


def recipe(preset: str, data: Data, studies: pd.DataFrame, size: str = "auto", section: str | None = None) -> Config:
    """Return a preset at a size that fits data and machine.

    ``full`` is the preset itself; ``small`` has narrow decoders and small encoders on 112 px;
    ``quick`` learns nothing; ``auto`` is full for real data with a GPU and small otherwise.
    `section` (impression, findings or report) replaces the preset's own.
    """
    if size not in SIZES:
        raise ConfigError(f"size is {size!r}; choose one of {', '.join(SIZES)}")
    if size == "auto":
        from xray_captioning.backend import keras

        has_gpu = bool(keras.distribution.list_devices("gpu"))
        size = "full" if has_gpu and not data.phantoms else "small"
    config = load_preset(preset)
    changes: dict[str, Any] = {"text.section": section or config.text.section}
    if data.phantoms:
        changes |= {"fractions": (0.8, 0.08, 0.12), "image.augment": False}
    if len(studies) < FEW:
        changes["fractions"] = (0.5, 0.25, 0.25)
    if size != "full":
        changes |= _small(config, changes["text.section"], size == "quick")
    return config.replace(changes)


def encoder_recipe(config: Config) -> Config:
    """Return the part of a recipe that the encoder depends on, so that recipes can share it."""
    values = config.to_dict()
    shared = {name: values[name] for name in ("fractions", "image", "encoder_training")}
    encoder = config.model.encoder
    own = {"name": f"encoder_{encoder}", "model": {"encoder": encoder}}
    return Config.from_dict({**shared, **own}).replace({"image.views": 2})


def run_folder(config: Config, split: Split, work: str | Path) -> Path:
    """Return the folder of a run; its name changes with the options and with the data."""
    digest = hashlib.sha256((json.dumps(config.to_dict()) + split.digest).encode()).hexdigest()
    return Path(work) / f"{config.name}-{digest[:8]}"


def fit_encoder(
    config: Config, studies: pd.DataFrame, split: Split, data: Data, work: str | Path = "runs"
) -> tuple[Encoder, list[dict[str, Any]]]:
    """Return an encoder of findings, trained unless it is there, and its rows of AUROC and F1."""
    from xray_captioning.encoders.saved import starting_encoder
    from xray_captioning.training.encoder import train_encoder

    own = encoder_recipe(config)
    run, cache = run_folder(own, split, work), Path(work) / "cache"
    if not (run / "metrics.json").is_file():
        train_encoder(studies, own, run, split=split, cache=cache, resume=True, about=data.about)
    return starting_encoder(config, run), results(run)["rows"]


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
    kept: Any = {"cache": Path(work) / "cache", "resume": True, "about": data.about}
    return train(studies, config, run, encoder, split=split, measured=False, **kept)


def history(run: Path) -> list[dict[str, float]]:
    """Return the log of a run, one row per epoch."""
    import pandas as pd

    rows: list[Any] = pd.read_csv(run / "log.csv").to_dict("records")
    return rows


def results(folder: str | Path) -> dict[str, Any]:
    """Return the ``metrics.json`` of a run or a comparison."""
    return dict(json.loads((Path(folder) / "metrics.json").read_text("utf-8")))


def captions(folder: str | Path) -> dict[str, list[str]]:
    """Return the ``captions.csv`` of a comparison, a list of texts by column."""
    import pandas as pd

    table: Any = pd.read_csv(Path(folder) / "captions.csv", dtype=str, keep_default_na=False)
    return dict(table.to_dict("list"))


def _small(config: Config, section: str, quick: bool) -> dict[str, Any]:
    changes = read_toml(__file__, "recipes.toml")
    encoder = changes["stand_in"].get(config.model.encoder, config.model.encoder)
    length = 48 if section == "impression" else 80
    small = {**changes["small"], "text.maximum_length": length, "model.encoder": encoder}
    small |= changes["decoder"].get(config.model.decoder, {}) | changes["encoder"][encoder]
    return {**small, **(changes["quick"] if quick else {})}


def table(rows: Sequence[Mapping[str, Any]], names: Sequence[str] | None = None) -> str:
    """Return rows as HTML, None left empty; without names, of a comparison's columns."""
    from tabulate import tabulate

    present = [name for name in names or SHOWN if any(name in row for row in rows)]
    cells = [[row.get(name) for name in present] for row in rows]
    texts = [i for i, column in enumerate(zip(*cells)) if any(isinstance(x, str) for x in column)]
    return tabulate(cells, present, "html", floatfmt=".3f", missingval="", disable_numparse=texts)


def part(studies: pd.DataFrame, split: Split, config: Config, name: str = "test") -> pd.DataFrame:
    """Return the studies of one part that have a text, with the column ``reference``."""
    found = studies[studies["study_id"].isin(split.parts[name])]
    found = found.assign(reference=reference_texts(found, config))
    return found[found["reference"] != ""].reset_index(drop=True)


def examples(
    studies: pd.DataFrame,
    rows: Sequence[int],
    captions: Mapping[str, Sequence[Caption]] | None = None,
    config: Config | None = None,
) -> list[Example]:
    """Lay some rows of studies with references out for a figure, with what systems wrote."""
    # Captions are of all the studies; of the first system the attention is drawn.
    count = config.image.views if config else VIEWS
    found = []
    for row in rows:
        study = studies.iloc[row]
        written = {name: texts[row] for name, texts in (captions or {}).items()}
        texts = {name: " ".join(caption.words) for name, caption in written.items()}
        chosen = select_images(study["images"], study["views"], count)
        first = next(iter(written.values()), None)
        found.append(example(study, chosen, texts, first, SIDE))
    return found
