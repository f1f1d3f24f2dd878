"""VinDr-CXR: frontal images, each labelled by several radiologists; there is no text.

References
----------
.. [1] Nguyen et al., "VinDr-CXR: An open dataset of chest X-rays with radiologist's annotations",
   Scientific Data 9, 2022.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from xray_captioning.data.sources import labels
from xray_captioning.data.sources.lookup import ImageFinder
from xray_captioning.data.sources.source import Source
from xray_captioning.data.studies import FRONTAL, Study
from xray_captioning.data.table import Row, Table
from xray_captioning.errors import DataError

# A part has one of these tables, or both; the first says more.
_TABLES = ("image_labels_{}.csv*", "annotations_{}.csv*")


@dataclass
class _Read:
    """What the readers of one image named, each finding once a reader."""

    votes: set[tuple[str, str]] = field(default_factory=set)
    readers: set[str] = field(default_factory=set)


def read(path: Path, finder: ImageFinder) -> list[Study]:
    """Read the labels of images, ``image_labels_*.csv``, or their boxes, ``annotations_*.csv``.

    Each image is a study. A finding is a problem where more than half of the image's readers
    name it, and uncertain where fewer do. The parts are train and test.
    """
    return [
        _study(image, found, part, finder)
        for part, table in _tables(path)
        for image, found in _images(Table(table)).items()
    ]


def _tables(path: Path) -> Iterator[tuple[str, Path]]:
    if path.is_file():
        yield ("test" if "test" in path.name else "train"), path
        return
    for part in ("train", "test"):
        names = [name.format(part) for name in _TABLES]
        found = [p for n in names for where in (n, f"*/{n}") for p in sorted(path.glob(where))]
        if found:
            yield part, found[0]


def _images(table: Table) -> dict[str, _Read]:
    """Return what is said of each image, in the order of the table."""
    image = table.need("image", "image_id")
    reader, name = table.column("reader", "rad_id"), table.column("label", "class_name")
    images: dict[str, _Read] = {}
    for row in table:
        if not row.text(image):
            raise DataError(f"{row.place}: names no image; fill it in or remove the row")
        who, found = row.text(reader), images.setdefault(row.text(image), _Read())
        if who in found.readers and not name:
            raise DataError(f"{row.place}: has this image and reader again; keep one of the rows")
        said = [row.text(name)] if name else _columns(row, (image, reader))
        found.readers.add(who)
        found.votes.update((label, who) for label in labels.named(said, labels.VINDR, ()))
    return images


def _columns(row: Row, others: tuple[str | None, ...]) -> list[str]:
    """Return the labels of a row with a column of 0 and 1 for each."""
    values = {name: row.text(name) for name in row if name and name not in others}
    for name, value in values.items():
        if value not in ("0", "1", "0.0", "1.0"):
            raise DataError(f"{row.place}: {name} is {value[:40]!r}; it must be 0 or 1")
    return [name for name, value in values.items() if float(value)]


def _study(image: str, found: _Read, part: str, finder: ImageFinder) -> Study:
    counts = Counter(label for label, _ in sorted(found.votes))
    most = len(found.readers) / 2
    return Study(
        study_id=image,
        images=[finder.find(f"{image}.dicom")],
        views=[FRONTAL],
        problems=[label for label, count in counts.items() if count > most],
        uncertain=[label for label, count in counts.items() if count <= most],
        split=part,
    )


SOURCE = Source(
    "vindr",
    (*(name.format("*") for name in _TABLES), *("*/" + name.format("*") for name in _TABLES)),
    read,
    reads_folder=True,
)
