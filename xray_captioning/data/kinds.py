"""The kinds of image files other than DICOM, told by their first bytes, and which way up they are.

Viewers, Pillow's `exif_transpose` and OpenCV's ordinary reading turn a picture as EXIF says; a
photograph of a film is seldom the right way up otherwise. Scanners and the public collections write
none.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xray_captioning.data.containers import (
    JPEG,
    JPEG_SCAN,
    ORIENTATION,
    PNG,
    TIFF,
    check_bmp,
    check_jpeg,
    check_png,
    check_tiff,
    check_webp,
    jpeg_segments,
    png_chunks,
    tiff_pages,
    webp_chunks,
)

UPRIGHT = 1

_CHECKS: dict[tuple[bytes, ...], Callable[[bytes], tuple[int, int]]] = {
    (PNG,): check_png,
    (JPEG,): check_jpeg,
    TIFF: check_tiff,
    (b"BM",): check_bmp,
    (b"RIFF",): check_webp,
}


def is_known(data: bytes) -> bool:
    """Tell whether bytes begin as one of these files does."""
    return _check_of(data) is not None


def is_tiff(data: bytes) -> bool:
    """Tell whether bytes begin as a TIFF does."""
    return data.startswith(TIFF)


def container_shape(data: bytes) -> tuple[int, int]:
    """Check the structure of a file and return the height and width of its picture, upright.

    Raise ValueError, struct.error or LookupError where it is damaged, ValueError with the reason.
    """
    check = _check_of(data)
    if check is None:
        raise ValueError("it is of no kind that is read")
    height, width = check(data)
    return (width, height) if orientation(data) >= 5 else (height, width)


def _check_of(data: bytes) -> Callable[[bytes], tuple[int, int]] | None:
    if data.startswith(b"RIFF") and data[8:12] != b"WEBP":
        return None
    return next((check for starts, check in _CHECKS.items() if data.startswith(starts)), None)


def orientation(data: bytes) -> int:
    """Return EXIF's orientation of an image file, 1 to 8; 1, which is upright, where it has none.

    Where it is damaged nothing is turned, either.
    """
    try:
        page = next(tiff_pages(_exif(data)))
        (value,) = page.get(ORIENTATION, (UPRIGHT,))
    except (struct.error, ValueError, IndexError, StopIteration):
        return UPRIGHT
    return value if 1 <= value <= 8 else UPRIGHT


def turned(pixels: NDArray[Any], value: int) -> NDArray[Any]:
    """Turn pixels (height, width, ...) as EXIF's orientation says (Exif 2.32, 4.6.4)."""
    if value >= 5:  # rows and columns change places
        pixels = pixels.swapaxes(0, 1)
    if value in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if value in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _exif(data: bytes) -> bytes:
    """Return the small TIFF that EXIF is, of a file whose structure has been checked."""
    if data.startswith(TIFF):
        return data
    for kind, at, size in _parts(data):
        if kind in (0xE1, b"eXIf", b"EXIF"):
            exif = data[at : at + size].removeprefix(b"Exif\0\0")
            if exif.startswith(TIFF):
                return exif
        if kind == JPEG_SCAN:
            break
    raise ValueError("no EXIF")


def _parts(data: bytes) -> Iterator[tuple[bytes | int, int, int]]:
    if data.startswith(JPEG):
        yield from jpeg_segments(data)
    elif data.startswith(PNG):
        yield from png_chunks(data)
    elif data.startswith(b"RIFF"):
        yield from webp_chunks(data)
