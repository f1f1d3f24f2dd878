"""Captions in the JSON format of COCO, and in Karpathy's of the same images.

References
----------
.. [1] Chen et al., "Microsoft COCO Captions: Data Collection and Evaluation Server",
   arXiv:1504.00325, 2015.
.. [2] Karpathy and Fei-Fei, "Deep Visual-Semantic Alignments for Generating Image Descriptions",
   CVPR 2015: ``dataset_coco.json``.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xray_captioning.data.records import read_json
from xray_captioning.data.sources.cells import named_part, needed_part
from xray_captioning.data.sources.layout import StudyRow, whole_report
from xray_captioning.data.sources.lookup import ImageFinder
from xray_captioning.data.sources.source import Source, text_head
from xray_captioning.data.studies import Study, text_or_none
from xray_captioning.errors import DataError


def read(path: Path, finder: ImageFinder) -> list[Study]:
    """Read a file of images and captions, or all such files of a folder.

    A file whose name holds ``train``, ``val`` or ``test``, as ``captions_val2014.json``, is that
    part. Each image is a study, with its id; several captions of one image are joined. Where two
    files count their images from the same number, the part stands before the id.
    """
    files = [path] if path.is_file() else [p for p in _files(path) if is_coco(p)]
    found = [row for file in files for row in _images(file, len(files) > 1)]
    twice = len({row.study for row in found}) < len(found) and len(files) > 1
    return [_study(row, twice, finder) for row in found]


def is_coco(path: Path) -> bool:
    """Tell whether a JSON file, or one of a folder, has images and captions as COCO has them."""
    if path.is_dir():
        return any(is_coco(file) for file in _files(path))
    head = text_head(path)
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
        names = (_below(image, name),)
        yield StudyRow(None, where, study, names, patient=patient, split=own, texts=tuple(texts))
    if captions:
        raise DataError(
            f"{path}: has captions of image {min(captions)!r}, which is not among the images "
            f"({len(captions)} such); add it or take them out"
        )


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


def _below(image: dict[str, Any], name: str) -> str:
    folder = image.get("filepath")  # as Karpathy's files name it
    return f"{folder}/{name}" if isinstance(folder, str) and folder else name


def _study(row: StudyRow, twice: bool, finder: ImageFinder) -> Study:
    text = text_or_none(" ".join(dict.fromkeys(filter(None, row.texts))))
    return Study(
        study_id=f"{row.split}/{row.study}" if twice and row.split else row.study,
        images=list(map(finder.find, row.images)),
        patient_id=row.patient,
        split=row.split,
        **(whole_report(text) if text else {}),
    )


SOURCE = Source("coco", ("*.json",), read, suffixes=(".json",), reads_folder=True, fits=is_coco)
