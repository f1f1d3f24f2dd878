"""Digests of what images show, by which an image is recognised in another format."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xray_captioning.data.features import Array, ArrayCache
from xray_captioning.data.images import opencv, read_image

if TYPE_CHECKING:
    import pandas as pd

VERSION = 2  # of what the digests are made of; those of images differ in the first
LENGTH = 6  # bytes: of a million images one in 280 million others is taken for one of them
SIDE, LEVELS = 16, 64  # what of an image is compared: means of 16 x 16 fields, in 64 steps
BLANK = bytes(LENGTH)  # in place of the digest of an image that shows nothing
LEAST_RANGE = 0.01  # of an image's fields, in [0, 1]; it is blank below


def study_digests(studies: pd.DataFrame, cache: str | Path | None) -> list[set[str]]:
    """Return digests of what each study's images show, whatever the files' names and formats.

    One is the beginning of the SHA-256 of the means of 16 x 16 fields, from the least to the
    greatest in 64 steps. So it is the same for grey or RGB, 8 or 16 bits and a DICOM file of other
    units; a step is large beside the rounding errors of float32. Blank images have none.
    """
    settings = {"digest": "fields", "version": VERSION, "side": SIDE, "levels": LEVELS}
    digests = ArrayCache(cache, settings)
    digests.fill((path for row in studies["images"] for path in row), _fields, "compare images")
    found = [{digests[path].tobytes() for path in row} - {BLANK} for row in studies["images"]]
    return [set(map(digest_text, study)) for study in found]


def _fields(paths: list[str]) -> np.ndarray[Any, Any]:
    rows = b"".join(_field_digest(read_image(path, None)) for path in paths)
    return np.frombuffer(rows, np.uint8).reshape(-1, LENGTH)


def _field_digest(image: Array) -> bytes:
    cv2 = opencv()
    fields = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA).mean(axis=-1)
    least, most = fields.min(), fields.max()
    if most - least < LEAST_RANGE:
        return BLANK
    # Halves of a step are frequent among means of integers, and rounding would be by chance.
    steps = np.floor((fields - least) / (most - least) * LEVELS + 0.3819).astype("uint8")
    return hashlib.sha256(steps.tobytes()).digest()[:LENGTH]


def digest_text(digest: bytes) -> str:
    """Return a digest as 8 letters, digits, hyphens or underscores."""
    return base64.urlsafe_b64encode(digest).decode()
