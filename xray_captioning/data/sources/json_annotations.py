"""Annotations in JSON, as these papers publish them.

R2Gen's, lists under the keys ``train``, ``val`` and ``test``: Chen et al., "Generating Radiology
Reports via Memory-driven Transformer", EMNLP 2020; COCO's: Chen et al., arXiv:1504.00325; Karpathy
and Fei-Fei's of COCO's images: CVPR 2015.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from xray_captioning.data.opening import HEAD_BYTES, read_text
from xray_captioning.data.records import read_json
from xray_captioning.data.sources.layout import LAYOUTS, NO_TEXTS, StudyRow, make_studies, published, rows
from xray_captioning.data.sources.lookup import ImageFinder
from xray_captioning.data.studies import Study, check_unique, named_part
from xray_captioning.data.table import needed_part
from xray_captioning.errors import DataError


def read_r2gen(path: Path, finder: ImageFinder) -> list[Study]:
    """Read an annotation: lists of entries by part, or one whose entries name their split. Reports
    become findings; ``subject_id``, of MIMIC-CXR's edition, is the patient.
    """
    # The id is asked for: that of any other table may count rows where several name one image.
    found = list(rows(published(path, "id", "report", "image_path"), LAYOUTS["r2gen"], {"study": "id"}))
    check_unique((row.study for row in found), path)
    return make_studies(found, finder.find)


def is_r2gen(path: Path) -> bool:
    """Tell by the beginning of a JSON file, or its usual name, whether its entries are R2Gen's."""
    if path.name.lower() == "annotation.json":
        return True
    head = _head(path)
    return head.lstrip()[:1] in ("{", "[") and bool(
        re.search(r'"image_path"\s*:', head) and re.search(r'"report"\s*:', head)
    )


def _head(path: Path) -> str:
    """Return the beginning of a text file, '' where it is none."""
    with suppress(DataError):
        return read_text(path, HEAD_BYTES)
    return ""


# --- COCO and Karpathy ---


def read_coco(path: Path, finder: ImageFinder) -> list[Study]:
    """Read files of images and captions, such as ``captions_val2014.json``, which is that part: each image a study
    with its captions joined. Where two files number alike the part stands before the id.
    """
    files = [path] if path.is_file() else [p for p in _files(path) if is_coco(p)]
    found = [row for file in files for row in _images(file, len(files) > 1)]
    if len({row.study for row in found}) < len(found) and len(files) > 1:
        for row in found:
            row.study = f"{row.split}/{row.study}" if row.split else row.study
    check_unique((row.study for row in found), path)
    return make_studies(found, finder.find)


def is_coco(path: Path) -> bool:
    """Tell whether a JSON file, or one of a folder, has images and captions as COCO has them."""
    if path.is_dir():
        return any(is_coco(file) for file in _files(path))
    head = _head(path)
    if not head.lstrip().startswith("{"):
        return False
    keys = set(re.findall(r'"(\w+)"\s*:', head))
    either = keys >= {"images", "file_name"} or keys >= {"annotations", "image_id"}
    return either or keys >= {"images", "filename", "sentences"}


def _files(path: Path) -> list[Path]:
    return sorted((*path.glob("*.json"), *path.glob("annotations/*.json")))


def _images(path: Path, by_name: bool) -> Iterator[StudyRow]:
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise DataError(f"{path}: has no list 'images'; is this a file of COCO captions?")
    words = re.findall("[a-z]+", path.stem.lower()) if by_name else []
    part = next(filter(None, map(named_part, words)), None)
    captions = _captions(content, path)
    for number, image in enumerate(content["images"], start=1):
        where = f"{path}, image {number}"
        name = _needed(image, ("file_name", "filename"), where)
        study = _needed(image, ("id", "imgid"), where)
        split = image.get("split")
        own = needed_part(str(split), f"{where}: split") if split else part
        texts = captions.pop(study, [])
        texts += [_needed(s, ("raw",), where, empty=True) for s in image.get("sentences") or []]
        patient = str(image.get("patient_id", image.get("subject_id", "")) or "")
        folder = image.get("filepath")  # as Karpathy's files name it
        names = (f"{folder}/{name}" if isinstance(folder, str) and folder else name,)
        told = (*NO_TEXTS[1:], " ".join(dict.fromkeys(filter(None, texts))))
        yield StudyRow(None, where, study, names, patient=patient, split=own, texts=told)
    if captions:
        what = f"has captions of image {min(captions)!r}, which is not among the images ({len(captions)} such)"
        raise DataError(f"{path}: {what}; add it or take them out")


def _captions(content: dict[str, Any], path: Path) -> dict[str, list[str]]:
    captions: dict[str, list[str]] = {}
    for number, entry in enumerate(content.get("annotations") or [], start=1):
        where = f"{path}, annotation {number}"
        image = _needed(entry, ("image_id",), where)
        captions.setdefault(image, []).append(_needed(entry, ("caption",), where, empty=True))
    return captions


def _needed(entry: Any, keys: tuple[str, ...], where: str, empty: bool = False) -> str:
    """Return the text or number under the first of the keys that an object has."""
    if not isinstance(entry, dict):
        raise DataError(f"{where}: is not an object; mend the file")
    value = next((entry[key] for key in keys if key in entry), None)
    if not isinstance(value, (str, int)) or not (empty or str(value).strip()):
        found = ", ".join(entry)
        raise DataError(f"{where}: lacks {' or '.join(keys)}; found: {found}; fill it in")
    return str(value).strip()
