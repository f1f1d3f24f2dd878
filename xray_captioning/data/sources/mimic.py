"""MIMIC-CXR and MIMIC-CXR-JPG: a tree of studies beside tables, any of which may be missing.

References
----------
.. [1] Johnson et al., "MIMIC-CXR, a de-identified publicly available database of chest radiographs
   with free-text reports", Scientific Data 6, 2019.
.. [2] Johnson et al., "MIMIC-CXR-JPG - chest radiographs with structured labels", PhysioNet.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from xray_captioning.data.sources.captions import is_table
from xray_captioning.data.sources.layout import (
    Layout,
    StudyRow,
    make_studies,
    once,
    published,
    rows,
)
from xray_captioning.data.sources.lookup import ImageFinder
from xray_captioning.data.sources.mimic_tree import Tree, has_studies, report_rows, tables_of
from xray_captioning.data.sources.source import Source
from xray_captioning.data.studies import Study
from xray_captioning.errors import DataError
from xray_captioning.findings import CHEXPERT

# The tables of the two releases, and of the project's own program that splits reports.
IMAGES = ("mimic-cxr-*-metadata.csv*", "mimic-cxr-*-split.csv*", "cxr-record-list.csv*")
LABELS = ("mimic-cxr-*-chexpert.csv*", "mimic-cxr-*-negbio.csv*")  # the first that is there
SECTIONS = "mimic_cxr_section*.csv*"
REPORTS = "mimic-cxr-reports*.zip"

_NUMBERS = Layout(study=("study_id",), patient=("subject_id",))
_IMAGES = replace(_NUMBERS, image=("dicom_id",), view=("ViewPosition",), split=("split",))
_LABELS = replace(_NUMBERS, label_columns={name: name for name in CHEXPERT[1:]})
_SECTIONS = Layout(
    study=("study|study_id",),
    comparison=("comparison",),
    findings=("findings",),
    impression=("impression",),
    caption=("last_paragraph",),
)
_NUMBER = re.compile(r"[ps]?(\d+)(\.0)?$")


def read(path: Path, finder: ImageFinder) -> list[Study]:
    """Read what is there of MIMIC-CXR, at any depth: tables, images and reports, or some of them.

    Studies are in the order of their numbers, which are their ids. Sections come from
    ``mimic_cxr_sectioned.csv``, or else from the reports, as files or in ``mimic-cxr-reports.zip``.
    Labels are CheXpert's, or else NegBio's. Where a table or the tree names images, a report
    without any is left out.
    """
    folder = path if path.is_dir() else path.parent
    tree = Tree(folder, finder.image_dir)
    homes: dict[str, str] = {}  # of images: the folder where each is expected
    named = (row for table in tables_of(folder, *IMAGES) for row in once(_rows(table, _IMAGES)))
    found = list(_in_one_study((*named, *tree.rows()), homes))
    studies = {row.study for row in found}
    sections = list(_sections(folder, studies))
    told = {row.study for row in sections if any(row.texts)}
    found += sections
    found += report_rows(tree, tables_of(folder, REPORTS), studies, told)
    for table in tables_of(folder, *LABELS)[:1]:
        found += _one_a_study(_rows(table, _LABELS), studies or {row.study for row in found})

    def find(image: str) -> str:
        return tree.images.get(image) or finder.by_key(f"{image}.jpg", homes[image])

    return make_studies(sorted(found, key=lambda row: row.study), find)


def _rows(path: Path, layout: Layout) -> Iterator[StudyRow]:
    """Yield the rows of a table, ids without their letters; there must be a patient and a part."""
    table = published(path, "study_id", "subject_id")
    names_part = bool(layout.split) and bool(table.named("split"))
    for row in rows(table, layout):
        if names_part and row.split is None:
            raise DataError(f"{row.where}: split is ''; it must be train, validate or test")
        row.study, row.patient = (
            _number(row, "study_id", row.study),
            _number(row, "subject_id", row.patient),
        )
        yield row


def _number(row: StudyRow, column: str, text: str) -> str:
    """Return the digits of a patient's or study's number, such as 's50414267'."""
    found = _NUMBER.match(text)
    if not found:
        raise DataError(f"{row.where}: {column} is {text!r}, which is no number; mend it")
    return found[1]


def _in_one_study(found: Iterable[StudyRow], homes: dict[str, str]) -> Iterator[StudyRow]:
    """Yield rows of images and note where each belongs; two places are a DataError."""
    for row in found:
        home = f"files/p{row.patient[:2]}/p{row.patient}/s{row.study}"
        for image in row.images:
            if (other := homes.setdefault(image, home)) != home:
                raise DataError(
                    f"{row.where}: has image {image} in {home}, but a table has it in {other}; "
                    "keep one"
                )
        yield row


def _sections(folder: Path, studies: Collection[str]) -> Iterator[StudyRow]:
    """Yield the rows of a table of sections; a report without headings is its last paragraph."""
    for path in tables_of(folder, SECTIONS):
        found = rows(published(path, "findings", "impression"), _SECTIONS)
        for row in _one_a_study(found, studies):
            *before, findings, impression, last = row.texts
            if not findings and not impression:
                findings = last
            row.texts = (*before, findings, impression, "")
            yield row


def _one_a_study(found: Iterable[StudyRow], studies: Collection[str]) -> Iterator[StudyRow]:
    """Yield rows of these studies, of all where there are none; a study's second is a DataError."""
    seen: set[str] = set()
    for row in found:
        row.study = _number(row, "study", row.study)
        if row.study in seen:
            raise DataError(f"{row.where}: has study {row.study} again; keep one of the rows")
        seen.add(row.study)
        if not studies or row.study in studies:
            yield row


def is_mimic(folder: Path) -> bool:
    """Tell by its tables, its archive of reports or its tree whether a folder is MIMIC-CXR.

    Beside another table, such as an annotation of R2Gen, the tree is where the images of that lie.
    """
    if tables_of(folder, *IMAGES, *LABELS, SECTIONS, REPORTS):
        return True
    return not any(map(is_table, folder.iterdir())) and has_studies(folder)


SOURCE = Source(
    "mimic_cxr", (*IMAGES, *LABELS, SECTIONS, REPORTS), read, reads_folder=True, fits=is_mimic
)
