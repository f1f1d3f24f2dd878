"""Image files other than DICOM: of which kind, whether whole, how large, and which way up.

They are checked from start to end before anything decodes them: OpenCV fills what is missing with
grey or black, reads the first of many pages, decodes thousands of scans of a JPEG and lets libpng
print what a PNG contains; Pillow checks no JPEG's end without decoding it all. What is damaged
raises ValueError, with the reason, struct.error or LookupError.
"""

import io
import math
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xray_captioning.errors import ImageError


class UnreadKindError(ValueError):
    """The file is whole, but of a kind that is not read."""


PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
JPEG_SCAN = 0xDA  # the marker before coded pixels
_MOST_SCANS = 64  # progressive images have about ten; a few bytes make one over all pixels
_PNG_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_JPEG_BARE = frozenset(range(0xD0, 0xD8)) | {0x01}  # markers without a length
_AFTER_SCAN = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")  # the first marker that ends coded data
_NO_HEADER, _NO_END = "it has no image header", "its end is missing"


def check_size(height: int, width: int, name: str, max_pixels: float, max_ratio: float = math.inf) -> None:
    """Raise ImageError, before memory is taken for it, where an image is too large or too long."""
    if height * width > max_pixels:
        raise ImageError(
            f"{name}: {width} x {height} pixels are more than the limit of {max_pixels:,.0f}; "
            "shrink it, or raise the limit"
        )
    if max(height, width) > max_ratio * min(height, width):
        raise ImageError(f"{name}: {width} x {height} pixels are a strip and no radiograph")


def check_png(data: bytes) -> tuple[int, int]:
    """Walk the chunks of a PNG (ISO/IEC 15948, 5.3 and 11.2) to its end; return (height, width)."""
    width, height = struct.unpack_from(">II", data, 16)
    if data[12:16] != b"IHDR":
        raise ValueError(_NO_HEADER)
    view = memoryview(data)
    for kind, at, size in png_chunks(data):
        (checksum,) = struct.unpack_from(">I", data, at + size)
        if zlib.crc32(view[at - 4 : at + size]) != checksum:
            raise ValueError("a checksum is wrong")
        if kind not in _PNG_CRITICAL and kind[:1].isupper():
            raise ValueError("a critical chunk is unknown")  # libpng would print its name
    return height, width


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind, the place and the size of each chunk's content, to the end's."""
    at, kind = len(PNG), b""
    while kind != b"IEND":
        (size,) = struct.unpack_from(">I", data, at)
        kind = data[at + 4 : at + 8]
        yield kind, at + 8, size
        at += 12 + size


def check_jpeg(data: bytes) -> tuple[int, int]:
    """Walk the segments of a JPEG (ITU-T T.81, B.1.1.3 and B.2.2); return (height, width)."""
    shape, scans = (0, 0), 0
    for marker, at, _ in jpeg_segments(data):
        if marker in JPEG_FRAMES:
            shape = struct.unpack_from(">HH", data, at + 1)
        scans += marker == JPEG_SCAN
        if scans > _MOST_SCANS:
            raise ValueError("it has too many scans")
    return shape


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the marker, the place and the size of each segment's content, to the end's."""
    at = 2
    while True:
        marker = data[at + 1]
        if data[at] != 0xFF:
            raise ValueError("a marker is missing")
        if marker == 0xD9:
            return
        if marker == 0xFF or marker in _JPEG_BARE:
            at += 1 if marker == 0xFF else 2  # the first is a fill byte
            continue
        (size,) = struct.unpack_from(">H", data, at + 2)
        yield marker, at + 4, size - 2
        at += 2 + size
        if marker == JPEG_SCAN:
            found = _AFTER_SCAN.search(data, at)
            if found is None:
                raise ValueError(_NO_END)
            at = found.end() - 2


# --- TIFF, BMP and WebP ---

TIFF = (b"II*\0", b"MM\0*")
_MOST_PAGES = 64  # links between pages may run in a circle
_MOST_TILE = 1 << 24  # pixels; OpenCV takes memory for a whole one
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIPS, _STRIP_SIZES, _TILES, _TILE_SIZES = 273, 279, 324, 325
_SUBFILE, ORIENTATION, _SAMPLES, _TILE_WIDTH, _TILE_HEIGHT, _KIND = 254, 274, 277, 322, 323, 339
_TYPES = {1: "B", 3: "H", 4: "I"}  # of numbers in a TIFF: bytes, words, double words
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # sizes of all there are, in bytes
_REDUCED = 1  # bit of a subfile type: a smaller copy of another page
_WHITE_IS_ZERO, _SEPARATED, _WHOLE, _FLOATING = 0, 5, 1, 3

