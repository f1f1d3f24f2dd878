"""Image files to float32 pixels: decode, resize, normalise, augment. The whole image is resized to a square,
whatever its shape: the source projects train so, and a crop could lose what the report speaks about.
"""

import math
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Union

import numpy as np
from numpy.typing import NDArray

from xray_captioning.config import NORMALISATION, RESIZE, RESIZES
from xray_captioning.data import levels, opening, resizing, studies
from xray_captioning.data.dicom.pixels import decode_dicom, view_of
from xray_captioning.data.dicom.reading import PREAMBLE, is_dicom
from xray_captioning.data.stores import is_address, read
from xray_captioning.errors import ConfigError, ImageError, StoreError, XrayCaptioningError
from xray_captioning.files import read_toml

if TYPE_CHECKING:
    import PIL.Image

Pixels = NDArray[np.float32]
# The path or the bytes of an image file, an image of Pillow in any mode, or pixels: shape (height,
# width, 3), RGB, or grey, (height, width) or (height, width, 1); whole numbers, whose white
# `xray_captioning.data.levels.white` tells, or floating-point from 0 to 1.
Image = Union[str, os.PathLike[str], bytes, NDArray[Any], "PIL.Image.Image"]
_FILES = (str, os.PathLike, bytes)
MAX_PIXELS = 64e6  # 8,000 x 8,000; the largest radiographs have about 20 million
# Mean and deviation of red, green and blue in [0, 1] that a scheme subtracts and divides by.
SCHEMES = {
    name: tuple(tuple(x / of["white"] for x in of[what]) for what in ("mean", "deviation"))
    for name, of in read_toml(__file__, "schemes.toml").items()
}


def read_images(sources: Sequence[Image], size: int = 224, resize: str = "area", parallel: bool = True) -> Pixels:
    """Read images as `read_image` does, `parallel` or one by one: (n, size, size, 3); a warning of several is one."""
    told: list[tuple[str, str]] = []
    decode = partial(read_image, size=size, resize=resize, note=lambda *what: told.append(what))
    images = np.empty((len(sources), size, size, 3), np.float32)
    parallel &= not all(isinstance(source, np.ndarray) for source in sources)  # copied sooner than threads start
    with ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool:  # cv2 and zlib free the GIL
        for target, pixels in zip(images, (pool.map if parallel else map)(decode, sources)):
            target[:] = pixels
    levels.warn_together(told)
    return images


def known_views(images: Sequence[Image], views: Sequence[str] | None = None) -> list[str]:
    """Return each image's view: as given, else as a DICOM file names it, which needs pydicom, else unknown."""
    pairs = zip(images, [studies.UNKNOWN] * len(images) if views is None else views, strict=True)
    return [view_of(image) if view == studies.UNKNOWN and isinstance(image, _FILES) else view for image, view in pairs]


def arranged(images: Sequence[Image | None], count: int, views: Sequence[str] | None = None) -> list[Image | None]:
    """Put a study's images into a model's places (`select_images`), unless one is None; one too many: ImageError."""
    given = [image for image in images if image is not None]
    if len(given) < len(images):
        return list(images)
    names = known_views(given, views)
    chosen = studies.select_images(given, names, count)
    if sum(image is not None for image in chosen) < len(given):
        places = "one frontal and one lateral image" if count == 2 else f"{count} images"
        what = f"{len(given)} images ({', '.join(names)}), but this model looks at {places}"
        raise ImageError(f"{what}; choose among them")
    return chosen


def unreadable(paths: Sequence[str]) -> list[str | None]:
    """Return why each image cannot be read, None where it can; of a store that is gone a StoreError."""
    with ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool:
        return list(pool.map(_unreadable, paths))


def _unreadable(path: str) -> str | None:
    try:
        read_image(path, size=1, resize="nearest", note=lambda *_: None)
    except StoreError:
        raise
    except (XrayCaptioningError, OSError) as error:
        return " ".join(str(error).split())
    return None


def read_image(source: Image, size: int | None = 224, resize: str = "area", note: levels.Note = levels.warn) -> Pixels:
    """Read an image as RGB in [0, 1], shape (size, size, 3), float32; see `decode_image`."""
    # `note` tells if it is shown otherwise than its file says, or shows next to nothing.
    given: Any = levels.pillow_pixels(source) if levels.is_pillow(source) else source
    if isinstance(given, np.ndarray):
        if not given.size or given.shape[2:] not in ((), (1,), (3,)) or given.ndim < 2:
            advice = f"give (height, width), with or without a last axis of 1 or 3; {levels.WANTED}"
            raise ImageError(f"image: pixels of shape {given.shape} are refused; {advice}")
        return _picture(given, "image", size, resize, note)
    data, name = (given, "image") if isinstance(given, bytes) else (_file(os.fspath(given)), os.fspath(given))
    return decode_image(data, name, size, resize, note=note)


def _picture(stored: NDArray[Any], name: str, size: int | None, resize: str, note: levels.Note) -> Pixels:
    """Resize pixels in the depth they are stored in, then scale them to RGB in [0, 1], float32."""
    stored = levels.checked(stored, name)
    levels.note_if_faint(stored, name, note)
    white = levels.white(stored)
    unit = np.divide(resizing.resized(stored, size, resize, white), white, dtype=np.float32)
    np.clip(unit, 0.0, 1.0, out=unit)  # an average of fractions is rounded, and may be above all of them
    grey = unit.ndim == 2 or unit.shape[2] == 1
    return np.repeat(unit.reshape(*unit.shape[:2], 1), 3, axis=2) if grey else np.ascontiguousarray(unit)


