"""A captions.csv beside images/, as many captioning projects keep their data."""

import os
from pathlib import Path, PurePath

from xray_captioning.data.sources.lookup import ImageFinder
from xray_captioning.data.studies import UNKNOWN, Study, text_or_none
from xray_captioning.data.table import Row, read_table
from xray_captioning.errors import DataError

ID_COLUMNS = ("study_id", "id", "uid")


def read(path: Path, finder: ImageFinder) -> list[Study]:
    """Read a table of images and captions.

    A caption says neither "findings" nor "impression", so it stands in both, and either can be
    learned or scored. Rows with the same id (column ``study_id``, ``id`` or ``uid``), or with
    the same image where there is no id column, are one study; its text is their distinct
    captions in order, joined by a space, so that none is lost.

    Parameters
    ----------
    path : Path
        The table: columns ``image`` or ``filename`` and ``caption`` or ``report``.
    finder : ImageFinder
        Finds the images: by their path below the image folder, or else by a name that only
        one file has.

    Returns
    -------
    list of Study
        In the order of first rows. Without an id column the study_id is the image's stem.

    Raises
    ------
    DataError
        If the table cannot be read, lacks a column, names no image in some row, or two images
        of one stem would need one study_id.
    """
    rows = read_table(path, ("image|filename", "caption|report"))
    groups: dict[str, list[Row]] = {}
    for number, row in enumerate(rows, start=1):
        if not row["image"].strip():
            raise DataError(f"{path}, data row {number}: names no image; fill it in or remove it")
        groups.setdefault(_study_id(row, f"{path}, data row {number}"), []).append(row)
    return [_study(study_id, group, path, finder) for study_id, group in groups.items()]


def _study_id(row: Row, where: str) -> str:
    column = next((name for name in ID_COLUMNS if name in row), None)
    if column is None:
        return PurePath(row["image"].strip()).stem
    if not row[column].strip():
        raise DataError(f"{where}: the {column} is empty; fill it in or remove the row")
    return row[column].strip()


def _study(study_id: str, rows: list[Row], path: Path, finder: ImageFinder) -> Study:
    images = list(dict.fromkeys(row["image"].strip() for row in rows))
    if len(images) > 1 and not any(name in rows[0] for name in ID_COLUMNS):
        raise DataError(
            f"{path}: {images[0]!r} and {images[1]!r} have one stem; add a study_id column"
        )
    text = " ".join(dict.fromkeys(row["caption"].strip() for row in rows))
    return Study(
        study_id=study_id,
        images=[_find(image, finder) for image in images],
        views=[UNKNOWN for _ in images],
        findings=text_or_none(text),
        impression=text_or_none(text),
    )


def _find(name: str, finder: ImageFinder) -> str:
    """Find an image by path; a bare name, with or without suffix, may lie anywhere below."""
    found = finder.by_path(name)
    return found or finder.by_key(os.path.basename(name), "images", unique=True)
