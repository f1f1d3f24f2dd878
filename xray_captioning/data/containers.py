"""Checks of PNG and JPEG files from start to end, before anything decodes them.

OpenCV fills what is missing in a truncated JPEG with grey and reports nothing, decodes scan after
scan of a JPEG that has thousands of them, and lets libpng print what a PNG contains. Pillow does
not check the end of a JPEG without decoding it all.
"""

import math
import re
import struct
import zlib
from collections.abc import Iterator

from xray_captioning.errors import ImageError

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
JPEG_SCAN = 0xDA  # the marker before coded pixels
_MOST_SCANS = 64  # progressive images have about ten; a few bytes make one over all pixels
_PNG_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_JPEG_BARE = frozenset(range(0xD0, 0xD8)) | {0x01}  # markers without a length
_AFTER_SCAN = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")  # the first marker that ends coded data


def check_size(
    height: int, width: int, name: str, max_pixels: float, max_ratio: float = math.inf
) -> None:
    """Raise ImageError where an image has more than `max_pixels`, or is too long and narrow.

    To be called before memory is taken for it. One side may be `max_ratio` times the other.
    """
    if height * width > max_pixels:
        raise ImageError(
            f"{name}: {width} x {height} pixels are more than the limit of {max_pixels:,.0f}; "
            "shrink it, or raise the limit"
        )
    if max(height, width) > max_ratio * min(height, width):
        raise ImageError(f"{name}: {width} x {height} pixels are a strip and no radiograph")


def check_png(data: bytes) -> tuple[int, int]:
    """Walk the chunks of a PNG to its end and return (height, width).

    Raise ValueError or struct.error where a chunk is cut, unknown and critical, or its checksum
    wrong, or where there is no end or no pixel (ISO/IEC 15948, sections 5.3 and 11.2).
    """
    width, height = struct.unpack_from(">II", data, 16)
    if data[12:16] != b"IHDR" or not height * width:
        raise ValueError("it has no image header")
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
    """Walk the segments of a JPEG to its end and return (height, width).

    The end marker of a thumbnail does not count. Raise ValueError, struct.error or IndexError where
    a segment, the end or a pixel is missing, or scans have no end (ITU-T T.81, B.1.1.3 and B.2.2).
    """
    shape, scans = (0, 0), 0
    for marker, at, _ in jpeg_segments(data):
        if marker in JPEG_FRAMES:
            shape = struct.unpack_from(">HH", data, at + 1)
        scans += marker == JPEG_SCAN
        if scans > _MOST_SCANS:
            raise ValueError("it has too many scans")
    if not shape[0] * shape[1]:
        raise ValueError("it has no image header")
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
            at = _end_of_scan(data, at)


def _end_of_scan(data: bytes, at: int) -> int:
    found = _AFTER_SCAN.search(data, at)
    if found is None:
        raise ValueError("its end is missing")
    return found.end() - 2
