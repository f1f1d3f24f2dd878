"""The annotation.json of R2Gen (Chen et al., EMNLP 2020) and of systems that use its split."""

from pathlib import Path
from typing import Any

from xray_captioning.data.sources.lookup import ImageFinder
from xray_captioning.data.sources.source import Source, read_json
from xray_captioning.data.studies import PARTS, UNKNOWN, Study, text_or_none
from xray_captioning.errors import DataError


def read(path: Path, finder: ImageFinder) -> list[Study]:
    """Read an annotation file: 'train', 'val' and 'test', each a list of entries.

    An entry has an id, a report, which becomes the findings, an image_path relative to the image
    folder, and a split. A ``subject_id``, which the MIMIC-CXR edition has, is the patient.
    """
    annotation = read_json(path)
    if not isinstance(annotation, dict) or not set(annotation) & set(PARTS):
        raise DataError(f"{path}: has no key train, val or test; is this an R2Gen annotation?")
    return [
        _study(entry, part, f"{path}, {part} entry {number}", finder)
        for part in PARTS
        for number, entry in enumerate(_entries(annotation, part, path), start=1)
    ]


def _entries(annotation: dict[str, Any], part: str, path: Path) -> list[Any]:
    entries = annotation.get(part, [])
    if not isinstance(entries, list):
        raise DataError(f"{path}: {part!r} is not a list of entries")
    return entries


def _study(entry: Any, part: str, where: str, finder: ImageFinder) -> Study:
    if not isinstance(entry, dict):
        raise DataError(f"{where}: is not an object with id, report and image_path")
    missing = [key for key in ("id", "report", "image_path") if key not in entry]
    if missing:
        raise DataError(f"{where}: lacks {', '.join(missing)}; found: {', '.join(entry)}")
    split, report, paths = entry.get("split", part), entry["report"], entry["image_path"]
    if split not in PARTS:
        raise DataError(f"{where}: split is {split!r}; it must be train, val or test")
    if report is not None and not isinstance(report, str):
        raise DataError(f"{where}: the report is not a text")
    paths = [paths] if isinstance(paths, str) else paths
    if not isinstance(paths, list) or not all(isinstance(p, str) and p for p in paths):
        raise DataError(f"{where}: image_path must be a list of file names")
    return Study(
        study_id=str(entry["id"]),
        images=[finder.find(path) for path in paths],
        views=[UNKNOWN for _ in paths],
        findings=text_or_none(report),
        patient_id=entry.get("subject_id", ""),
        split=split,
    )


SOURCE = Source("r2gen", ("annotation.json",), read, suffixes=(".json",))
