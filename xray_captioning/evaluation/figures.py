"""Small images inside the report page."""

from __future__ import annotations

from pathlib import Path

from xray_captioning.data.images import read_image
from xray_captioning.errors import ImageError
from xray_captioning.plots import data_uri

THUMBNAIL = 176
"""Pixels of a side: what a card of the page shows, and a few kilobytes."""


def thumbnail(path: str) -> str | None:
    """Return a small copy of an image as a data URI, or None where it cannot be read."""
    if not Path(path).is_file():
        return None
    try:
        return data_uri(read_image(path, THUMBNAIL)[..., 0], ".jpg")
    except ImageError:
        return None
