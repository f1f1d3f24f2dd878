"""Checks of the compressed frame of a DICOM file, before anything decodes it.

The decoders believe the frame where it contradicts the file's header, and pydicom's RLE decoder
unpacks a segment however long it becomes.
"""

import struct
from itertools import pairwise
from typing import Any

from xray_captioning.data.containers import JPEG_FRAMES, jpeg_segments

_FRAMES = JPEG_FRAMES | {0xF7}  # the last is that of JPEG-LS


def can_decode(syntax: Any, bits: int) -> bool:
    """Tell whether something installed decodes a transfer syntax with so many stored bits."""
    from pydicom.pixels import get_decoder
    from pydicom.uid import JPEGExtended12Bit

    from xray_captioning.data.dicom.jpeg import add_plugin

    add_plugin()
    try:
        plugins = set(get_decoder(syntax).available_plugins)
    except NotImplementedError:
        return False
    if syntax == JPEGExtended12Bit and bits > 8:
        plugins.discard("pillow")
    return bool(plugins)


def coded_shape(frame: bytes) -> tuple[int, int, int, int]:
    """Read (rows, columns, samples, bits) in the header of a JPEG, JPEG-LS or JPEG 2000 image.

    Raise ValueError, struct.error or IndexError where there is none (ITU-T T.81, B.2.2; T.87,
    C.2.2; T.800, A.5.1).
    """
    if frame.startswith(b"\xff\x4f\xff\x51"):
        right, bottom, left, top = struct.unpack_from(">4I", frame, 8)
        samples, kind = struct.unpack_from(">HB", frame, 40)
        return bottom - top, right - left, samples, (kind & 0x7F) + 1
    for marker, at, _ in jpeg_segments(frame):
        if marker in _FRAMES:
            bits, rows, columns, samples = struct.unpack_from(">BHHB", frame, at)
            return rows, columns, samples, bits
    raise ValueError("its header is missing")


def check_rle(frame: bytes, pixels: int) -> None:
    """Raise ValueError or struct.error where segments overlap or unpack to more than their plane.

    Two bytes may become 128 (DICOM PS3.5, annex G).
    """
    count, *starts = struct.unpack_from("<16I", frame)
    bounds = [*starts[:count], len(frame)]
    for at, end in pairwise(bounds):
        if not 64 <= at < end <= at + 2 * pixels + 128:
            raise ValueError("a segment is out of place")
        size = 0
        while at < end and size <= pixels + 128:
            header = frame[at]
            literal = header < 128
            size += header + 1 if literal else (257 - header) % 129
            at += header + 2 if literal else 1 + (header > 128)
        if size > pixels + 128:
            raise ValueError("a segment is longer than the image")
