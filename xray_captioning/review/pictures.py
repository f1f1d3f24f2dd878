"""Radiographs as data URIs that a page carries in itself."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np

from xray_captioning.data.dicom.pixels import decode_dicom, is_dicom
from xray_captioning.data.images import MAX_PIXELS, opencv, read_image

LONGEST = 768  # pixels


def picture_uri(path: str, longest: int = LONGEST) -> str:
    """Return an image as a grey or colour PNG in a data URI, in its own proportions.

    Only pixels are carried over: no file name, no text chunk, no DICOM field.

    Parameters
    ----------
    path : str
        A PNG, JPEG or DICOM file.
    longest : int
        The longer side has at most so many pixels; nothing is enlarged.

    Returns
    -------
    str
        ``data:image/png;base64,…``.

    Raises
    ------
    ImageError
        If the file is missing or cannot be decoded.
    """
    cv2 = opencv()
    square = read_image(path, longest)  # refuses what is damaged
    height, width = _shape(Path(path).read_bytes(), path)
    scale = min(1.0, longest / max(height, width))
    if scale == 1:
        square = read_image(path, max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    pixels = np.rint(cv2.resize(square, size, interpolation=cv2.INTER_AREA) * 255).astype(np.uint8)
    grey = (pixels == pixels[..., :1]).all()
    stored = pixels[..., 0] if grey else pixels[..., ::-1]  # OpenCV writes BGR
    png = cv2.imencode(".png", stored)[1].tobytes()
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _shape(data: bytes, name: str) -> tuple[int, int]:
    """Return height and width."""
    if is_dicom(data):
        height, width = decode_dicom(data, name, MAX_PIXELS).shape[:2]
        return height, width
    cv2 = opencv()
    flags = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    height, width = image.shape[:2]
    return height, width
