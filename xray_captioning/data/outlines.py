"""Outlines of findings on images: ``regions.json``, a JSON list that lies beside a data folder's tables."""

from collections.abc import Iterable, Sequence
from itertools import chain, product
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from xray_captioning import files, findings
from xray_captioning.data import images, resizing
from xray_captioning.errors import DataError

FILE = "regions.json"
WHOLE = (0.0, 0.0, 1.0, 1.0)
_FINE = 8  # pixels of a region's side, in which it is found out whether an outline touches it
_MARGIN = 1 / 56  # of the image's side: findings fade out behind their outlines
Share = Annotated[float, Meta(ge=0, le=1)]
Mask = NDArray[np.bool_]


class Outline(Struct, frozen=True, forbid_unknown_fields=True):
    """One part of a finding on one image: a polygon in shares of its width and height, right and down."""

    study: str
    finding: Annotated[str, Meta(pattern=f"^({'|'.join(findings.FINDINGS)})$")]
    side: Literal["left", "right", "bilateral", ""]  # the patient's
    image: str  # the name of its file, without folders
    polygon: Annotated[list[tuple[Share, Share]], Meta(min_length=1)]


Outlines = dict[tuple[str, str], list[Outline]]  # by study and image


def note_outlines(studies: Any, source: Path) -> None:
    """Note in a table of studies where the ``regions.json`` in its folder, or beside its file, is, if there is one."""
    file = (source if source.is_dir() else source.parent) / FILE
    if file.is_file():
        studies.attrs[FILE] = str(file)


def read_outlines(studies: Any, file: str | Path | None = None) -> Outlines:
    """Read the outlines in a file, or beside the source of studies, or none; what does not fit is a DataError."""
    found, path = Outlines(), file or studies.attrs.get(FILE)
    advice = "give rows of study, finding, side, image and polygon, x and y from 0 to 1"
    for row in files.read_json(Path(path), advice, DataError, list[Outline]) if path else ():
        found.setdefault((row.study, row.image), []).append(row)
    return found


def seen_of(image: str, size: int, resize: str) -> tuple[float, float, float, float]:
    """Return top, left, height and width of what a model sees of an image, in shares (`seen_part`)."""
    if resizing.seen_part(1, 2, size, resize) == WHOLE:  # whatever its shape
        return WHOLE
    height, width, _ = images.read_image(image, None, "nearest").shape
    return resizing.seen_part(height, width, size, resize)


def moved(seen: Sequence[float], offset: Sequence[float]) -> tuple[float, float, float, float]:
    """Return the place of what a grid sees that lies so far, in shares of it, below and right of where it is drawn."""
    top, left, high, wide = seen
    return top + offset[0] * high, left + offset[1] * wide, high, wide


def within(part: Sequence[float], box: Sequence[float]) -> tuple[float, ...]:
    """Return a box (left, top, right, bottom) in shares of an image, given in shares of the `part` that is seen."""
    top, left, high, wide = part
    return tuple(min(max(start + n * side, 0.0), 1.0) for n, (start, side) in zip(box, ((left, wide), (top, high)) * 2))


def filled(outlines: Iterable[Outline], shape: tuple[int, int], seen: Sequence[float] = WHOLE) -> Mask:
    """Draw outlines into what is seen of their image: (height, width), True inside."""
    canvas, (top, left, high, wide) = np.zeros(shape, np.uint8), seen
    for one in outlines:
        x, y = ((np.array(one.polygon) - (left, top)) / (wide, high) * shape[::-1]).T
        points = np.floor(np.stack([x, y], axis=1) * (1 - 1e-9)).astype(np.int32)  # an edge is of the last pixel
        resizing.opencv().fillPoly(canvas, [points], 1)
    return canvas.astype(bool)


def touched(outlines: Iterable[Outline], grid: tuple[int, int], seen: Sequence[float] = WHOLE) -> Mask:
    """Return the regions (rows, columns) that outlines reach: a region's centre is at most half a region away."""
    rows, columns = grid
    fine = filled(outlines, (rows * _FINE, columns * _FINE), seen)
    return np.asarray(fine.reshape(rows, _FINE, columns, _FINE).any(axis=(1, 3)))


def widened(mask: Mask) -> Mask:
    """Return a mask that reaches a little further than an outline does."""
    side = 2 * max(1, round(len(mask) * _MARGIN)) + 1
    return np.asarray(resizing.opencv().dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)), bool)


def painted(pixels: images.Pixels, mask: Mask) -> images.Pixels:
    """Paint over a part of an image (size, size, 3) with the grey of the lung beside it."""
    # A fifth of what is around it is darker: the mean of it, or what fades into it, still looks like a finding.
    around, new = widened(widened(widened(mask))) & ~mask, pixels.copy()
    new[mask] = np.quantile(pixels[around if around.any() else mask], 0.2, axis=0)
    return new


def elsewhere(mask: Mask, taken: Mask) -> Mask | None:
    """Return the same shape in another place that touches nothing `taken`, if there is one: mirrored, or near by."""
    size, (y, x) = len(mask), np.nonzero(mask)
    step = max(1, size // 28)
    moves = product(range(-y.min(), size - y.max(), step), range(-x.min(), size - x.max(), step))
    shapes = (np.roll(mask, move, (0, 1)) for move in sorted(moves, key=lambda move: np.hypot(*move)))
    return next((other for other in chain([mask[:, ::-1]], shapes) if not (other & taken).any()), None)