Tags = dict[int, tuple[int, ...]]


def tiff_pages(data: bytes) -> Iterator[Tags]:
    """Yield the numbers of each page of a TIFF by their tags (TIFF 6.0, section 2)."""
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(order + "I", data, 4)
    for _ in range(_MOST_PAGES):
        if not at:
            return
        (count,) = struct.unpack_from(order + "H", data, at)
        rows = (at + 2 + 12 * i for i in range(count))
        yield dict(_tag(data, row, order) for row in rows)
        (at,) = struct.unpack_from(order + "I", data, at + 2 + 12 * count)
    raise ValueError("it has too many pages")


def _tag(data: bytes, at: int, order: str) -> tuple[int, tuple[int, ...]]:
    tag, kind, count = struct.unpack_from(order + "HHI", data, at)
    if kind not in _TYPES:
        return tag, ()
    size = count * struct.calcsize(_TYPES[kind])
    start = at + 8 if size <= 4 else struct.unpack_from(order + "I", data, at + 8)[0]
    if start + size > len(data):
        raise ValueError("a table lies beyond its end")
    return tag, struct.unpack_from(f"{order}{count}{_TYPES[kind]}", data, start)


def check_tiff(data: bytes) -> tuple[int, int]:
    """Check the structure of a TIFF and return (height, width), as they are stored."""
    pages = [page for page in tiff_pages(data) if not page.get(_SUBFILE, (0,))[0] & _REDUCED]
    if len(pages) != 1:
        raise UnreadKindError(f"holds {len(pages)} pages; save one as a file of its own")
    [page] = pages
    bits, kind = max(page.get(_BITS, (1,))), max(page.get(_KIND, (_WHOLE,)))
    fits = bits <= 16 if kind == _WHOLE else kind == _FLOATING and bits >= 32
    if not fits or page.get(_PHOTOMETRIC) == (_SEPARATED,):
        raise UnreadKindError(
            "has pixels of another kind than grey or RGB, of 8 or 16 bits or floating-point; "
            "save it anew as one of these"
        )
    _check_places(page, len(data))
    return page[_HEIGHT][0], page[_WIDTH][0]


def _check_places(page: Tags, end: int) -> None:
    """Refuse pixels that are not in the file."""
    tiled = _TILES in page
    starts = page[_TILES if tiled else _STRIPS]
    sizes = page.get(_TILE_SIZES if tiled else _STRIP_SIZES, ())
    if tiled and page[_TILE_WIDTH][0] * page[_TILE_HEIGHT][0] > _MOST_TILE:
        raise ValueError("its tiles are too large")
    if len(sizes) != len(starts) or any(at + size > end for at, size in zip(starts, sizes)):
        raise ValueError(_NO_END)
    plain = page.get(_COMPRESSION, (1,)) == (1,)
    samples, bits = page.get(_SAMPLES, (1,))[0], min(page.get(_BITS, (1,)))
    if plain and 8 * sum(sizes) < page[_HEIGHT][0] * page[_WIDTH][0] * samples * bits:
        raise ValueError("its pixels are not all there")


def is_white_zero(data: bytes) -> bool:
    """Tell whether the least value of a TIFF's pixels is white."""
    return next(tiff_pages(data)).get(_PHOTOMETRIC) == (_WHITE_IS_ZERO,)


def is_whole(data: bytes) -> bool:
    """Tell whether what is compressed in a TIFF can be read to its end; OpenCV returns pixels of 8
    bits all the same, with black where they could not.
    """
    page = next(tiff_pages(data))
    if page.get(_COMPRESSION, (1,)) == (1,) or max(page.get(_BITS, (1,))) > 8:
        return True
    from PIL import Image

    try:
        Image.open(io.BytesIO(data)).load()
    except (OSError, SyntaxError, ValueError):
        return False
    return True


