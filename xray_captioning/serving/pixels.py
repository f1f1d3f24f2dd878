"""Files that strangers send, to pixels."""

from __future__ import annotations

import contextlib
import struct

import numpy as np

from xray_captioning.data.containers import JPEG, PNG, check_jpeg, check_png
from xray_captioning.data.dicom import decode_dicom, is_dicom
from xray_captioning.data.images import Pixels, decode_image, read_image
from xray_captioning.errors import ImageError

LONGEST = 10  # times as long as wide; radiographs of a whole leg have three


def to_pixels(data: bytes, name: str, size: int, resize: str, max_pixels: float) -> Pixels:
    """Decode a file as `decode_image` does, but refuse strips, which no radiograph is.

    Parameters
    ----------
    data : bytes
    name : str
        What to call it in messages.
    size, resize, max_pixels
        As `decode_image` takes them.

    Returns
    -------
    ndarray, shape (size, size, 3), float32
        RGB in [0, 1].

    Raises
    ------
    ImageError
        It is no image that can be used.
    MissingExtraError
        It is DICOM and pydicom is not installed.
    """
    if is_dicom(data):  # says its shape when it is decoded, which shall be once
        image = decode_dicom(data, name, max_pixels)
        _check_shape(image.shape[:2], name)
        colours = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
        return read_image(colours, size, resize)
    _check_shape(_shape(data), name)
    return decode_image(data, name, size, resize, max_pixels)


def _shape(data: bytes) -> tuple[int, int]:
    with contextlib.suppress(ValueError, struct.error, IndexError):
        if data.startswith(PNG):
            return check_png(data)
        if data.startswith(JPEG):
            return check_jpeg(data)
    return 1, 1  # what is wrong is said when it is decoded


def _check_shape(shape: tuple[int, ...], name: str) -> None:
    if max(shape) > LONGEST * min(shape):
        raise ImageError(f"{name}: {shape[1]} x {shape[0]} pixels are a strip and no radiograph")
