"""What the notebooks share: data, a preset at a size that fits the machine, training that goes on in their folder."""

# ruff: noqa: E402
from __future__ import annotations

import hashlib
import html
import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xray_captioning.files import load_as_program, read_toml

load_as_program()  # a notebook is a program; TensorFlow's notices would stand in its first output

from xray_captioning.config import Config, load_preset
from xray_captioning.data.provenance import describe_data, is_phantom
from xray_captioning.data.sources.openi import TABLES
from xray_captioning.data.studies import Studies, select_images, with_images
from xray_captioning.data.targets import reference_texts
from xray_captioning.data.targets import study_images as images_of  # noqa: F401
from xray_captioning.errors import ConfigError, DataError, require
from xray_captioning.evaluation.cases import example, wordiest  # noqa: F401
from xray_captioning.evaluation.table import SHOWN
from xray_captioning.phantom.dataset import write_phantoms
from xray_captioning.plots.panels import Example

if TYPE_CHECKING:
    from xray_captioning.captioner.caption import Caption
    from xray_captioning.captioner.captioner import Captioner
    from xray_captioning.data.splits import Split
    from xray_captioning.encoders import Encoder

Place = str | Path
KAGGLE_DATASET = "raddar/chest-xrays-indiana-university"
KAGGLE_INPUT = Path("/kaggle/input")
DRIVE = Path("/content/drive")  # where Colab mounts it
DEPTH = 4  # levels of folders below those two that are searched
FEW = 100  # with fewer studies one can see that everything runs, and no more
SEED = 11  # of the phantoms
VIEWS, SIDE = 2, 224  # of a study, and pixels of an image, in figures
SIZES = ("auto", "full", "small", "quick")


@dataclass(frozen=True)
class Data:
    """Where the studies of a notebook are, and how they were found."""

    path: Path  # what read_studies is given
    origin: str  # "given", "kaggle", "drive", "kagglehub" or "phantoms"

    @property
    def phantoms(self) -> bool:
        """Whether the images are drawn."""
        return is_phantom(self.path)

    @property
    def about(self) -> dict[str, Any]:
        """What a bundle's model card says of where its studies came from."""
        return describe_data(self.path) | ({"source": "phantom"} if self.phantoms else {})


def setup() -> None:
    """Prepare a notebook: notes instead of warnings, sharp figures, whole texts in tables."""
    import pandas as pd

    # Without the file and line, which name a folder of this machine.
    warnings.showwarning = lambda message, *_, **__: note("Please note", str(message))
    pd.set_option("display.max_colwidth", 300)
    if shell := _shell():
        from IPython.core import pylabtools

        formats: Any = pylabtools.select_figure_formats
        formats(shell, {"png"}, dpi=120, bbox_inches="tight")


def _shell() -> Any:
    """Return what runs a notebook, None elsewhere; IPython is loaded already in a notebook."""
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None


def note(title: str, text: str) -> None:
    """Show a remark that stands out in a notebook, and is a line of plain text elsewhere."""
    style = "border-left: 5px solid #D55E00; padding: 0.5em 1em; margin: 0.5em 0"
    body = f"<b>{html.escape(title)}</b><br>{html.escape(text)}"
    if shell := _shell():
        data = {"text/plain": f"{title}: {text}", "text/html": f'<blockquote style="{style}">{body}</blockquote>'}
        shell.display_pub.publish(data)
    else:
        print(f"{title}: {text}")


def find_data(path: Place | None = None, work: Place = "runs", studies: int = 2000, download: bool = False) -> Data:
    """Find studies to work with, and say in a note which: those of the given path, of the Kaggle tables in Kaggle's
    input folder or in a mounted Google Drive, of the data set that kagglehub downloads (14 GB), if it may, or phantoms.
    """
    data = _find(path, Path(work), studies, download)
    if data.phantoms:
        note(
            "Synthetic phantoms, not patients",
            f"No chest X-rays were found, so {studies:,} studies were drawn by a program. What is learned from them "
            "says nothing about real radiographs. Set DATA to the folder of your own, or add the Kaggle data set to "
            "this notebook.",
        )
    else:
        places = {"given": "", "kaggle": " in Kaggle's input folder", "drive": " on Google Drive"}
        note("Data", f"{data.path.name}{places.get(data.origin, f' from {data.origin}')}.")
    return data


def usable(studies: Studies) -> Studies:
    """Return the studies that have an image on disk; a note tells how many have none."""
    if (found := with_images(studies)).empty:
        raise DataError(f"none of {len(studies)} studies has an image on disk; check the folder")
    if len(found) < len(studies):
        few = " Training on so few only shows that everything runs." if len(found) < FEW else ""
        note("Images missing", f"{len(found):,} of {len(studies):,} studies have an image on disk.{few}")
    return found


def _find(path: Place | None, work: Path, studies: int, download: bool) -> Data:
    if path is not None:
        if not Path(path).exists():
            raise DataError(f"{path}: does not exist; check DATA, or set it to None")
        return Data(Path(path), "given")
    for origin, root in (("kaggle", KAGGLE_INPUT), ("drive", DRIVE)):
        if (found := _kaggle_folder(root)) is not None:
            return Data(found, origin)
    if download:
        place = Path(require("kagglehub", "downloading the data set", "notebooks").dataset_download(KAGGLE_DATASET))
        if (found := _kaggle_folder(place)) is None:
            raise DataError(f"{place}: holds no Kaggle tables; remove it and download again")
        return Data(found, "kagglehub")
    if not (folder := work / f"phantoms-{studies}").is_dir():
        work.mkdir(parents=True, exist_ok=True)
        write_phantoms(folder, studies, SEED)
    return Data(folder, "phantoms")


