"""Pixels as files and Pillow hold them, which value is white, and what is told of an image. Many programs write the
10, 12 or 14 bits of a detector into files of 16 without saying so: divided by 65,535 they are nearly black. So whole
numbers of more than 8 bits are divided by what the bits in use can hold.
"""

import io
import math
import re
import struct
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xray_captioning.data.resizing import opencv
from xray_captioning.errors import ImageError, one_error

Note = Callable[[str, str], object]  # is given an image's name and what there is to tell
DEPTHS = (8, 10, 12, 14, 16)  # bits that detectors deliver
LITTLE = 0.1  # of the range; the faintest of 1,440 real radiographs uses .41 of it
FAINT = f"nearly all of its pixels lie within {LITTLE:.0%} of the range, so that it shows next to nothing; "
FAINT += "look at it, and export it anew if it should be a radiograph"
DAMAGED = ": is truncated, damaged or of a kind that is not read; get it again, or save it anew as PNG"
WANTED = "whole numbers from 0 to 255 or, of up to 16 bits, to 65535, or floating-point from 0 to 1"
_SAMPLE = 32  # lines and columns that are looked at
_PILLOW = ("L", "RGB", "RGBA", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")  # modes as they are
_TAILS = (0.005, 0.995)  # quantiles: markers and defective pixels do not count


def white(pixels: NDArray[Any]) -> float:
    """Return the value that stands for white: 255 of uint8, 1 of floating-point, else of the fewest bits possible."""
    # These are the first of `DEPTHS` that hold all pixels: 4,095 is white where the greatest is 3,000.
    if pixels.dtype.kind == "f":
        return 1.0
    bits = 8 if pixels.dtype == np.uint8 else int(pixels.max()).bit_length()
    return float(2 ** next(depth for depth in DEPTHS if depth >= bits) - 1)


def checked(pixels: NDArray[Any], name: str) -> NDArray[Any]:
    """Return pixels as uint8, uint16 or float32; refuse others than `WANTED`, and a single value."""
    kind = pixels.dtype.kind
    if kind not in "uif":
        raise ImageError(f"{name}: pixels of type {pixels.dtype} are refused; give {WANTED}")
    low, high = pixels.min(), pixels.max()
    most, what = (1, "floating-point") if kind == "f" else (65535, "whole numbers")
    if not (low >= 0 and high <= most):  # so that NaN is refused too
        raise ImageError(f"{name}: pixels lie outside the range, {what} from {low:g} to {high:g}; give {WANTED}")
    few, first = pixels[:: max(1, len(pixels) // 8)], pixels[0, 0]  # most are told by these
    if low == high or (pixels.ndim == 3 and (few == first).all() and (pixels == first).all()):
        value = ", ".join(f"{value:g}" for value in np.atleast_1d(first))
        what = f"all of its pixels have one value ({value}), so that it shows nothing"
        raise ImageError(f"{name}: {what}; get it again, or take it out")
    whole = np.uint8 if pixels.dtype == np.uint8 else np.uint16
    return pixels.astype(np.float32 if kind == "f" else whole, copy=False)


def check_size(height: int, width: int, name: str, max_pixels: float, max_ratio: float = math.inf) -> None:
    """Raise ImageError, before memory is taken for it, where an image is too large or too long."""
    told = f"{name}: {width} x {height} pixels are"
    if height * width > max_pixels:
        raise ImageError(f"{told} more than the limit of {max_pixels:,.0f}; shrink it, or raise the limit")
    if max(height, width) > max_ratio * min(height, width):
        raise ImageError(f"{told} a strip and no radiograph")


def on_black(pixels: NDArray[Any]) -> NDArray[Any]:
    """Composite a fourth channel, opacity, on black."""
    if pixels.ndim == 2 or pixels.shape[2] != 4:
        return pixels
    if pixels.dtype.kind == "f":
        return pixels[..., :3] * pixels[..., 3:]
    opacity = pixels[..., 3:].astype(np.float32) / np.iinfo(pixels.dtype).max
    return np.rint(pixels[..., :3] * opacity).astype(pixels.dtype)


def note_if_faint(pixels: NDArray[Any], name: str, note: Note) -> None:
    """Note an image that uses a small part of the range from black to white."""
    rows, columns = (max(1, side // _SAMPLE) for side in pixels.shape[:2])
    some = np.sort(pixels[::rows, ::columns], axis=None)
    low, high = (float(some[round(tail * (some.size - 1))]) for tail in _TAILS)
    if high - low < LITTLE * white(pixels):
        note(name, FAINT)


def is_pillow(image: object) -> bool:
    """Tell whether this is an image of Pillow, which is not imported for that."""
    return hasattr(image, "has_transparency_data")


def pillow_pixels(image: Any, name: str = "image") -> NDArray[Any]:
    """Return pixels of any mode upright, (height, width) or (height, width, 3); other colours than grey become RGB."""
    from PIL import ImageOps

    with one_error(ImageError, f"{name}{DAMAGED}"):  # Pillow reads the file only now
        image = ImageOps.exif_transpose(image)
        if image.has_transparency_data:
            image = image.convert("RGBA")
        elif image.mode not in _PILLOW:
            image = image.convert("L" if image.mode == "1" else "RGB")
        return on_black(np.asarray(image))


# `warnings.catch_warnings` works on the whole process: who holds this lock may use it.
catching = threading.RLock()


class ImageWarning(UserWarning):
    """`count` images are shown otherwise than their files say, or show next to nothing: `reason`."""

    def __init__(self, reason: str, names: Sequence[str]) -> None:
        self.reason, self.count = reason, len(names)
        others = f" (and {len(names) - 1} more images)" if len(names) > 1 else ""
        super().__init__(f"{names[0]}{others}: {reason}")


def warn(name: str, reason: str) -> None:
    """Warn of one image."""
    warn_together([(name, reason)])


def warn_together(told: Iterable[tuple[str, str]]) -> None:
    """Warn once for each reason, with the number of images."""
    names: dict[str, list[str]] = {}
    for name, reason in told:
        names.setdefault(reason, []).append(name)
    for reason, of in names.items():
        with catching:
            warnings.warn(ImageWarning(reason, of), stacklevel=1)


# --- files other than DICOM: Pillow tells what they are and whether they are whole, which OpenCV does
# not (it fills what is missing with grey or black, and reads the first of many pages). OpenCV decodes
# PNG and JPEG, faster by a fifth, and colours of 16 bits, of which Pillow would keep 8 ---

PNG, WEBP = b"\x89PNG\r\n\x1a\n", b"RIFF"
# What files begin with, and the module of Pillow that reads them; `Image.open` has limits of its own.
_KINDS = {PNG: "Png", b"\xff\xd8\xff": "Jpeg", b"II*\0": "Tiff", b"MM\0*": "Tiff", b"BM": "Bmp", WEBP: "WebP"}
_CRITICAL = {b"IHDR", b"PLTE", b"IDAT"}  # chunks of a PNG
_SCAN = 0xDA  # the marker before coded pixels of a JPEG
_BARE = frozenset(range(0xD0, 0xD8)) | {0x01}  # markers without a length
_AFTER_SCAN = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")  # the first marker that ends coded data
_MOST_SCANS = 64  # progressive images have about ten; a few bytes make one over all pixels
_MOST_PAGES = 64
_MOST_TILE = 1 << 24  # pixels; memory is taken for a whole one
_SUBFILE, _PHOTOMETRIC, _SAMPLE_FORMAT, _TILE = 254, 262, 339, (322, 323)  # tags of a TIFF
_REDUCED, _WHITE_IS_ZERO, _SIGNED = 1, 0, 2  # their values; the first is a smaller copy of another page
_OTHERS = ("CMYK", "I", "LAB")  # modes of Pillow that are not read from a TIFF


def is_known(data: bytes) -> bool:
    """Tell whether bytes begin as one of these files does."""
    return data.startswith(tuple(_KINDS)) and not (data.startswith(WEBP) and data[8:12] != b"WEBP")


def decoded(data: bytes, name: str, max_pixels: float, max_ratio: float) -> NDArray[Any]:
    """Return pixels (height, width) or (height, width, 3), RGB, in the depth that is stored; others: an ImageError."""
    with one_error(ImageError, f"{name}{DAMAGED}"):
        image = _opened(data, name)
        check_size(image.height, image.width, name, max_pixels, max_ratio)
        deep = image.format in ("PNG", "TIFF") and image.mode[0] != "I" and "16" in str(image.tile[0][3])
        if deep or (image.format in ("PNG", "JPEG") and b"eXIf" not in data and b"Exif\0" not in data):
            pixels = on_black(opencv().imdecode(np.frombuffer(data, np.uint8), opencv().IMREAD_UNCHANGED))
            return pixels if pixels.ndim == 2 else pixels[..., ::-1]
        pixels = pillow_pixels(image, name)
    if pixels.dtype != np.uint8 and image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        pixels = pixels.dtype.type(white(pixels)) - pixels  # 8 bits are inverted by Pillow
    return pixels


def _opened(data: bytes, name: str) -> Any:
    kind = next(kind for start, kind in _KINDS.items() if data.startswith(start))
    if kind == "Jpeg":
        check_jpeg(data)
    module = import_module(f"PIL.{kind}ImagePlugin")
    with catching, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd tags
        if kind == "Tiff":
            warnings.filterwarnings("error", "Tag |Possibly |Corrupt ")  # of tags that are cut off
            # White is zero, the most significant byte first, 16 bits: the one such kind that Pillow lacks.
            module.OPEN_INFO.setdefault((b"MM", 0, (1,), 1, (16,), ()), ("I;16B", "I;16B"))
        open_file = getattr(module, f"{kind}ImageFile")
        image = open_file(io.BytesIO(data))
        if kind == "Png":  # checksums are not looked at while it is decoded
            image.fp.seek(len(PNG))
            found = {bytes(chunk) for chunk in image.png.verify()}
            if any(chunk[:1].isupper() for chunk in found - _CRITICAL):
                raise ValueError("a critical chunk is unknown")  # libpng would print its name
            image = open_file(io.BytesIO(data))
        _check_kind(image, name)
    return image


def _check_kind(image: Any, name: str) -> None:
    """Refuse what would be read as something else than the file means."""
    if image.format == "WEBP" and image.is_animated:
        raise ImageError(f"{name}: is an animation; save one picture of it")
    if image.format != "TIFF":
        return
    if image.mode in _OTHERS or image.tag_v2.get(_SAMPLE_FORMAT, (1,))[0] == _SIGNED:
        raise ValueError("its values are no grey or RGB of 8 or 16 bits or floating-point")
    if math.prod(image.tag_v2.get(side, 0) for side in _TILE) > _MOST_TILE:
        raise ValueError("its tiles are too large")
    pages = 0
    for page in range(min(image.n_frames, _MOST_PAGES)):
        image.seek(page)
        pages += not image.tag_v2.get(_SUBFILE, 0) & _REDUCED
    if pages != 1:
        raise ImageError(f"{name}: holds {pages} pages; save one as a file of its own")
    image.seek(0)


def check_jpeg(data: bytes) -> None:
    """Refuse a JPEG that is cut off, or made to take very long; decoders do not."""
    if sum(marker == _SCAN for marker, _ in jpeg_segments(data)) > _MOST_SCANS:
        raise ValueError("it has too many scans")


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the marker and the place of each segment's content, to the end's (T.81, B.1.1.3)."""
    at = 2
    while (marker := data[at + 1]) != 0xD9:
        if data[at] != 0xFF:
            raise ValueError("a marker is missing")
        if marker == 0xFF or marker in _BARE:
            at += 1 if marker == 0xFF else 2  # the first is a fill byte
            continue
        yield marker, at + 4
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
        if marker == _SCAN:
            if (found := _AFTER_SCAN.search(data, at)) is None:
                raise ValueError("its end is missing")
            at = found.end() - 2
