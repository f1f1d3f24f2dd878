"""The kinds of image files other than DICOM, told by their first bytes."""

from __future__ import annotations

from collections.abc import Callable

from xray_captioning.data.containers import JPEG, PNG, check_jpeg, check_png
from xray_captioning.data.orientation import orientation
from xray_captioning.data.rasters import TIFF, check_bmp, check_tiff, check_webp

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
