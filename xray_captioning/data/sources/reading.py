"""Read the reports and image names of five kinds of source into one table of studies.

Missing texts are None. A study whose image is missing is kept: `summarise` reports it and
`with_images` leaves it out.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from xray_captioning.data.sources import captions, kaggle, nih14, openi, r2gen
from xray_captioning.data.sources.lookup import ImageFinder
from xray_captioning.data.sources.nih14 import render_captions
from xray_captioning.data.studies import (
    COLUMNS,
    Study,
    format_summary,
    study_frame,
    summarise,
    with_images,
)
from xray_captioning.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "COLUMNS",
    "SOURCES",
    "format_summary",
    "read_studies",
    "render_captions",
    "summarise",
    "with_images",
]

READERS: dict[str, Callable[[Path, ImageFinder], list[Study]]] = {
    "kaggle": kaggle.read,
    "captions": captions.read,
    "r2gen": r2gen.read,
    "nih14": nih14.read,
    "openi": openi.read,
}
SOURCES = tuple(READERS)

# What a folder of each source holds; the first that fits, in this order, is taken.
PATTERNS = {
    "kaggle": kaggle.TABLES,
    "captions": ("captions.csv",),
    "r2gen": ("annotation.json",),
    "nih14": ("Data_Entry*.csv",),
    "openi": ("*.xml", "*/*.xml", "*.tgz", "*.tar.gz"),
}


def read_studies(
    path: str | os.PathLike[str],
    image_dir: str | os.PathLike[str] | None = None,
    source: str | None = None,
) -> pd.DataFrame:
    """Read a source of studies.

    Parameters
    ----------
    path : str or os.PathLike
        A folder, or the file itself:

        ``kaggle``
            a folder with both ``indiana_reports.csv`` and ``indiana_projections.csv``, whatever
            else it holds;
        ``captions``
            ``captions.csv`` (image or filename, caption or report, optionally an id column)
            beside ``images/``;
        ``r2gen``
            ``annotation.json`` beside ``images/``;
        ``nih14``
            ``Data_Entry*.csv``, with images anywhere below;
        ``openi``
            a folder of Open-i XML, also one level down, or a ``.tgz`` of it.
    image_dir : str or os.PathLike, optional
        Where the images are, if not beside the tables.
    source : {'kaggle', 'captions', 'r2gen', 'nih14', 'openi'}, optional
        The kind of source; by default it is recognised.

    Returns
    -------
    pandas.DataFrame
        One row a study, with the columns

        ===================================== ===================================================
        study_id                              str: Kaggle uid, XML number, annotation id, or stem
        images, views                         lists of str: every image named, present or not,
                                              frontal ones first; 'frontal', 'lateral', 'unknown'
        indication, comparison, findings,     str or None
        impression
        problems                              list of str, empty for a normal study
        mesh                                  str or None: the source's coding as it stands
        patient_id                            str: the study_id where no patient is named
        split                                 'train', 'val', 'test' or None
        rendered                              bool: text made from labels
        ===================================== ===================================================

    Raises
    ------
    DataError
        If the path is absent, of no known kind, or its content cannot be used.
    ConfigError
        If `source` is none of those above.

    Examples
    --------
    >>> studies = read_studies("chest-xrays-indiana-university")  # doctest: +SKIP
    >>> print(format_summary(summarise(studies)))  # doctest: +SKIP
    """
    origin, images = Path(path), Path(image_dir) if image_dir is not None else None
    if source is not None and source not in READERS:
        raise ConfigError(f"source {source!r} is unknown; choose one of {', '.join(SOURCES)}")
    if not origin.exists():
        raise DataError(f"{origin}: does not exist; check the path")
    if images is not None and not images.is_dir():
        raise DataError(f"{images}: is not a folder of images; check image_dir")
    kind = source or _detect(origin)
    folder = origin if origin.is_dir() else origin.parent
    return study_frame(READERS[kind](_file(origin, kind), ImageFinder(folder, images)), origin)


def _detect(path: Path) -> str:
    """Return the kind of source a path is."""
    if path.is_file():
        return _detect_file(path)
    for kind, patterns in PATTERNS.items():
        found = [any(path.glob(pattern)) for pattern in patterns]
        if all(found) if kind == "kaggle" else any(found):
            return kind
    others = ", ".join(p for kind in SOURCES[1:] for p in PATTERNS[kind])
    raise DataError(
        f"{path}: no known source there; looked for {' with '.join(kaggle.TABLES)}, {others}"
    )


def _detect_file(path: Path) -> str:
    """Return the kind of source a file belongs to, by its name."""
    name = path.name.lower()
    if name in kaggle.TABLES:
        return "kaggle"
    if name.startswith("data_entry") and name.endswith(".csv"):
        return "nih14"
    suffixes = {
        ".csv": "captions",
        ".json": "r2gen",
        ".xml": "openi",
        **dict.fromkeys(openi.ARCHIVE_SUFFIXES, "openi"),
    }
    kind = next((kind for suffix, kind in suffixes.items() if name.endswith(suffix)), None)
    if kind is None:
        raise DataError(
            f"{path}: is no known source; give a folder or a file that ends in "
            f"{', '.join(suffixes)}"
        )
    return kind


def _file(path: Path, kind: str) -> Path:
    """Return what the reader of a kind opens: the table of a folder, or the folder."""
    if kind == "kaggle":
        return path if path.is_dir() else path.parent
    if kind == "openi" or path.is_file():
        return path
    found = sorted(path.glob(PATTERNS[kind][0]))
    if len(found) != 1:
        raise DataError(
            f"{path}: holds {len(found)} files {PATTERNS[kind][0]} where source {kind} needs one; "
            "name the file itself"
        )
    return found[0]
