"""Read the reports and image names of any known source into one table of studies.

Missing texts are None. A study whose image is missing is kept: `summarise` reports it and
`with_images` leaves it out.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from xray_captioning.data.sources import (
    archive,
    captions,
    chexpert,
    coco,
    dicom,
    kaggle,
    mimic,
    nih14,
    openi,
    padchest,
    r2gen,
    roco,
    texts,
    vindr,
)
from xray_captioning.data.sources.archive import is_zip
from xray_captioning.data.sources.detection import Found, below, detect, holds
from xray_captioning.data.sources.layout import Columns
from xray_captioning.data.sources.lookup import ImageFinder
from xray_captioning.data.sources.source import Source
from xray_captioning.data.studies import Study, study_frame
from xray_captioning.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd

# A folder is read as the first of these that it holds: what is more special comes first.
_SPECIAL = (kaggle.SOURCE, mimic.SOURCE, chexpert.PLUS, chexpert.SOURCE, padchest.SOURCE)
_LABELLED = (vindr.SOURCE, nih14.SOURCE)
_TEXTS = (roco.SOURCE, coco.SOURCE, r2gen.SOURCE, captions.SOURCE, openi.SOURCE, texts.SOURCE)
READERS = {source.name: source for source in (*_SPECIAL, *_LABELLED, *_TEXTS, dicom.SOURCE)}
SOURCES = tuple(READERS)


def read_studies(
    path: str | os.PathLike[str],
    image_dir: str | os.PathLike[str] | None = None,
    source: str | None = None,
    columns: Columns | None = None,
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
            a table in any usual format (`xray_captioning.data.table`) with a column of images, one
            of captions or reports or one a section, and optionally study, patient, split and view,
            under any usual names: ``captions.csv``, ``metadata.jsonl``, the only table of a folder,
            or ``train.csv`` beside ``val.csv`` and ``test.csv``;
        ``r2gen``
            ``annotation.json``, or another JSON file with R2Gen's entries, beside ``images/``;
        ``nih14``
            ``Data_Entry*.csv`` or ``sample_labels.csv``, with images anywhere below;
        ``openi``
            a folder of Open-i XML, also one level down, or a ``.tgz`` of it;
        ``mimic_cxr``, ``chexpert``, ``chexpert_plus``, ``padchest``, ``vindr``, ``roco``, ``coco``
            the collections of these names, as published;
        ``texts``
            reports as text files beside images;
        ``dicom``
            DICOM files at any depth.

        Also a folder above one of these, or a zip archive of it.
    image_dir : str or os.PathLike, optional
        Where the images are, if not beside the tables.
    source : str, optional
        The kind of source; by default it is recognised.
    columns : mapping of str to str or None, optional
        What the columns of a captions table are called where they are not recognised, by role:
        ``{"image": "file", "caption": "note", "patient": "pid", "split": "fold"}``. Roles
        are image, study, patient, split, view, labels, and for texts caption (or a whole report),
        findings, impression, indication and comparison. None: no column plays that role.

    Returns
    -------
    pandas.DataFrame
        One row for each study, with the columns

        ===================================== ===================================================
        study_id                              str: Kaggle uid, XML number, annotation id, or stem
        images, views                         lists of str: every image named, present or not,
                                              frontal ones first; 'frontal', 'lateral', 'unknown'
        indication, comparison, findings,     str or None
        impression
        problems                              list of str, empty for a normal study
        mesh                                  str or None: the source's coding, unchanged
        patient_id                            str: the study_id where no patient is named
        split                                 'train', 'val', 'test' or None
        rendered                              bool: text made from labels
        uncertain                             list of str: problems that the source says may be
                                              there
        ===================================== ===================================================

    Raises
    ------
    DataError
        If the path is absent, of no known kind, or its content cannot be used.
    ConfigError
        If `source` is none of those above, or `columns` names no role or does not go with it.
    """
    origin, images = Path(path), Path(image_dir) if image_dir is not None else None
    if source is not None and source not in READERS:
        raise ConfigError(f"source {source!r} is unknown; choose one of {', '.join(SOURCES)}")
    if columns and source not in (None, "captions"):
        raise ConfigError(f"columns are those of a captions table; source {source} has its own")
    if not origin.exists():
        raise DataError(f"{origin}: does not exist; check the path")
    if images is not None and not images.is_dir():
        raise DataError(f"{images}: is not a folder of images; check image_dir")
    root, found = _found(origin, READERS.get(source or ("captions" if columns else "")))
    finder = ImageFinder(root if root.is_dir() else root.parent, images)
    frame = study_frame(_read(found, finder, columns), origin)
    others = list(found.others)
    frame.attrs.update(source=found.source.name, other_sources=others, path=str(found.path))
    return frame


def _found(path: Path, source: Source | None) -> tuple[Path, Found]:
    """Return where the data are, unpacked where they are an archive, and what they are."""
    if is_zip(path):
        if archive.is_table(path):
            return path, Found(source or captions.SOURCE, path)
        path = archive.unpacked(path)
    if source is None:
        return path, detect(path, tuple(READERS.values()))
    inner = below(path, [source]) if path.is_dir() and not holds(source, path) else None
    return path, inner or Found(source, path)


def _read(found: Found, finder: ImageFinder, columns: Columns | None) -> list[Study]:
    if columns:
        return captions.read(found.path, finder, columns)
    return found.source.read(found.source.to_open(found.path), finder)
