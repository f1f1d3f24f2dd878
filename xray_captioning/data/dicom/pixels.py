"""DICOM files to float32 pixels as a radiologist sees them: windowed, with bone in white. Only the elements named
here are read. No patient field is kept, logged or returned, and no message quotes a file, because any of its texts
may contain a name.
"""

import io
import os
import struct
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xray_captioning.data import opening, stores, studies
from xray_captioning.data.dicom.reading import DAMAGED, ELEMENTS, PREAMBLE, is_dicom, quiet, read_elements
from xray_captioning.data.levels import Note, check_jpeg, check_size, jpeg_segments, warn, white
from xray_captioning.errors import ImageError, one_error

Mask = NDArray[np.bool_]
Tell = Callable[[str], object]

INSTEAD = "the whole range of its pixels is shown instead"
NO_WINDOW = f"its window has no width, or a function that is unknown: {INSTEAD}"
MISSES = f"its window or lookup table shows none of its pixels: {INSTEAD}"
_ALMOST_ALL = 0.99  # of the pixels, at one end of a picture that shows nothing
_END = 0.01  # of the range from black to white
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}  # the last is that of JPEG-LS
# What a compressed frame may hold, so that few bytes keep no decoder busy; a radiograph has some tens a byte.
_PIXELS, _PIXELS_A_BYTE = 1 << 20, 1000
HEAD = 1 << 18  # bytes of a file of a store in which its view is looked for
_VIEW_POSITION = 0x00185101
_PALETTE = "PALETTE COLOR"
_SAMPLES = dict.fromkeys(("MONOCHROME1", "MONOCHROME2", _PALETTE), 1)  # of a pixel
_SAMPLES |= dict.fromkeys(("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"), 3)


def decode_dicom(data: bytes, name: str, max_pixels: float, note: Note = warn) -> NDArray[np.float32]:
    """Decode the one frame of a DICOM file: (rows, columns), grey, or (rows, columns, 3), RGB, float32 in [0, 1].

    Grey: modality LUT or rescaling, then the first VOI LUT or window that shows any of the pixels (else `note` is
    told), scaled by its own least and greatest value; bone is white, padding black. Colour is divided by the greatest
    value of its depth. Overlays and presentation states are ignored. What is damaged, no such image, or has more than
    `max_pixels`, also inside its compressed data, is an ImageError before memory is taken for it.
    """
    told: list[str] = []
    with one_error(ImageError, f"{name}{DAMAGED}", quoted=False), quiet():
        dataset = read_elements(io.BytesIO(data), ELEMENTS["pixels"], most=int(8 * max_pixels))
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
    """Return the view that a DICOM file, its path or content, names in View Position (0018,5101), else 'unknown'."""
    if stores.is_address(source):
        if str(source).lower().endswith(opening.PICTURE_SUFFIXES):
            return studies.UNKNOWN
        source = stores.read(str(source), HEAD)
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
            if not is_dicom(file.read(PREAMBLE)):
                return studies.UNKNOWN
            with one_error(ImageError, DAMAGED), quiet():
                return studies.named_view(str(read_elements(file, [_VIEW_POSITION], last=_VIEW_POSITION).ViewPosition))
    except (ImageError, OSError, ValueError):  # reading the pixels will tell what is wrong
        return studies.UNKNOWN


def _check(dataset: Any, name: str, max_pixels: float) -> None:
    """Refuse, before decoding, what cannot or should not be decoded."""
    if not dataset.get("PixelData") or not dataset.get("Rows") or not dataset.get("Columns"):
        raise ImageError(f"{name}: is DICOM without an image, or cut before it; get it again")
    if (frames := int(dataset.get("NumberOfFrames") or 1)) > 1:
        raise ImageError(f"{name}: holds {frames} frames; export one frame as a file of its own")
    check_size(dataset.Rows, dataset.Columns, name, max_pixels)
    if dataset.SamplesPerPixel != _SAMPLES.get(str(dataset.PhotometricInterpretation), 0):
        raise ImageError(f"{name}: is neither grey nor RGB; export it as PNG")
    if dataset.BitsAllocated not in (8, 16):
        raise ImageError(f"{name}: has pixels of neither 8 nor 16 bits; export it as PNG")
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        _check_compressed(dataset, name, max_pixels)


def _check_compressed(dataset: Any, name: str, max_pixels: float) -> None:
    """Refuse a frame that nothing here decodes, or that contradicts the header: decoders believe it."""
    from pydicom.encaps import get_frame
    from pydicom.uid import JPEGTransferSyntaxes, RLELossless

    syntax = dataset.file_meta.TransferSyntaxUID
    # Pillow says that it decodes 12-bit JPEG.
    if not _plugins(syntax) - ({"pillow"} if syntax == _TWELVE_BITS and dataset.BitsStored > 8 else set()):
        advice = "export it uncompressed, or pip install 'xray-captioning[dicom]'"
        raise ImageError(f"{name}: is compressed as {syntax.name}, which nothing installed decodes; {advice}")
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
    """Return stored values; pydicom takes the lowest bits, whatever High Bit says (PS3.5, 8.1.1)."""
    from pydicom.pixels import pixel_array

    bits, above = dataset.BitsStored, max(0, dataset.HighBit + 1 - dataset.BitsStored)
    dataset.BitsStored = bits + above  # so that all of them are kept
    stored = pixel_array(dataset) >> above
    dataset.BitsStored = bits
    if stored.shape[:2] != (dataset.Rows, dataset.Columns):  # it makes frames of what is too long
        raise ValueError("the pixels are of another shape than the header says")
    return stored


