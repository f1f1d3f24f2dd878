"""A captions.csv beside images/, as many captioning projects keep their data."""

from pathlib import Path, PurePath

from xray_captioning.data.sources.lookup import ImageFinder
from xray_captioning.data.sources.source import Source, image_rows
from xray_captioning.data.studies import UNKNOWN, Study, text_or_none
from xray_captioning.data.table import Row
from xray_captioning.errors import DataError

IDS, PATIENTS = "study_id|id|uid", "patient_id|patient|subject_id"


def read(path: Path, finder: ImageFinder) -> list[Study]:
    """Read a table of images and captions.

    A caption is neither called findings nor impression, so it becomes both, and either can be
    learned or scored. Rows with the same id (column ``study_id``, ``id`` or ``uid``) are one
    study; its text is their distinct captions in order, joined by a space, so that none is lost.
    Without an id column the stem of the image is the id, and two images with the same stem are
    refused. A column ``patient_id``, ``patient`` or ``subject_id`` names the patient, whose studies
    stay together when they are split. An image is found by its path below the image folder, or
    else by a name that only one file has.
    """
    groups: dict[str, list[Row]] = {}
    rows = image_rows(path, ("image|filename", "caption|report"), (IDS, PATIENTS))
    for image, where, row in rows:
        study_id = row.get("study_id", PurePath(image).stem).strip()
        if not study_id:
            raise DataError(f"{where}: the id is empty; fill it in or remove the row")
        groups.setdefault(study_id, []).append(row)
    return [_study(study_id, group, path, finder) for study_id, group in groups.items()]


def _study(study_id: str, rows: list[Row], path: Path, finder: ImageFinder) -> Study:
    images = list(dict.fromkeys(row["image"].strip() for row in rows))
    if len(images) > 1 and "study_id" not in rows[0]:
        raise DataError(
            f"{path}: {images[0]!r} and {images[1]!r} have the same stem; add a study_id column"
        )
    text = text_or_none(" ".join(dict.fromkeys(row["caption"].strip() for row in rows)))
    views = [UNKNOWN] * len(images)
    found = [finder.find(image) for image in images]
    patient = _patient(study_id, rows, path)
    return Study(study_id, found, views, findings=text, impression=text, patient_id=patient)


def _patient(study_id: str, rows: list[Row], path: Path) -> str:
    """Return the patient of a study's rows, empty where none names one."""
    named = sorted({row.get("patient_id", "").strip() for row in rows} - {""})
    if len(named) > 1:
        raise DataError(
            f"{path}: study {study_id!r} is of patients {named[0]!r} and {named[1]!r}; keep one"
        )
    return named[0] if named else ""


SOURCE = Source("captions", ("captions.csv",), read, suffixes=(".csv",))
