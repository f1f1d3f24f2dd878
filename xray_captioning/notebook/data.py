"""The studies of a notebook: found, or drawn."""

from __future__ import annotations

import contextlib
import html
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xray_captioning.data.provenance import describe_data, is_phantom
from xray_captioning.data.sources.openi import TABLES
from xray_captioning.data.studies import with_images
from xray_captioning.errors import DataError, require
from xray_captioning.phantom.dataset import write_phantoms

if TYPE_CHECKING:
    import pandas as pd

KAGGLE_DATASET = "raddar/chest-xrays-indiana-university"
KAGGLE_INPUT = Path("/kaggle/input")
DRIVE = Path("/content/drive")  # where Colab mounts it
DEPTH = 4  # levels of folders below those two that are searched
FEW = 100  # with fewer studies one can see that everything runs, and no more
SEED = 11  # of the phantoms


@dataclass(frozen=True)
class Note:
    """A remark that stands out in a notebook and is plain text elsewhere."""

    title: str
    text: str

    def __repr__(self) -> str:
        return f"{self.title}: {self.text}"

    def _repr_html_(self) -> str:
        title, text = html.escape(self.title), html.escape(self.text)
        style = "border-left: 5px solid #D55E00; padding: 0.5em 1em; margin: 0.5em 0"
        return f'<blockquote style="{style}"><b>{title}</b><br>{text}</blockquote>'


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
        about = describe_data(self.path)
        return {**about, "source": "phantom"} if self.phantoms else about


def setup() -> None:
    """Prepare a notebook: notes instead of warnings, sharp figures, whole texts in tables."""
    import pandas as pd

    # Without the file and line, which name a folder of this machine.
    warnings.showwarning = lambda message, *_, **__: note("Please note", str(message))
    pd.set_option("display.max_colwidth", 300)
    try:
        from IPython import get_ipython
        from IPython.core.pylabtools import select_figure_formats
    except ImportError:
        return
    if (shell := get_ipython()) is not None:
        formats: Any = select_figure_formats
        formats(shell, {"png"}, dpi=120, bbox_inches="tight")


def note(title: str, text: str) -> None:
    """Show a note."""
    display: Any = print
    with contextlib.suppress(ImportError):
        from IPython.display import display
    display(Note(title, text))


def find_data(
    path: str | Path | None = None, work: str | Path = "runs", studies: int = 2000, download: bool = False
) -> Data:
    """Find studies to work with, and say in a note which they are.

    The first of these is taken: the given path; the Kaggle tables in Kaggle's input folder; the
    same tables in a Google Drive mounted on Colab; the data set that kagglehub downloads (14 GB),
    if it may; and otherwise phantoms, of which so many are drawn once below the working folder.
    """
    data = _find(path, Path(work), studies, download)
    if data.phantoms:
        said = f"No chest X-rays were found, so {studies:,} studies were drawn by a program. What "
        said += "is learned from them says nothing about real radiographs. Set DATA to the folder "
        said += "of your own, or add the Kaggle data set to this notebook."
        note("Synthetic phantoms, not patients", said)
    else:
        places = {"given": "", "kaggle": " in Kaggle's input folder", "drive": " on Google Drive"}
        note("Data", f"{data.path.name}{places.get(data.origin, f' from {data.origin}')}.")
    return data


def usable(studies: pd.DataFrame) -> pd.DataFrame:
    """Return the studies that have an image on disk; a note tells how many have none."""
    found = with_images(studies)
    if found.empty:
        raise DataError(f"none of {len(studies)} studies has an image on disk; check the folder")
    if len(found) < len(studies):
        few = " Training on so few only shows that everything runs." if len(found) < FEW else ""
        said = f"{len(found):,} of {len(studies):,} studies have an image on disk.{few}"
        note("Images missing", said)
    return found


def _find(path: str | Path | None, work: Path, studies: int, download: bool) -> Data:
    if path is not None:
        if not Path(path).exists():
            raise DataError(f"{path}: does not exist; check DATA, or set it to None")
        return Data(Path(path), "given")
    for origin, root in (("kaggle", KAGGLE_INPUT), ("drive", DRIVE)):
        if (found := _kaggle_folder(root)) is not None:
            return Data(found, origin)
    if download:
        kagglehub = require("kagglehub", "downloading the data set", "notebooks")
        place = Path(kagglehub.dataset_download(KAGGLE_DATASET))
        if (found := _kaggle_folder(place)) is None:
            raise DataError(f"{place}: holds no Kaggle tables; remove it and download again")
        return Data(found, "kagglehub")
    folder = work / f"phantoms-{studies}"
    if not folder.is_dir():
        work.mkdir(parents=True, exist_ok=True)
        write_phantoms(folder, studies, SEED)
    return Data(folder, "phantoms")


def _kaggle_folder(root: Path) -> Path | None:
    """Return the folder at or below a root that holds the Kaggle tables, the nearest of several."""
    levels = (sorted(root.glob("*/" * depth + TABLES[0])) for depth in range(DEPTH + 1))
    folders = (table.parent for level in levels for table in level)
    return next((f for f in folders if all((f / name).is_file() for name in TABLES)), None)