# --- pydicom has no free decoder for JPEG Lossless, 12-bit JPEG and HTJ2K. This module is a plugin,
# as its guide to "decoder plugins" has it, over libjpeg-turbo and OpenJPEG by way of imagecodecs ---

_HIGH_THROUGHPUT = tuple(f"1.2.840.10008.1.2.4.20{n}" for n in (1, 2, 3))
_TWELVE_BITS = "1.2.840.10008.1.2.4.51"
_LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
DECODER_DEPENDENCIES = dict.fromkeys((_TWELVE_BITS, *_LOSSLESS, *_HIGH_THROUGHPUT), ("imagecodecs",))


def is_available(syntax: str) -> bool:
    """Tell whether frames of a transfer syntax can be decoded here."""
    return syntax in DECODER_DEPENDENCIES and find_spec("imagecodecs") is not None


def decode_frame(frame: bytes, runner: Any) -> bytearray:
    """Decode JPEG (T.81) or HTJ2K (T.814) and tell pydicom's runner the layout; a cut frame is filled up silently."""
    from imagecodecs import jpeg2k_decode, jpeg8_decode

    pixels = (jpeg2k_decode if runner.transfer_syntax in _HIGH_THROUGHPUT else jpeg8_decode)(frame)
    runner.set_option("bits_allocated", 8 * pixels.itemsize)
    if pixels.ndim == 3:
        runner.set_option("planar_configuration", 0)
        runner.set_option("photometric_interpretation", "RGB")
    return bytearray(pixels.tobytes())


@cache
def _plugins(syntax: str) -> set[str]:
    """Return what decodes a transfer syntax, this plugin, too; to be called by one thread at a time."""
    from pydicom.pixels import get_decoder

    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        return set()
    if syntax in DECODER_DEPENDENCIES:
        decoder.add_plugin("imagecodecs", (__name__, decode_frame.__name__))
    return set(decoder.available_plugins)


def coded_shape(frame: bytes) -> tuple[int, int, int, int]:
    """Read (rows, columns, samples, bits) of JPEG (T.81, B.2.2), JPEG-LS (T.87, C.2.2) or JPEG 2000 (T.800, A.5.1)."""
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
    """Refuse segments that overlap or outgrow their plane (PS3.5, annex G); pydicom does not."""
    count, *starts = struct.unpack_from("<16I", frame)
    for at, end in pairwise([*starts[:count], len(frame)]):
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


# --- from stored values to what a radiologist sees (PS3.3, C.7.6.3, C.11.1 and C.11.2). pydicom's
# `apply_windowing` inverts the picture after a negative slope and refuses a window of width 0;
# `apply_voi` and `apply_modality_lut` fail for tables of 10 to 15 bits or an odd number of bytes;
# `apply_color_lut` counts modulo 256 in a table of bytes ---


def displayed(stored: NDArray[Any], dataset: Any, tell: Tell) -> NDArray[np.float32]:
    """Return grey in [0, 1], bone in white, from stored values; padding is black."""
    padding = _padding(stored, dataset)
    unit = _scaled(_voi(_modality(stored, dataset), dataset, ~padding, tell), ~padding)
    if dataset.PhotometricInterpretation == "MONOCHROME1" and unit.any():
        unit = 1 - unit
    unit[padding] = 0
    return unit


def coloured(stored: NDArray[Any], dataset: Any) -> NDArray[np.float32]:
    """Return RGB in [0, 1] from the indices of a palette (C.7.9)."""
    names = [f"{colour}PaletteColorLookupTable" for colour in ("Red", "Green", "Blue")]
    tables = [[dataset[f"{name}{part}"].value for part in ("Descriptor", "Data")] for name in names]
    rgb = np.stack([_looked_up(stored, dataset, *table) for table in tables], axis=-1)
    return np.divide(rgb, white(rgb), dtype=np.float32)


def _padding(stored: NDArray[Any], dataset: Any) -> Mask:
    """Mark the pixels outside the exposed field, which no transformation applies to."""
    if (value := dataset.get("PixelPaddingValue")) is None:
        return np.zeros(stored.shape, bool)
    limit = dataset.get("PixelPaddingRangeLimit")
    # Some files write a negative value as an unsigned one.
    given = np.array([value, value if limit is None else limit]).astype(stored.dtype)
    return (stored >= given.min()) & (stored <= given.max())