def check_bmp(data: bytes) -> tuple[int, int]:
    """Check that all lines of a BMP are there, uncompressed, and return (height, width)."""
    start, size = struct.unpack_from("<I", data, 10)[0], struct.unpack_from("<I", data, 14)[0]
    if size not in _BMP_HEADERS:
        raise ValueError(_NO_HEADER)
    old = size == 12  # OS/2's
    width, height, _, bits = struct.unpack_from("<HHHH" if old else "<iiHH", data, 18)
    compression = 0 if old else struct.unpack_from("<I", data, 30)[0]
    if compression not in (0, 3):  # 3 has masks of the colours
        raise UnreadKindError("its pixels are compressed; save it anew as PNG")
    if width <= 0 or not height or bits not in (1, 4, 8, 16, 24, 32):
        raise ValueError(_NO_HEADER)
    if start + (width * bits + 31) // 32 * 4 * abs(height) > len(data):
        raise ValueError(_NO_END)
    return abs(height), width


def check_webp(data: bytes) -> tuple[int, int]:
    """Walk the chunks of a WebP to its end and return (height, width); see RFC 9649."""
    shape = (0, 0)
    for kind, at, size in webp_chunks(data):
        if kind == b"VP8X" and data[at] & 2:
            raise UnreadKindError("is an animation; save one picture of it")
        if kind == b"VP8 " and data[at + 3 : at + 6] == b"\x9d\x01\x2a":
            width, height = struct.unpack_from("<HH", data, at + 6)
            shape = (height & 0x3FFF, width & 0x3FFF)
        elif kind == b"VP8L" and data[at] == 0x2F:
            (packed,) = struct.unpack_from("<I", data, at + 1)
            shape = ((packed >> 14 & 0x3FFF) + 1, (packed & 0x3FFF) + 1)
        if at + size > len(data):
            raise ValueError(_NO_END)
    return shape


def webp_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind, the place and the size of each chunk's content."""
    end = 8 + struct.unpack_from("<I", data, 4)[0]
    if end > len(data):
        raise ValueError(_NO_END)
    at = 12
    while at + 8 <= end:
        (size,) = struct.unpack_from("<I", data, at + 4)
        yield data[at : at + 4], at + 8, size
        at += 8 + size + size % 2


# --- which kind, and which way up ---

UPRIGHT = 1
_CHECKS: dict[bytes, Callable[[bytes], tuple[int, int]]] = dict.fromkeys(TIFF, check_tiff)
_CHECKS |= {PNG: check_png, JPEG: check_jpeg, b"BM": check_bmp, b"RIFF": check_webp}


def is_known(data: bytes) -> bool:
    """Tell whether bytes begin as one of these files does."""
    other = data.startswith(b"RIFF") and data[8:12] != b"WEBP"
    return data.startswith(tuple(_CHECKS)) and not other


def container_shape(data: bytes) -> tuple[int, int]:
    """Check the structure of a known file and return its picture's height and width, upright."""
    check = next(check for start, check in _CHECKS.items() if data.startswith(start))
    height, width = check(data)
    if not height * width:
        raise ValueError(_NO_HEADER)
    return (width, height) if orientation(data) >= 5 else (height, width)


def orientation(data: bytes) -> int:
    """Return EXIF's orientation, 1 to 8: 1, which is upright, where none can be read."""
    try:
        page = next(tiff_pages(_exif(data)))
        (value,) = page.get(ORIENTATION, (UPRIGHT,))
    except (struct.error, ValueError, IndexError, StopIteration):
        return UPRIGHT
    return value if 1 <= value <= 8 else UPRIGHT


def turned(pixels: NDArray[Any], value: int) -> NDArray[Any]:
    """Turn pixels (height, width, ...) as EXIF's orientation says (Exif 2.32, 4.6.4)."""
    if value >= 5:  # rows and columns change places
        pixels = pixels.swapaxes(0, 1)
    if value in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if value in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _exif(data: bytes) -> bytes:
    """Return the small TIFF that EXIF is, of a file whose structure has been checked."""
    if data.startswith(TIFF):
        return data
    walks = {PNG: png_chunks, JPEG: jpeg_segments, b"RIFF": webp_chunks}
    parts = next(walk(data) for start, walk in walks.items() if data.startswith(start))
    for kind, at, size in parts:
        if kind in (0xE1, b"eXIf", b"EXIF"):
            exif = data[at : at + size].removeprefix(b"Exif\0\0")
            if exif.startswith(TIFF):
                return exif
        if kind == JPEG_SCAN:
            break
    raise ValueError("no EXIF")
