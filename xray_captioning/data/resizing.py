"""Pixels to a square: the whole image, or the part that a published encoder was shown."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xray_captioning.errors import MissingExtraError

Stored = NDArray[Any]


def opencv() -> Any:
    """Return the module cv2, whichever distribution contains it, or raise MissingExtraError."""
    try:
        import cv2
    except ImportError as error:
        raise MissingExtraError(
            "images need OpenCV: pip install opencv-python-headless (opencv-python serves as well)"
        ) from error
    return cv2


def resized(image: Stored, size: int | None, resize: str, white: float) -> Stored:
    """Resize stored pixels, (height, width) or (height, width, channels), in the stored depth: to a
    square, in proportion, or not at all without a size; `white` is the stored value of white.
    """
    if size is not None and resize in _CUT:
        return _CUT[resize](image, size, white)
    height, width = image.shape[:2]
    wide, high = _new_shape(height, width, size, resize)
    if (high, wide) == (height, width):
        return image
    cv2 = opencv()
    usual = cv2.INTER_AREA if high <= height and wide <= width else cv2.INTER_LINEAR
    how = {"nearest": cv2.INTER_NEAREST, "linear": cv2.INTER_LINEAR}.get(resize, usual)
    return cv2.resize(np.ascontiguousarray(image), (wide, high), interpolation=how)


def _new_shape(height: int, width: int, size: int | None, resize: str) -> tuple[int, int]:
    """Return the width and height to resize to."""
    longer = max(height, width)
    if size is None or (resize == "shrink" and longer <= size):
        return width, height
    if resize in PICTURES:
        return max(1, round(width * size / longer)), max(1, round(height * size / longer))
    return size, size


def _torchxrayvision(image: Stored, size: int, white: float) -> Stored:
    """As its ``XRayCenterCrop`` and ``XRayResizer``, by scikit-image's ``resize``: a Gaussian
    filter of half of how many times it shrinks, less one, and linear interpolation; outside is half
    of white.
    """
    from scipy import ndimage

    side = min(image.shape[:2])
    image = _cut(image, side, [n // 2 - side // 2 for n in image.shape]).astype(np.float32)
    outside = {"mode": "grid-constant", "cval": white / 2}
    shrinks = image.shape[0] / size
    channels = image.ndim - 2
    found = image
    if shrinks > 1:
        sigma = [(shrinks - 1) / 2] * 2 + [0.0] * channels
        found = ndimage.gaussian_filter(image, sigma, **outside)
    zooms = [1 / shrinks] * 2 + [1.0] * channels
    found = ndimage.zoom(found, zooms, order=1, grid_mode=True, **outside)
    return np.clip(found, image.min(), image.max())


def _pillow(
    filter_name: str, share: float, whole: Callable[[float], int]
) -> Callable[[Stored, int, float], Stored]:
    """Return Pillow's resizing of the shorter side to `size` / `share`, of whose middle the square
    is cut, as those networks were trained: in whole numbers where it reads 8 bits.
    """

    def resize(image: Stored, size: int, white: float) -> Stored:
        from PIL import Image

        height, width = image.shape[:2]
        short, shorter = round(size / share), min(height, width)
        to = (int(short * width / shorter), int(short * height / shorter))
        kind = np.uint8 if image.dtype == np.uint8 else np.float32
        channels = np.moveaxis(np.atleast_3d(image), -1, 0).astype(kind)
        filtered = [
            np.asarray(Image.fromarray(channel).resize(to, Image.Resampling[filter_name]))
            for channel in channels
        ]
        found = np.clip(np.stack(filtered, -1).reshape(*to[::-1], *image.shape[2:]), 0, white)
        return _cut(found, size, [whole((n - size) / 2) for n in found.shape])

    return resize


def _cut(image: Stored, side: int, start: list[int]) -> Stored:
    top, left = start[:2]
    return image[top : top + side, left : left + side]


_CUT = {
    "xrv": _torchxrayvision,
    "torchvision": _pillow("BILINEAR", 224 / 256, round),  # of halves the even
    "rad-dino": _pillow("BICUBIC", 1, int),
}
"""Ways to cut a square out of the middle, as the projects of those names do."""
RESIZES = ("area", "nearest", "linear", *_CUT)
PICTURES = ("fit", "shrink")  # for people to look at, in proportion
