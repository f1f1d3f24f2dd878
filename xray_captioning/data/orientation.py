"""The way up of a picture: what EXIF says of how its pixels are to be turned.

Viewers, Pillow's `exif_transpose` and OpenCV's ordinary reading all turn it; a photograph of a film
is seldom the right way up otherwise. Scanners and the public collections write none.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xray_captioning.data.rasters import ORIENTATION, TIFF, tiff_pages, webp_chunks

_EXIF = b"Exif\0\0"
UPRIGHT = 1


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
    if data.startswith(b"\xff\xd8"):
        return _of_jpeg(data)
    if data.startswith(b"\x89PNG"):
        return _of_png(data)
    if data.startswith(TIFF):
        return data
    chunks = webp_chunks(data) if data.startswith(b"RIFF") else iter(())
    found = (data[at : at + size] for kind, at, size in chunks if kind == b"EXIF")
    return next(found).removeprefix(_EXIF)


def _of_jpeg(data: bytes) -> bytes:
    at = 2
    while data[at + 1] != 0xDA:  # the coded pixels
        size = struct.unpack_from(">H", data, at + 2)[0]
        if data[at + 1] == 0xE1 and data[at + 4 : at + 10] == _EXIF:
            return data[at + 10 : at + 2 + size]
        at += 1 if data[at + 1] == 0xFF else 2 + size
    raise ValueError("no EXIF")


def _of_png(data: bytes) -> bytes:
    at = 8
    while data[at + 4 : at + 8] != b"IEND":
        size = struct.unpack_from(">I", data, at)[0]
        if data[at + 4 : at + 8] == b"eXIf":
            return data[at + 8 : at + 8 + size]
        at += 12 + size
    raise ValueError("no EXIF")
