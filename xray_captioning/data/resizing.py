"""Pixels to a square: the whole image, or the part that a published encoder was shown."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xray_captioning.errors import ConfigError, MissingExtraError
from xray_captioning.files import read_toml

Stored = NDArray[Any]
PICTURES = ("fit", "shrink")  # for people to look at, in proportion
_CHEXZERO = 320  # px, a square of which is stored


def opencv() -> Any:
    """Return the module cv2, whichever distribution contains it, or raise MissingExtraError."""
    try:
        import cv2
    except ImportError as error:
        advice = "pip install opencv-python-headless (opencv-python serves as well)"
        raise MissingExtraError(f"images need OpenCV: {advice}") from error
    return cv2


def resized(image: Stored, size: int | None, resize: str, white: float) -> Stored:
    """Resize pixels in their stored depth: to a square, in proportion, or not at all without a size."""
    if size is None:
        return image
    if (rule := rule_of(resize)) is not None:
        return _by_rule(image, size, rule, white)
    if resize in ("xrv", "chexzero"):
        return (_torchxrayvision if resize == "xrv" else _chexzero)(image, size, white)
    (height, width), (high, wide) = image.shape[:2], (size, size)
    if resize in PICTURES:
        longer = max(height, width, size if resize == "shrink" else 0)
        high, wide = (max(1, round(side * size / longer)) for side in (height, width))
    if (high, wide) == (height, width):
        return image
    cv2 = opencv()
    usual = cv2.INTER_AREA if high <= height and wide <= width else cv2.INTER_LINEAR
    how = {"nearest": cv2.INTER_NEAREST, "linear": cv2.INTER_LINEAR}.get(resize, usual)
    return cv2.resize(np.ascontiguousarray(image), (wide, high), interpolation=how)


def _torchxrayvision(image: Stored, size: int, white: float) -> Stored:
    """As its ``XRayCenterCrop`` and ``XRayResizer``, by scikit-image's ``resize``; outside is half of white."""
    # That is a Gaussian filter of half of how many times it shrinks, less one, and linear interpolation.
    from scipy import ndimage

    side = min(image.shape[:2])
    image = _cut(image, side, [n // 2 - side // 2 for n in image.shape]).astype(np.float32)
    outside = {"mode": "grid-constant", "cval": white / 2}
    shrinks, sides = side / size, np.array([1, 1, 0][: image.ndim])
    found = ndimage.gaussian_filter(image, max(shrinks - 1, 0) / 2 * sides, **outside)
    found = ndimage.zoom(found, (1 / shrinks) ** sides, order=1, grid_mode=True, **outside)
    return np.clip(found, image.min(), image.max())


class Rule(NamedTuple):
    """How an encoder's own library makes a square: what resizes, and what is cut out of it."""

    library: str  # pillow, or transformers: torchvision on tensors, as its newest version does
    filter: str
    share: float | None = None  # of the shorter side to the square; None: it all becomes the square
    whole: Callable[[float], int] = int  # where the middle begins; `round` takes of halves the even

    def shape(self, height: int, width: int, size: int) -> tuple[int, int]:
        """Return the height and width that an image is resized to."""
        if self.share is None:
            return size, size
        short, shorter = round(size * self.share), min(height, width)
        return int(short * height / shorter), int(short * width / shorter)


@cache
def rule_of(resize: str) -> Rule | None:
    """Return the rule of a name or of a text such as ``transformers-bicubic-256/224``, None where there is another."""
    library, _, rest = read_toml(__file__, "rules.toml").get(resize, resize).partition("-")
    if library not in ("pillow", "transformers"):
        return None
    filter_name, _, share = rest.partition("-")
    above, _, below = share.partition("/")
    if filter_name not in _KERNELS or (share and int(above) < int(below)):
        raise ConfigError(f"resize {resize!r} is unknown; write it as pillow-bicubic-256/224")
    whole = round if resize in ("torchvision", "open-clip") else int
    return Rule(library, filter_name, int(above) / int(below) if share else None, whole)


def _by_rule(image: Stored, size: int, rule: Rule, white: float) -> Stored:
    """Resize and cut, of 8 bits in whole numbers as those libraries do."""
    height, width = image.shape[:2]
    to = rule.shape(height, width, size)
    if rule.library == "pillow" or image.dtype != np.uint8:
        image = np.clip(_pillow(image, to, rule.filter), 0, white)
    else:
        for axis in (1, 0):
            image = _filtered(image, to[axis], axis, rule.filter)
    return _cut(image, size, [rule.whole((n - size) / 2) for n in to])


def _pillow(image: Stored, to: tuple[int, int], filter_name: str) -> Stored:
    from PIL import Image

    kind = np.uint8 if image.dtype == np.uint8 else np.float32
    channels, how = np.moveaxis(np.atleast_3d(image), -1, 0).astype(kind), Image.Resampling[filter_name.upper()]
    found = [np.asarray(Image.fromarray(channel).resize(to[::-1], how)) for channel in channels]
    return np.stack(found, -1).reshape(*to, *image.shape[2:])


def _filtered(image: Stored, count: int, axis: int, filter_name: str) -> Stored:
    """Resize one axis as PyTorch does with antialiasing; 8 bits by its rounded whole weights."""
    if image.shape[axis] == count:
        return image
    weights, one = filter_weights(image.shape[axis], count, filter_name), 1.0
    if image.dtype == np.uint8:  # as many bits as let the largest weight be an int16
        most = float(weights.max())
        one = 2.0 ** next((p for p in range(22) if int(most * 2 ** (p + 1) + 0.5) >= 2**15), 22)
        weights = np.trunc(weights * one + np.copysign(0.5, weights))
    found = np.moveaxis(np.tensordot(weights, image.astype(float), (1, axis)), 0, axis)
    return found if image.dtype != np.uint8 else np.clip(np.floor(found / one + 0.5), 0, 255).astype(np.uint8)


def filter_weights(before: int, after: int, filter_name: str) -> NDArray[np.float64]:
    """Return the weights (after, before) that shrink or enlarge a line with antialiasing."""
    # As Pillow and PyTorch compute them (ATen's ``UpSampleKernel.cpp``): the filter is as much wider as the line
    # shrinks, and the weights of what lies in the line are made to sum to 1.
    kernel, reach = _KERNELS[filter_name]
    scale = before / after
    wide, centre = max(scale, 1.0), (np.arange(after)[:, None] + 0.5) * scale
    place, first = np.arange(before), np.maximum((centre - reach * wide + 0.5).astype(int), 0)
    inside = (place >= first) & (place < (centre + reach * wide + 0.5).astype(int))
    weights = np.where(inside, kernel(np.abs(place + 0.5 - centre) / wide), 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


def cubic(x: Any, a: float = -0.5) -> Any:
    """Return Keys' cubic convolution kernel at distances (IEEE TASSP 29, 1981)."""
    near, far = ((a + 2) * x - (a + 3)) * x * x + 1, ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


_KERNELS: dict[str, tuple[Callable[[Any], Any], int]] = {
    "bilinear": (lambda x: np.maximum(1 - x, 0.0), 1),
    "bicubic": (cubic, 2),
}


def _chexzero(image: Stored, size: int, white: float) -> Stored:
    """As its ``data_process.py`` and ``zero_shot.py`` do: on black, grey, then with fractions."""
    height, width = (max(1, int(n * _CHEXZERO / max(image.shape[:2]))) for n in image.shape[:2])
    square = np.zeros((_CHEXZERO, _CHEXZERO), np.float32)
    top, left = (_CHEXZERO - height) // 2, (_CHEXZERO - width) // 2
    found = np.clip(_pillow(np.atleast_3d(image), (height, width), "lanczos"), 0, white)
    if found.shape[2] == 3:  # Pillow's grey, of 8 bits rounded
        found = found @ (np.array([[19595], [38470], [7471]]) / 65536)
        found = np.floor(found + 0.5) if image.dtype == np.uint8 else found
    square[top : top + height, left : left + width] = found[..., 0]
    return _filtered(_filtered(square, size, 1, "bicubic"), size, 0, "bicubic")


def _cut(image: Stored, side: int, start: list[int]) -> Stored:
    top, left = start[:2]
    return image[top : top + side, left : left + side]


def seen_part(height: int, width: int, size: int, resize: str) -> tuple[float, float, float, float]:
    """Return top, left, height and width of what is seen, in shares; outside the image is black."""
    if (rule := rule_of(resize)) is not None:
        to = rule.shape(height, width, size)
        top, left = (rule.whole((n - size) / 2) / n for n in to)
        return top, left, size / to[0], size / to[1]
    if resize in ("xrv", "chexzero"):
        side = (min if resize == "xrv" else max)(height, width)
        return (1 - side / height) / 2, (1 - side / width) / 2, side / height, side / width
    return 0.0, 0.0, 1.0, 1.0
