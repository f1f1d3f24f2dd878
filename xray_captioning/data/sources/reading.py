"""Read the reports and image names of any known source into one table of studies.

Missing texts are None. A study whose image is missing is kept: `summarise` reports it and
`with_images` leaves it out.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from xray_captioning.data.sources import captions, kaggle, nih14, openi, r2gen
from xray_captioning.data.sources.layout import Columns
from xray_captioning.data.sources.lookup import ImageFinder
from xray_captioning.data.sources.source import Source
from xray_captioning.data.studies import study_frame
from xray_captioning.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd

# A folder is read as the first of these that it holds.
READERS = {module.SOURCE.name: module.SOURCE for module in (kaggle, captions, r2gen, nih14, openi)}
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
            ``annotation.json`` beside ``images/``;
        ``nih14``
            ``Data_Entry*.csv``, with images anywhere below;
        ``openi``
            a folder of Open-i XML, also one level down, or a ``.tgz`` of it.
    image_dir : str or os.PathLike, optional
        Where the images are, if not beside the tables.
    source : {'kaggle', 'captions', 'r2gen', 'nih14', 'openi'}, optional
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
    finder = ImageFinder(origin if origin.is_dir() else origin.parent, images)
    if columns:
        reader, found = captions.SOURCE, captions.read(origin, finder, columns)
    else:
        reader = READERS[source] if source else _detect(origin)
        found = reader.read(reader.to_open(origin), finder)
    studies = study_frame(found, origin)
    studies.attrs["source"] = reader.name
    return studies


def _detect(path: Path) -> Source:
    """Return the source that a folder holds or a file belongs to."""
    sources, name = READERS.values(), path.name.lower()
    if path.is_dir():
        matches = (source for source in sources if source.is_folder(path))
    else:
        # The usual name of a file tells more than its ending.
        named = [source for source in sources if source.has_name(name)]
        ending = [source for source in sources if name.endswith(source.suffixes)]
        matches = (source for source in named + ending)
    if found := next(matches, None):
        return found
    if captions.tables_of(path) if path.is_dir() else captions.is_table(path):
        return captions.SOURCE
    patterns = [" with ".join(s.patterns) if s.needs_all else s.patterns[0] for s in sources]
    endings = ", ".join(suffix for source in sources for suffix in source.suffixes)
    raise DataError(
        f"{path}: no known source there; looked for {', '.join(patterns)} or another table; "
        f"a single file must be a table or end in {endings}"
    )
