"""PadChest: images, labels and reports in Spanish, which stay as they are.

References
----------
.. [1] Bustos et al., "PadChest: A large chest x-ray image dataset with multi-label annotated
   reports", Medical Image Analysis 66, 2020.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from xray_captioning.data.sources import labels
from xray_captioning.data.sources.layout import (
    USUAL,
    StudyRow,
    make_studies,
    once,
    published,
    rows,
)
from xray_captioning.data.sources.lookup import ImageFinder
from xray_captioning.data.sources.source import Source
from xray_captioning.data.studies import Study

LAYOUT = replace(
    USUAL,
    image=("ImageID",),
    study=("StudyID",),
    patient=("PatientID",),
    split=(),
    view=("Projection",),
    caption=("Report",),
    labels=("Labels",),
    separator="\0",  # the field is a list
)


def read(path: Path, finder: ImageFinder) -> list[Study]:
    """Read the table of PadChest, packed or not; no split is published.

    A report has no sections, so it is findings and impression alike. Labels stand in `problems`
    under the names used here, or their own (`labels.PADCHEST`).
    """
    return make_studies(once(_rows(path)), finder.find)


def _rows(path: Path) -> Iterator[StudyRow]:
    for row in rows(published(path, "StudyID", "PatientID"), LAYOUT):
        named = [name for text in row.problems for name in labels.listed(text, row.where)]
        row.problems = labels.named(named, labels.PADCHEST, labels.PADCHEST_NO_FINDING)
        row.view = "lateral" if row.view.upper() == "L" else row.view  # or PA, AP, AP_horizontal
        yield row


SOURCE = Source("padchest", ("PADCHEST_chest_x_ray_images_labels*.csv*",), read)
