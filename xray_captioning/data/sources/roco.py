"""ROCO and ROCOv2: images of any modality from papers, with their captions.

References
----------
.. [1] Pelka et al., "Radiology Objects in COntext (ROCO): A Multimodal Image Dataset", LABELS 2018.
.. [2] Rückert et al., "ROCOv2: Radiology Objects in COntext Version 2, an Updated Multimodal Image
   Dataset", Scientific Data 11, 2024.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from xray_captioning.data.sources.layout import USUAL, StudyRow, make_studies, once, rows
from xray_captioning.data.sources.lookup import ImageFinder
from xray_captioning.data.sources.source import Source
from xray_captioning.data.studies import Study
from xray_captioning.data.table import Table

LAYOUT = replace(
    USUAL, image=("name", "ID", "id"), study=(), patient=(), split=(), caption=("caption",)
)
# What a part is called, and where its captions lie: as published, at Kaggle, in version 2.
_FOLDERS = {"train": ("train",), "val": ("validation", "valid", "val"), "test": ("test",)}
_FIRST = "radiology/captions.txt"
_KAGGLE = "radiology*data.csv*"
_SECOND = "{}_captions.csv*"


def read(path: Path, finder: ImageFinder) -> list[Study]:
    """Read the captions of the parts that are there; what is no radiology is left out.

    Each image is a study, with its name as id. Most are no radiographs of the chest.
    """
    return make_studies(
        once(row for part, table in _tables(path) for row in _rows(table, part)), finder.find
    )


def is_roco(path: Path) -> bool:
    """Tell whether a folder holds one of the tables."""
    return any(_tables(path))


def _tables(path: Path) -> Iterator[tuple[str, Path]]:
    for part, names in _FOLDERS.items():
        for name in names:
            inner = (f"{name}/{_FIRST}", f"*/{name}/{_FIRST}", f"{name}/{_KAGGLE}")
            second = (_SECOND.format(name), f"{name}/{_SECOND.format(name)}")
            found = [p for pattern in (*inner, *second) for p in sorted(path.glob(pattern))]
            if found:
                yield part, found[0]


def _rows(path: Path, part: str) -> Iterator[StudyRow]:
    bare = path.name == "captions.txt"  # without a line that names the columns
    table = Table(path, ("id", "caption")) if bare else Table(path)
    for row in rows(table, LAYOUT, part=part):
        row.images = [name if "." in name else f"{name}.jpg" for name in row.images]
        yield row


SOURCE = Source(
    "roco", ("*/radiology/captions.txt", "*_captions.csv"), read, reads_folder=True, fits=is_roco
)
