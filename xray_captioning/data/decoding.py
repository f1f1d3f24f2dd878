"""Image files other than DICOM to the pixels that are stored in them, by Pillow, upright.

OpenCV, which is as fast, fills what a damaged file lacks with grey or black, reads the first of many
pages, and lets libpng print what a PNG contains; so it reads colours of 16 bits only, of which Pillow
would keep 8.
"""

import io
import math
import re
import struct
import warnings
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xray_captioning.data import levels
from xray_captioning.data.notes import catching
from xray_captioning.data.resizing import opencv
from xray_captioning.errors import ImageError

PNG, WEBP = b"\x89PNG\r\n\x1a\n", b"RIFF"
# What files begin with, and the module of Pillow that reads them; `Image.open` has limits of its own.
_KINDS = {PNG: "Png", b"\xff\xd8\xff": "Jpeg", b"II*\0": "Tiff", b"MM\0*": "Tiff", b"BM": "Bmp", WEBP: "WebP"}
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
    """Return pixels (height, width) or (height, width, 3), RGB, in the depth that is stored; an
    ImageError where the file is damaged, too large or of another kind, before memory is taken for it.
    """
    try:
        image = _opened(data, name)
        levels.check_size(image.height, image.width, name, max_pixels, max_ratio)
        return _deep_colour(data) if _is_deep_colour(image) else _pixels(image)
    except ImageError:
        raise
    except Exception as error:  # Pillow raises many kinds
        raise ImageError(
            f"{name}: is truncated, damaged or of a kind that is not read; get it again, or save it anew as PNG"
        ) from error


def _opened(data: bytes, name: str) -> Any:
    """Return an image of Pillow, whose pixels are not decoded yet."""
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
        if kind == "Png":
            open_file(io.BytesIO(data)).verify()  # the checksums, which decoding does not look at
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


def _pixels(image: Any) -> NDArray[Any]:
    # Pillow inverts 8 bits itself where white is zero.
    inverted = image.mode[0] in "IF" and image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    pixels = levels.upright_pixels(image)
    return pixels.dtype.type(levels.white(pixels)) - pixels if inverted else pixels


def _is_deep_colour(image: Any) -> bool:
    return image.format in ("PNG", "TIFF") and image.mode[0] != "I" and "16" in str(image.tile[0][3])


def _deep_colour(data: bytes) -> NDArray[Any]:
    cv2 = opencv()
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError("its pixels cannot be decoded")
    return levels.on_black(image)[..., ::-1]


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
            found = _AFTER_SCAN.search(data, at)
            if found is None:
                raise ValueError("its end is missing")
            at = found.end() - 2
