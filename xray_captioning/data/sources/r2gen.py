"""R2Gen's annotations of IU X-Ray and MIMIC-CXR, and of the systems that use their splits.

References
----------
.. [1] Chen et al., "Generating Radiology Reports via Memory-driven Transformer", EMNLP 2020:
   ``annotation.json``, a list of entries for each of the keys ``train``, ``val`` and ``test``.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xray_captioning.data.records import read_json
from xray_captioning.data.sources.cells import PART_NAMES, needed_part
from xray_captioning.data.sources.lookup import ImageFinder
from xray_captioning.data.sources.source import Source, text_head
from xray_captioning.data.studies import Study
from xray_captioning.errors import DataError

_KEYS = ("id", "report", "image_path")
_WANTED = "an R2Gen annotation has lists under the keys train, val and test"


def read(path: Path, finder: ImageFinder) -> list[Study]:
    """Read an annotation: a list of entries a part, or one list whose entries name their split.

    Either may stand inside one further object, whatever its key. ``valid``, ``validation``,
    ``validate`` and ``dev`` are names of the validation part; a key that is no part is refused,
    because its studies would be lost. An entry has an id, a report, which becomes the findings,
    and an image_path (or a list of them) relative to the image folder. A ``subject_id``, which the
    MIMIC-CXR edition has, is the patient.
    """
    return [
        _study(entry, part, where, finder) for entry, part, where in _entries(read_json(path), path)
    ]


def is_annotation(path: Path) -> bool:
    """Tell by the beginning of a JSON file, or its usual name, whether its entries are R2Gen's."""
    if path.name.lower() == "annotation.json":
        return True
    head = text_head(path)
    return head.lstrip()[:1] in ("{", "[") and bool(
        re.search(r'"image_path"\s*:', head) and re.search(r'"report"\s*:', head)
    )


def _entries(content: Any, path: Path) -> Iterator[tuple[Any, str | None, str]]:
    """Yield each entry, the part that its place names, and the place for messages."""
    if isinstance(content, dict) and len(content) == 1:
        [(key, inner)] = content.items()
        if key.lower() not in PART_NAMES and inner and isinstance(inner, (dict, list)):
            content = inner
    if isinstance(content, list):
        content = {"": content}
    if not isinstance(content, dict) or not content:
        raise DataError(f"{path}: has no key train, val or test; {_WANTED}")
    for key, entries in content.items():
        part = needed_part(key, f"{path}: the key") if key else None
        if not isinstance(entries, list):
            raise DataError(f"{path}: {key!r} is not a list of entries; {_WANTED}")
        for number, entry in enumerate(entries, start=1):
            yield entry, part, f"{path}, {key} entry {number}" if key else f"{path}, entry {number}"


def _study(entry: Any, part: str | None, where: str, finder: ImageFinder) -> Study:
    if not isinstance(entry, dict):
        raise DataError(f"{where}: is not an object with id, report and image_path")
    if missing := [key for key in _KEYS if key not in entry]:
        raise DataError(
            f"{where}: lacks {', '.join(missing)}; found: {', '.join(entry)}; add it or take the "
            "entry out"
        )
    name, report, paths = (entry[key] for key in _KEYS)
    if name is None or isinstance(name, (dict, list)) or not str(name).strip():
        raise DataError(f"{where}: the id is empty; fill it in or take the entry out")
    if report is not None and not isinstance(report, str):
        raise DataError(f"{where}: the report is not a text; put it in quotes")
    paths = [paths] if isinstance(paths, str) else paths
    if not isinstance(paths, list) or not all(isinstance(p, str) and p for p in paths):
        raise DataError(f"{where}: image_path must be a list of file names")
    return Study(
        study_id=str(name),
        images=[finder.find(path) for path in paths],
        findings=report,
        patient_id=entry.get("subject_id", ""),
        split=_split(entry, part, where),
    )


def _split(entry: dict[str, Any], part: str | None, where: str) -> str | None:
    """Return the part of an entry; its own word and its place must not differ."""
    if entry.get("split") is None:
        return part
    own = needed_part(str(entry["split"]), f"{where}: split")
    if part is not None and own != part:
        raise DataError(f"{where}: its split is {own!r} but it stands in {part!r}; keep one")
    return own


SOURCE = Source("r2gen", ("*.json",), read, suffixes=(".json",), fits=is_annotation)