def _modality(stored: NDArray[Any], dataset: Any) -> NDArray[Any]:
    if sequence := dataset.get("ModalityLUTSequence"):
        return _looked_up(stored, dataset, sequence[0].LUTDescriptor, sequence[0].LUTData)
    slope, intercept = (dataset.get(f"Rescale{name}") for name in ("Slope", "Intercept"))
    if slope is None and intercept is None:
        return stored
    return stored * (1.0 if slope is None else float(slope)) + float(intercept or 0)


def _voi(values: NDArray[Any], dataset: Any, counted: Mask, tell: Tell) -> Any:
    """Apply the VOI LUT, or else the first window, that shows anything."""
    picture = None
    for picture in _voi_pictures(values, dataset, tell):
        if _shows(picture[counted]):
            return picture
    if picture is not None:
        tell(MISSES)
    return values


def _voi_pictures(values: NDArray[Any], dataset: Any, tell: Tell) -> Iterator[NDArray[Any]]:
    if sequence := dataset.get("VOILUTSequence"):
        yield from (_looked_up(values, dataset, item.LUTDescriptor, item.LUTData) for item in sequence)
        return
    given = [dataset.get(f"Window{name}") for name in ("Center", "Width")]
    centres, widths = (np.atleast_1d(np.asarray([] if v is None else v, float)) for v in given)
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    rows = zip(centres, widths) if function in _FUNCTIONS else ()
    usable = [(c, w) for c, w in rows if (w >= 1 or (w > 0 and function != "LINEAR")) and np.isfinite(c + w)]
    if len(centres) and len(widths) and not usable:
        tell(NO_WINDOW)
    for centre, width in usable:
        yield _FUNCTIONS[function](values, centre, width)


def _linear(values: NDArray[Any], centre: float, width: float) -> NDArray[Any]:
    """C.11.2.1.2.1; a window of width 1 is a threshold."""
    if width == 1:
        return np.where(values > centre - 0.5, 1.0, 0.0)
    return np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0.0, 1.0)


_FUNCTIONS: dict[str, Callable[..., NDArray[Any]]] = {
    "LINEAR": _linear,
    "LINEAR_EXACT": lambda v, centre, width: np.clip((v - centre) / width + 0.5, 0.0, 1.0),
    "SIGMOID": lambda v, centre, width: 1 / (1 + np.exp(-4 * (v - centre) / width)),
}  # the last two are C.11.2.1.3.2 and C.11.2.1.3.1


def _shows(picture: NDArray[Any]) -> bool:
    """Tell whether pixels are not nearly all at one end of the range that they could have."""
    if not picture.size:
        return True
    low, high = (picture.min(), picture.max()) if picture.dtype.kind in "ui" else (0.0, 1.0)
    if low == high:
        return False
    margin = _END * (float(high) - float(low))
    dark, bright = (picture < low + margin).mean(), (picture > high - margin).mean()
    return bool(max(dark, bright) < _ALMOST_ALL)


def _looked_up(values: NDArray[Any], dataset: Any, descriptor: Any, data: Any) -> NDArray[Any]:
    """Replace values by those of a table, the first and last beyond its ends (C.11.1.1.1)."""
    count, first, _ = (int(number) for number in descriptor)  # of entries, the value of the first, their bits
    table = _entries(data, count % 65536 or 65536, dataset.original_encoding[1])
    return table[np.clip(np.rint(values) - _first(first, len(table), values), 0, len(table) - 1).astype(np.intp)]


def _first(first: int, count: int, values: NDArray[Any]) -> float:
    """Return the value a table begins with, with a sign or without: what covers more of the values."""
    low, high = float(values.min()), float(values.max())
    other = first - 65536 if first >= 32768 else first + 65536 if first < 0 else first
    covered = [min(high, start + count - 1) - max(low, start) for start in (first, other)]
    return float(other if covered[1] > covered[0] else first)


def _entries(data: Any, count: int, little: bool) -> Any:
    """Return the entries of a table, bytes or words; bytes fill words, swapped in a big-endian file."""
    if not isinstance(data, bytes):
        words = np.atleast_1d(np.asarray(data)).astype(np.uint16)
    elif len(data) < 2 * count and little:
        words = np.frombuffer(data + bytes(len(data) % 2), "<u2")
    else:
        words = np.frombuffer(data[: len(data) // 2 * 2], "<u2" if little else ">u2")
    if len(words) >= count:
        return words[:count]
    if len(words) == (count + 1) // 2:
        return np.frombuffer(words.astype("<u2").tobytes(), np.uint8)[:count]
    raise ValueError("a lookup table is shorter than it says")


def _scaled(values: NDArray[Any], counted: Mask) -> NDArray[np.float32]:
    """Scale to [0, 1] by the least and greatest of the values that count."""
    if not counted.any():
        return np.zeros(values.shape, np.float32)
    low, high = (float(edge(values[counted])) for edge in (np.min, np.max))
    if not np.isfinite(high - low):
        raise ValueError("the values have no range")
    return np.clip((values - low) / (high - low or 1.0), 0.0, 1.0).astype(np.float32)
