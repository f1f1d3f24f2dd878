"""JSON results in the shapes that people write them in, as columns.

==================================================== ===============================================
shape                                                read as
==================================================== ===============================================
``[{"id": 1, "pred": "…"}, …]``                      one row per object
``{"id": 1, "pred": "…"}``                            one row
``{"1": {"report": "…", "pred": "…"}, …}``           one row per study
``{"1": "…"}``, ``{"1": ["…"]}``                     one system's text by study
``{"mine": {"1": "…"}, "theirs": {"1": "…"}}``       systems by name, their texts by study
``{"pred": ["…"], "ref": ["…"]}``,                   columns; the second as pandas writes them, or
``{"res": {"0": "…"}, "gts": {"0": "…"}}``           R2Gen's dictionaries
``["…", "…"]``                                       texts in the order of the studies
``{"predictions": …, "bleu": 0.3}``                  the one list or object among single values
``{"train": […], "test": […]}``                      the rows of all lists of objects
``{"images": […], "annotations": […], "info": {}}``  COCO: the rows of ``annotations``
==================================================== ===============================================
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xray_captioning.errors import DataError
from xray_captioning.evaluation.column_roles import ALONE, METADATA, SYSTEM, role

Columns = dict[str, list[Any]]
STUDY = "study_id"


def json_columns(content: Any, path: Path) -> Columns:
    """Return the content of a JSON file as columns of one length, None where there is no value."""
    if isinstance(content, dict):
        content = _unwrapped(content)
    if not isinstance(content, dict | list) or not content:
        raise DataError(f"{path}: holds no texts; give study ids and texts, or a list of texts")
    return _of_list(content, path) if isinstance(content, list) else _of_object(content, path)


def _unwrapped(content: dict[str, Any]) -> Any:
    """Return the one list or object of texts that an object has beside scores and settings."""
    rest = [
        value
        for name, value in content.items()
        if not (_is_single(value) or (isinstance(value, str) and role(name) == METADATA))
    ]
    lone = len(rest) == 1 < len(content) and isinstance(rest[0], dict | list)
    return rest[0] if lone else content


def _is_single(value: Any) -> bool:
    """Whether a value is a number, or an object of settings: numbers, and texts of one word."""
    if isinstance(value, dict):
        return bool(value) and all(
            _is_single(v) or (isinstance(v, str) and " " not in v) for v in value.values()
        )
    return isinstance(value, int | float)


def _of_list(entries: Sequence[Any], path: Path) -> Columns:
    if _of_objects(entries):
        return rows_to_columns(entries)
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, str | list):
            kind, advice = type(entry).__name__, "give texts alone, or objects alone"
            raise DataError(f"{path}, entry {number}: is {kind}; {advice}")
    return {ALONE: list(entries)}


def _of_object(content: dict[str, Any], path: Path) -> Columns:
    if _of_objects(content.get("annotations", ())):
        return _of_coco(content["annotations"], content.get("images"))
    values = list(content.values())
    if all(_of_objects(value) for value in values):
        return rows_to_columns([entry for value in values for entry in value])
    if all(isinstance(value, list) for value in values) and _are_columns(content):
        if len({len(value) for value in values}) > 1:
            raise DataError(f"{path}: its columns have different lengths; give one value per study")
        return dict(content)
    if all(isinstance(value, dict) for value in values):
        return _of_objects_by_name(content)
    if _are_columns(content) and not any(isinstance(value, list) for value in values):
        return rows_to_columns([content])
    return {STUDY: list(content), ALONE: values}


def _of_coco(annotations: Sequence[dict[str, Any]], images: Any) -> Columns:
    """Return COCO's captions, each with the name of its image's file."""
    listed = images if _of_objects(images) else []
    names = {image.get("id"): image["file_name"] for image in listed if "file_name" in image}
    if names:
        annotations = [a | {"file_name": names.get(a.get("image_id"))} for a in annotations]
    return rows_to_columns(annotations)


def _of_objects(entries: Any) -> bool:
    lists = isinstance(entries, list) and bool(entries)
    return lists and all(isinstance(entry, dict) for entry in entries)


def _are_columns(content: Mapping[str, Any]) -> bool:
    """Whether the names of an object's values are those of columns, not ids of studies."""
    return any(role(name) != SYSTEM for name in content)


def _of_objects_by_name(content: dict[str, dict[str, Any]]) -> Columns:
    """Return objects in an object as columns: of columns, of a study each, or of a system each."""
    keys = list(dict.fromkeys(key for inner in content.values() for key in inner))
    if not _are_columns(content) and any(role(str(key)) != SYSTEM for key in keys):
        return {STUDY: list(content), **rows_to_columns(list(content.values()))}
    columns = {name: [inner.get(key) for key in keys] for name, inner in content.items()}
    return columns if STUDY in columns else {STUDY: keys, **columns}


def rows_to_columns(rows: Sequence[Mapping[str, Any]]) -> Columns:
    """Return objects as columns; those of an object in each of them are called ``name.inner``."""
    names = dict.fromkeys(key for row in rows for key in row)
    return flattened({name: [row.get(name) for row in rows] for name in names})


def flattened(columns: Columns) -> Columns:
    """Return columns of objects as columns of their values."""
    found: Columns = {}
    for name, values in columns.items():
        if any(isinstance(value, dict) for value in values):
            inner = rows_to_columns([v if isinstance(v, dict) else {} for v in values])
            found |= {f"{name}.{key}": column for key, column in inner.items()}
        else:
            found[name] = values
    return found