def _file(name: str) -> bytes:
    if is_address(name):
        return read(name)
    if not os.path.isfile(name):
        what = "is not a file" if os.path.exists(name) else "does not exist"
        raise ImageError(f"{name}: {what}; give the path of an image")
    try:
        with open(name, "rb") as file:
            start = file.read(PREAMBLE)
            _check_known(start, name)  # so that a huge file of another kind is not loaded
            return start + file.read()
    except OSError as error:
        raise ImageError(f"{name}: cannot be read ({error.strerror})") from error


def decode_image(
    data: bytes,
    name: str,
    size: int | None = 224,
    resize: str = "area",
    max_pixels: float = MAX_PIXELS,
    max_ratio: float = math.inf,
    note: levels.Note = levels.warn,
) -> Pixels:
    """Decode a PNG, JPEG, TIFF, BMP, WebP or DICOM file: RGB in [0, 1], float32, (size, size, 3), or as large as it is.

    Values are divided by that of white (`xray_captioning.data.levels.white`), transparency is composited on black, and
    the picture is turned as EXIF says. `resize` is one of docs/encoders.md ('area' enlarges linearly) or, for people
    to look at, 'fit', which makes the longer side `size` pixels in proportion, or 'shrink', which enlarges nothing.
    An image that cannot be decoded, has more than `max_pixels` or one side of more than `max_ratio` times the
    other (before memory is taken for it), or shows a single value is an ImageError.
    """
    if not re.match(RESIZE, resize) and resize not in resizing.PICTURES:
        raise ConfigError(f"resize {resize!r} is unknown; choose one of {', '.join(RESIZES)}")
    if size is not None and size < 1:
        raise ConfigError(f"the image size is {size} pixels; it must be at least 1")
    if is_dicom(data):
        image = decode_dicom(data, name, max_pixels, note)
        levels.check_size(image.shape[0], image.shape[1], name, max_pixels, max_ratio)
    else:
        _check_known(data, name)
        image = levels.decoded(data, name, max_pixels, max_ratio)
    return _picture(image, name, size, resize, note)


def normalise(images: NDArray[Any], scheme: str) -> Pixels:
    """Scale RGB in [0, 1], shape (..., 3), as an encoder expects it, by a name of `SCHEMES` or by six numbers."""
    # 'imagenet', 'signed' and 'caffe', which is BGR, are the modes torch, tf and caffe of `keras.applications`.
    if not re.match(NORMALISATION, scheme):
        raise ConfigError(f"normalisation {scheme!r} is unknown; choose {' or '.join(SCHEMES)}")
    images = np.asarray(images, np.float32)
    if scheme == "unit":
        return images
    line = images.shape[-2] if images.ndim > 1 else 1
    mean, deviation = scaling(scheme, line)
    scaled = ((images.reshape(*images.shape[:-2], 3 * line) - mean) / deviation).reshape(images.shape)
    return scaled[..., ::-1] if scheme == "caffe" else scaled


def scaling(scheme: str, line: int) -> Pixels:
    """Return mean and deviation for whole lines of pixels, (2, 3 * line): a last axis of three is slow."""
    return np.tile(np.array(SCHEMES.get(scheme, [part.split(",") for part in scheme.split("/")]), np.float32), line)


def augment(images: Pixels, rng: np.random.Generator) -> Pixels:
    """Vary images (n, h, w, channels), float32 in [0, 1], before `normalise`, as positioning and exposure vary."""
    # Nothing is mirrored: left and right are words of the report.
    n, height, width, _ = images.shape
    varied = np.empty(images.shape, np.float32)
    for source, target in zip(images, varied, strict=True):
        target[:] = _moved(source, rng)
    contrast, brightness, gamma = (
        rng.uniform(low, high, (n, 1, 1, 1)).astype(np.float32)
        for low, high in ((0.9, 1.1), (-0.05, 0.05), (0.85, 1.18))
    )
    np.power(varied, gamma, out=varied)
    varied *= contrast
    varied += brightness + 0.01 * rng.standard_normal((n, height, width, 1), np.float32)
    return np.clip(varied, 0.0, 1.0, out=varied)


def _moved(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Rotate, scale and shift one image; what comes in from outside is black."""
    cv2 = resizing.opencv()
    height, width = image.shape[:2]
    angle, scale = rng.uniform(-7.0, 7.0), rng.uniform(0.92, 1.08)
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, scale)
    matrix[:, 2] += rng.uniform(-0.05, 0.05, 2) * (width, height)
    moved = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR)
    # OpenCV drops a single channel. Values rounded below 0 would have no power in `augment`.
    return np.clip(moved.reshape(image.shape), 0.0, 1.0)


def _check_known(start: bytes, name: str) -> None:
    """Refuse what does not begin as any kind of image that is read."""
    if not (is_dicom(start) or levels.is_known(start)):
        other = None if b"\0" in start else opening.what_else(start)
        known = "is none of PNG, JPEG, TIFF, BMP, WebP and DICOM; convert it"
        what = f"is {other}; get the image itself" if other else known
        raise ImageError(f"{name}: {what if start else 'is empty; get it again'}, or take it out")
