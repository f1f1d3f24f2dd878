"""MIMIC-CXR and MIMIC-CXR-JPG: a tree of studies beside tables, any of which may be missing.

References
----------
.. [1] Johnson et al., "MIMIC-CXR, a de-identified publicly available database of chest radiographs
   with free-text reports", Scientific Data 6, 2019.
.. [2] Johnson et al., "MIMIC-CXR-JPG - chest radiographs with structured labels", PhysioNet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xray_captioning.data.sources.captions import is_table
from xray_captioning.data.sources.cells import named_part
from xray_captioning.data.sources.labels import coded
from xray_captioning.data.sources.lookup import ImageFinder
from xray_captioning.data.sources.mimic_reports import Reports
from xray_captioning.data.sources.mimic_tree import Tree, has_studies, number, tables_of
from xray_captioning.data.sources.source import Source
from xray_captioning.data.studies import UNKNOWN, Study
from xray_captioning.data.table import Row, Table
from xray_captioning.data.views import named_view
from xray_captioning.errors import DataError

# The tables of the two releases, and of the project's own program that splits reports.
IMAGES = ("mimic-cxr-*-metadata.csv*", "mimic-cxr-*-split.csv*", "cxr-record-list.csv*")
LABELS = ("mimic-cxr-*-chexpert.csv*", "mimic-cxr-*-negbio.csv*")  # the first that is there
SECTIONS = "mimic_cxr_section*.csv*"
REPORTS = "mimic-cxr-reports*.zip"


@dataclass
class _Known:
    """What is known of one study, whichever table or folder says so."""

    patient: str = ""
    part: str | None = None
    views: dict[str, str] = field(default_factory=dict)  # of its images, by dicom_id


def read(path: Path, finder: ImageFinder) -> list[Study]:
    """Read what is there of MIMIC-CXR, at any depth: tables, images and reports, or some of them.

    Studies are in the order of their numbers, which are their ids. Sections come from
    ``mimic_cxr_sectioned.csv``, or else from the reports, as files or in ``mimic-cxr-reports.zip``.
    Labels are CheXpert's, or else NegBio's. Where a table or the tree names images, a report
    without any is left out.
    """
    folder = path if path.is_dir() else path.parent
    tree = Tree(folder, finder.image_dir)
    labels = _labels(folder)
    with closing(Reports(tree, tables_of(folder, SECTIONS), tables_of(folder, REPORTS))) as reports:
        known = _known(folder, tree)
        known = known or {study: _Known(patient) for study, patient in reports.patients().items()}
        return [
            _study(
                study, known[study], reports.sections(study), labels.get(study, {}), tree, finder
            )
            for study in sorted(known)
        ]


def _known(folder: Path, tree: Tree) -> dict[str, _Known]:
    """Return the studies that have an image, by the tables of images and by the tree."""
    known: dict[str, _Known] = {}
    studies: dict[str, str] = {}  # by dicom_id
    for path in tables_of(folder, *IMAGES):
        _add_table(Table(path), known, studies)
    for study, images in tree.images.items():
        about = known.setdefault(study, _Known(tree.patients[study]))
        for image, file in images.items():
            if studies.setdefault(image, study) != study:
                raise DataError(
                    f"{file}: lies in the folder of study {study}, but is of study "
                    f"{studies[image]} by a table; move it"
                )
            about.views.setdefault(image, UNKNOWN)
    return known


def _add_table(table: Table, known: dict[str, _Known], studies: dict[str, str]) -> None:
    """Add what one table says of images; what contradicts another row is refused."""
    image, view = table.need("image", "dicom_id"), table.column("view", "ViewPosition")
    split, here = table.column("split", "split"), set()
    for row, study, patient in _numbered(table):
        name = row.text(image)
        if not name:
            raise DataError(f"{row.place}: the dicom_id is empty; fill it in or remove the row")
        if name in here or studies.setdefault(name, study) != study:
            raise DataError(f"{row.place}: names image {name} again; keep one of the rows")
        here.add(name)
        about = known.setdefault(study, _Known(patient))
        if about.patient != patient:
            raise DataError(
                f"{row.place}: study {study} is of patient {patient} here and of {about.patient} "
                "in another row; keep one"
            )
        about.views[name] = named_view(row.text(view)) if view else about.views.get(name, UNKNOWN)
        if split:
            _add_part(row, row.text(split), about)


def _numbered(table: Table) -> Iterator[tuple[Row, str, str]]:
    """Yield the rows with the numbers of their study and patient."""
    study, patient = (table.need(name, name) for name in ("study_id", "subject_id"))
    for row in table:
        yield row, number(row, study), number(row, patient)


def _add_part(row: Row, name: str, about: _Known) -> None:
    part = named_part(name)
    if part is None:
        raise DataError(f"{row.place}: split is {name!r}; it must be train, validate or test")
    if about.part not in (None, part):
        raise DataError(f"{row.place}: split is {name!r}, but {about.part} in an earlier row of it")
    about.part = part


def _labels(folder: Path) -> dict[str, dict[str, list[str]]]:
    """Return the labels of each study, by the first of the two tables that is there."""
    found: dict[str, dict[str, list[str]]] = {}
    for path in tables_of(folder, *LABELS)[:1]:
        for row, study, _ in _numbered(Table(path)):
            if study in found:
                raise DataError(f"{row.place}: has study {study} again; keep one of the rows")
            found[study] = coded(row)
    return found


def _study(
    study: str,
    about: _Known,
    texts: Mapping[str, Any],
    labels: Mapping[str, Any],
    tree: Tree,
    finder: ImageFinder,
) -> Study:
    there = tree.images.get(study, {})
    home = f"files/p{about.patient[:2]}/p{about.patient}/s{study}"
    return Study(
        study_id=study,
        images=[there.get(name) or finder.by_key(f"{name}.jpg", home) for name in about.views],
        views=list(about.views.values()),
        patient_id=about.patient,
        split=about.part,
        **texts,
        **labels,
    )


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
