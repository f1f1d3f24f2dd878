"""DICOM files to float32 pixels as a radiologist sees them: windowed, with bone in white.

Only the elements named here are read. No patient field is kept, logged or returned, and no message
quotes a file, because any of its texts may contain a name.
"""

import io
import os
import struct
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xray_captioning.data.dicom.display import COLOURS, PARTS, coloured, displayed
from xray_captioning.data.dicom.reading import PREAMBLE, is_dicom, one_error, quiet, read_elements
from xray_captioning.data.levels import Note, check_jpeg, check_size, jpeg_segments, warn
from xray_captioning.data.studies import UNKNOWN, named_view
from xray_captioning.errors import ImageError

_ELEMENTS = (
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation"),
    *("PlanarConfiguration", "NumberOfFrames", "BitsAllocated", "BitsStored"),
    *("HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "VOILUTSequence"),
    *("VOILUTFunction", "WindowCenter", "WindowWidth", "PixelData"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
    *(f"{colour}PaletteColorLookupTable{part}" for colour in COLOURS for part in PARTS),
)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}  # the last is that of JPEG-LS
# What a compressed frame may hold, so that a few bytes keep no decoder busy, under a lock at that; a
# radiograph has at most some tens of pixels a byte.
_PIXELS, _PIXELS_A_BYTE = 1 << 20, 1000
_VIEW_POSITION = 0x00185101
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_PALETTE = "PALETTE COLOR"
_SINGLE = ("MONOCHROME1", "MONOCHROME2", _PALETTE)  # of one sample per pixel


def decode_dicom(data: bytes, name: str, max_pixels: float, note: Note = warn) -> NDArray[np.float32]:
    """Decode the one frame of a DICOM file: (rows, columns), grey, or (rows, columns, 3), RGB,
    float32 in [0, 1].

    Grey: modality LUT or rescaling, then the first VOI LUT or window that shows any of the pixels
    (`note` is told where none does), scaled by its own least and greatest value; bone is white,
    padding does not count and is black. Colour is divided by the greatest value of its depth.
    Overlays and presentation states are ignored. What is damaged, no such image, or has more than
    `max_pixels`, also inside its compressed data, is an ImageError before memory is taken for it.
    """
    told: list[str] = []
    with one_error(ImageError, name), quiet():
        dataset = read_elements(io.BytesIO(data), _ELEMENTS, most=int(8 * max_pixels))
        _check(dataset, name, max_pixels)
        stored, most = _stored(dataset), np.float32(2**dataset.BitsStored - 1)
        if dataset.PhotometricInterpretation == _PALETTE:
            unit = coloured(stored, dataset)
        elif dataset.SamplesPerPixel == 3:
            unit = np.clip(stored.astype(np.float32) / most, 0.0, 1.0)
        else:
            unit = displayed(stored, dataset, told.append)
    for reason in told:
        note(name, reason)
    return unit


def view_of(source: str | os.PathLike[str] | bytes) -> str:
    """Return the view that a DICOM file (its path or content) names in View Position (0018,5101):
    'unknown' where that tells neither, and for anything else; a DICOM file without pydicom is a
    MissingExtraError.
    """
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
            if not is_dicom(file.read(PREAMBLE)):
                return UNKNOWN
            with one_error(ImageError, ""), quiet():
                dataset = read_elements(file, [_VIEW_POSITION], last=_VIEW_POSITION)
                return named_view(str(dataset.ViewPosition))
    except (ImageError, OSError, ValueError):  # reading the pixels will tell what is wrong
        return UNKNOWN


def _check(dataset: Any, name: str, max_pixels: float) -> None:
    """Refuse, before decoding, what cannot or should not be decoded."""
    if not dataset.get("PixelData") or not dataset.get("Rows") or not dataset.get("Columns"):
        raise ImageError(f"{name}: is DICOM without an image, or cut before it; get it again")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise ImageError(f"{name}: holds {frames} frames; export one frame as a file of its own")
    check_size(dataset.Rows, dataset.Columns, name, max_pixels)
    single, colour = (dataset.PhotometricInterpretation in kinds for kinds in (_SINGLE, _COLOUR))
    samples = 1 if single else 3
    if not (single or colour) or dataset.SamplesPerPixel != samples:
        raise ImageError(f"{name}: is neither grey nor RGB; export it as PNG")
    if dataset.BitsAllocated not in (8, 16):
        raise ImageError(f"{name}: has pixels of neither 8 nor 16 bits; export it as PNG")
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        _check_compressed(dataset, name, max_pixels)


def _check_compressed(dataset: Any, name: str, max_pixels: float) -> None:
    """Refuse a frame that nothing here decodes or that is larger than the header says."""
    from pydicom.encaps import get_frame
    from pydicom.uid import JPEGTransferSyntaxes, RLELossless

    syntax = dataset.file_meta.TransferSyntaxUID
    if not can_decode(syntax, dataset.BitsStored):
        raise ImageError(
            f"{name}: is compressed as {syntax.name}, which nothing installed decodes; export it "
            "uncompressed, or pip install 'xray-captioning[dicom]'"
        )
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    if syntax == RLELossless:
        check_rle(frame, dataset.Rows * dataset.Columns)
        return
    if syntax in JPEGTransferSyntaxes:
        check_jpeg(frame)  # decoders fill up what is cut off
    rows, columns, samples, bits = coded_shape(frame)
    check_size(rows, columns, name, max_pixels)
    if (rows, columns, samples) != (dataset.Rows, dataset.Columns, dataset.SamplesPerPixel):
        raise ValueError("the compressed image is of another shape than the header says")
    if rows * columns > _PIXELS + _PIXELS_A_BYTE * len(frame):
        raise ValueError("the compressed image is too short for as many pixels")
    if bits > dataset.BitsAllocated:
        raise ValueError("the compressed image is deeper than the header says")
    if bits <= dataset.BitsStored:
        dataset.HighBit = dataset.BitsStored - 1  # what is compressed has no bits below
    elif dataset.HighBit != bits - 1 and not dataset.PixelRepresentation:
        dataset.BitsStored, dataset.HighBit = bits, bits - 1  # or the uppermost would be lost


def _stored(dataset: Any) -> NDArray[Any]:
    """Return the stored values, wherever in their words they lie: pydicom takes them for the lowest
    bits, whatever High Bit says (PS3.5, 8.1.1).
    """
    from pydicom.pixels import pixel_array

    bits, above = dataset.BitsStored, max(0, dataset.HighBit + 1 - dataset.BitsStored)
    dataset.BitsStored = bits + above  # so that all of them are kept
    try:
        stored = pixel_array(dataset) >> above
    finally:
        dataset.BitsStored = bits
    if stored.shape[:2] != (dataset.Rows, dataset.Columns):  # it makes frames of what is too long
        raise ValueError("the pixels are of another shape than the header says")
    return stored


# --- checks of the compressed frame: decoders believe it where it contradicts the header, and
# pydicom's RLE decoder unpacks a segment however long it becomes ---


# pydicom has no free decoder for JPEG Lossless, 12-bit JPEG and HTJ2K. This module is a plugin, as
# its guide to "decoder plugins" has it, over libjpeg-turbo and OpenJPEG by way of imagecodecs.
_HIGH_THROUGHPUT = tuple(f"1.2.840.10008.1.2.4.20{n}" for n in (1, 2, 3))
_TWELVE_BITS = "1.2.840.10008.1.2.4.51"
_LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
DECODER_DEPENDENCIES = dict.fromkeys((_TWELVE_BITS, *_LOSSLESS, *_HIGH_THROUGHPUT), ("imagecodecs",))


def is_available(syntax: str) -> bool:
    """Tell whether frames of a transfer syntax can be decoded here."""
    return syntax in DECODER_DEPENDENCIES and find_spec("imagecodecs") is not None


def decode_frame(frame: bytes, runner: Any) -> bytearray:
    """Decode JPEG (ITU-T T.81) or HTJ2K (T.814) to 8 or 16 bits for pydicom's DecodeRunner, which
    receives the layout; imagecodecs fills up a cut frame and says nothing.
    """
    from imagecodecs import jpeg2k_decode, jpeg8_decode

    decode = jpeg2k_decode if runner.transfer_syntax in _HIGH_THROUGHPUT else jpeg8_decode
    pixels = decode(frame)
    runner.set_option("bits_allocated", 8 * pixels.itemsize)
    if pixels.ndim == 3:
        runner.set_option("planar_configuration", 0)
        runner.set_option("photometric_interpretation", "RGB")
    return bytearray(pixels.tobytes())


@cache
def _add_plugin() -> None:
    """Register this plugin with pydicom, once; to be called by one thread at a time."""
    from pydicom.pixels import get_decoder

    for syntax in DECODER_DEPENDENCIES:
        get_decoder(syntax).add_plugin("imagecodecs", (__name__, decode_frame.__name__))


def can_decode(syntax: Any, bits: int) -> bool:
    """Tell whether something installed decodes a transfer syntax with so many stored bits."""
    from pydicom.pixels import get_decoder

    _add_plugin()
    try:
        plugins = set(get_decoder(syntax).available_plugins)
    except NotImplementedError:
        return False
    return bool(plugins - {"pillow" if syntax == _TWELVE_BITS and bits > 8 else ""})


def coded_shape(frame: bytes) -> tuple[int, int, int, int]:
    """Read (rows, columns, samples, bits) in the header of a JPEG (ITU-T T.81, B.2.2), JPEG-LS
    (T.87, C.2.2) or JPEG 2000 image (T.800, A.5.1).
    """
    if frame.startswith(b"\xff\x4f\xff\x51"):
        right, bottom, left, top = struct.unpack_from(">4I", frame, 8)
        samples, kind = struct.unpack_from(">HB", frame, 40)
        return bottom - top, right - left, samples, (kind & 0x7F) + 1
    for marker, at in jpeg_segments(frame):
        if marker in _FRAMES:
            bits, rows, columns, samples = struct.unpack_from(">BHHB", frame, at)
            return rows, columns, samples, bits
    raise ValueError("its header is missing")


def check_rle(frame: bytes, pixels: int) -> None:
    """Refuse segments that overlap or unpack to more than their plane (DICOM PS3.5, annex G)."""
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