def _kaggle_folder(root: Path) -> Path | None:
    """Return the folder at or below a root that holds the Kaggle tables, the nearest of several."""
    folders = (table.parent for depth in range(DEPTH + 1) for table in sorted(root.glob("*/" * depth + TABLES[0])))
    return next((f for f in folders if all((f / name).is_file() for name in TABLES)), None)


def recipe(preset: str, data: Data, studies: Studies, size: str = "auto", section: str | None = None) -> Config:
    """Return a preset at a size that fits data and machine: ``full`` is the preset itself, ``small`` a narrow one
    on 112 px, ``quick`` learns nothing, ``auto`` is full for real data with a GPU and small otherwise.
    """
    if size not in SIZES:
        raise ConfigError(f"size is {size!r}; choose one of {', '.join(SIZES)}")
    if size == "auto":
        from xray_captioning.backend import keras

        size = "full" if keras.distribution.list_devices("gpu") and not data.phantoms else "small"
    config = load_preset(preset)
    section = section or config.text.section
    changes: dict[str, Any] = {"text.section": section}
    if data.phantoms:
        changes |= {"fractions": (0.8, 0.08, 0.12), "image.augment": False}
    if len(studies) < FEW:
        changes["fractions"] = (0.5, 0.25, 0.25)
    return config.replace(changes if size == "full" else changes | _small(config, section, size == "quick"))


def encoder_recipe(config: Config) -> Config:
    """Return the part of a recipe that the encoder depends on, so that recipes can share it."""
    values = config.to_dict()
    shared = {name: values[name] for name in ("fractions", "image", "encoder_training")}
    encoder = config.model.encoder
    own = {"name": f"encoder_{encoder}", "model": {"encoder": encoder}}
    return Config.from_dict(shared | own).replace({"image.views": 2})


def run_folder(config: Config, split: Split, work: Place) -> Path:
    """Return the folder of a run; its name changes with the options and with the data."""
    digest = hashlib.sha256((json.dumps(config.to_dict()) + split.digest).encode()).hexdigest()
    return Path(work) / f"{config.name}-{digest[:8]}"


def fit_encoder(
    config: Config, studies: Studies, split: Split, data: Data, work: Place = "runs"
) -> tuple[Encoder, list[dict[str, Any]]]:
    """Return an encoder of findings, trained unless it is there, and its rows of AUROC and F1."""
    from xray_captioning.encoders.saved import starting_encoder
    from xray_captioning.training.encoder import train_encoder

    own = encoder_recipe(config)
    run, cache = run_folder(own, split, work), Path(work) / "cache"
    if not (run / "metrics.json").is_file():
        train_encoder(studies, own, run, split=split, cache=cache, resume=True, about=data.about)
    return starting_encoder(config, run), results(run)["rows"]


def fit_captioner(config: Config, studies: Studies, split: Split, data: Data, work: Place = "runs") -> Captioner:
    """Train a decoder on the features of :func:`fit_encoder`, unless it is there already."""
    from xray_captioning.captioner.captioner import Captioner
    from xray_captioning.training.captions import train

    run = run_folder(config, split, work)
    if (run / "manifest.json").is_file():
        return Captioner.load(run)
    encoder, _ = fit_encoder(config, studies, split, data, work)
    kept: Any = {"cache": Path(work) / "cache", "resume": True, "about": data.about}
    return train(studies, config, run, encoder, split=split, measured=False, **kept)


def history(run: Path) -> list[Any]:
    """Return the log of a run, one row per epoch."""
    from pandas import read_csv

    return list(read_csv(run / "log.csv").to_dict("records"))


def results(folder: Place) -> dict[str, Any]:
    """Return the ``metrics.json`` of a run or a comparison."""
    return dict(json.loads((Path(folder) / "metrics.json").read_text("utf-8")))


def captions(folder: Place) -> dict[str, list[str]]:
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


def part(studies: Studies, split: Split, config: Config, name: str = "test") -> Studies:
    """Return the studies of one part that have a text, with the column ``reference``."""
    found = studies[studies["study_id"].isin(split.parts[name])]
    found = found.assign(reference=reference_texts(found, config))
    return found[found["reference"] != ""].reset_index(drop=True)


def examples(
    studies: Studies, rows: Sequence[int], captions: Mapping[str, list[Caption]] = {}, writer: Any = None
) -> list[Example]:
    """Lay some rows of studies with references out for a figure, with what systems wrote."""
    # Captions are of all the studies; of the first system, whose captioner `writer` is, the attention is drawn.
    count, offset = (writer.config.image.views, writer.offset) if writer else (VIEWS, (0, 0))
    found = []
    for row in rows:
        study, written = studies.iloc[row], {name: texts[row] for name, texts in captions.items()}
        texts = {name: " ".join(caption.words) for name, caption in written.items()}
        chosen = select_images(study["images"], study["views"], count)
        found.append(example(study, chosen, texts, next(iter(written.values()), None), SIDE, offset=offset))
    return found
