"""CheXpert, images with labels, and CheXpert Plus, the same images with their reports.

References
----------
.. [1] Irvin et al., "CheXpert: A Large Chest Radiograph Dataset with Uncertainty Labels and
   Expert Comparison", AAAI 2019.
.. [2] Chambon et al., "CheXpert Plus: Augmenting a Large Chest X-ray Dataset with Text Radiology
   Reports, Patient Demographics and Additional Image Formats", arXiv:2405.19538, 2024.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

from xray_captioning.data.sources.cells import named_part
from xray_captioning.data.sources.layout import (
    USUAL,
    StudyRow,
    make_studies,
    once,
    published,
    rows,
)
from xray_captioning.data.sources.lookup import ImageFinder
from xray_captioning.data.sources.source import Source, columns_of
from xray_captioning.data.studies import Study
from xray_captioning.data.table import Table
from xray_captioning.errors import DataError
from xray_captioning.findings import CHEXPERT

LABELS = replace(
    USUAL,
    image=("Path",),
    study=(),
    patient=(),
    split=(),
    view=("Frontal/Lateral",),
    label_columns={name: name for name in CHEXPERT[1:]},
)
REPORTS = replace(
    USUAL,
    image=("path_to_image",),
    study=(),
    patient=("deid_patient_id",),
    split=("split",),
    view=("frontal_lateral",),
    indication=("section_clinical_history", "section_history"),
    comparison=("section_comparison",),
    findings=("section_findings",),
    impression=("section_impression",),
    caption=("report",),
)
_PARTS = {"train": "train", "valid": "val", "test": "test"}
_STUDY = re.compile(r"(patient\d+)/(study\d+)/")
_ROOT = re.compile(r"^.*?CheXpert-v1\.0[^/]*/")


def read(path: Path, finder: ImageFinder) -> list[Study]:
    """Read the tables ``train.csv``, ``valid.csv`` and ``test.csv`` of CheXpert; there is no text.

    A study is a folder of a patient's, as ``patient00001/study1``; ``valid`` is val. Of the
    fourteen labels those of 1 are `problems` and those of -1 `uncertain`.
    """
    tables = (
        [path] if path.is_file() else [p for n in _PARTS for p in sorted(path.glob(f"{n}.csv*"))]
    )
    found = (
        rows(published(table, "Frontal/Lateral"), LABELS, part=named_part(table.name.split(".")[0]))
        for table in tables
    )
    return make_studies(once(_named(chain.from_iterable(found))), finder.find)


def read_plus(path: Path, finder: ImageFinder) -> list[Study]:
    """Read the table of CheXpert Plus, ``df_chexpert_plus_*.csv``, with the split that it names.

    Sections are apart already; what has none of its own comes from the whole report. Images are
    found as PNG, JPEG or DICOM.
    """
    return make_studies(once(_named(rows(Table(path), REPORTS))), finder.find)


def _named(found: Iterable[StudyRow]) -> Iterator[StudyRow]:
    """Name the study and the patient of each row by the path of its image."""
    for row in found:
        row.images = [_ROOT.sub("", name.replace("\\", "/")) for name in row.images]
        place = _STUDY.search(row.images[0])
        if not place:
            raise DataError(
                f"{row.where}: the path {row.images[0][:80]!r} names no study, as "
                "patient00001/study1/view1_frontal.jpg does; mend it"
            )
        row.study, row.patient = f"{place[1]}/{place[2]}", row.patient or place[1]
        yield row


def is_chexpert(path: Path) -> bool:
    """Tell by the columns of the table whether a folder is CheXpert."""
    return any("Frontal/Lateral" in columns_of(p) for n in _PARTS for p in path.glob(f"{n}.csv*"))


SOURCE = Source("chexpert", ("train.csv*",), read, reads_folder=True, fits=is_chexpert)
PLUS = Source("chexpert_plus", ("df_chexpert_plus_*.csv*",), read_plus)
