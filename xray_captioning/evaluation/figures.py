"""Small images inside the report page."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xray_captioning.data.images import read_image
from xray_captioning.errors import ImageError

THUMBNAIL = 176
"""Pixels of a side: what a card of the page shows, and a few kilobytes."""


def thumbnail(path: str) -> str | None:
    """Return a small copy of an image as a data URI, or None where it cannot be read."""
    import cv2

    if not Path(path).is_file():
        return None
    try:
        pixels: NDArray[np.float32] = read_image(path, THUMBNAIL)
    except ImageError:
        return None
    grey = (255 * pixels[..., 0]).round().clip(0, 255).astype(np.uint8)
    data = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
