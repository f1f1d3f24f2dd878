"""DICOM files to float32 pixels as a radiologist sees them: windowed, with bone in white.

Only the elements named here are read. No patient field is kept, logged or returned, and no message
quotes a file, because any of its texts may contain a name.
"""

from __future__ import annotations

import io
import logging
import os
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from xray_captioning.data.containers import check_jpeg, check_size
from xray_captioning.data.dicom.frames import can_decode, check_rle, coded_shape
from xray_captioning.data.views import named_view
from xray_captioning.errors import ImageError, MissingExtraError, require

PREAMBLE = 132  # bytes: 128 of anything and 'DICM'

_ELEMENTS = (
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation"),
    *("PlanarConfiguration", "NumberOfFrames", "BitsAllocated", "BitsStored"),
    *("HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "VOILUTSequence"),
    *("VOILUTFunction", "WindowCenter", "WindowWidth", "PixelData"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
)
_VIEW_POSITION = 0x00185101
_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_LARGEST_LEAD = 1 << 24  # bytes that may precede the view position in a deflated file
_pydicom_lock = threading.Lock()


def is_dicom(data: bytes) -> bool:
    """Tell whether bytes, at least the first 132 of a file, begin as a DICOM file does."""
    return data[128:PREAMBLE] == b"DICM"


def decode_dicom(data: bytes, name: str, max_pixels: float) -> NDArray[np.float32]:
    """Decode the bytes of a DICOM file with one frame.

    Grey: the modality LUT or the rescale slope and intercept is applied to the stored values, then
    the first VOI LUT or window if there is one. The result is scaled by its own least and greatest
    value, so that the whole range is used with or without a window. MONOCHROME1 is inverted, so
    that bone is white; padding does not count and is black. Colour becomes RGB, divided by the
    greatest value of its depth. Overlays and presentation LUTs are ignored.

    An image of more than `max_pixels`, by its header or inside its compressed data, is refused
    before memory is taken for it; `name` is what messages call the file.

    Returns
    -------
    ndarray, shape (rows, columns) or (rows, columns, 3), float32
        Grey or RGB in [0, 1]; an image of a single value is 0.

    Raises
    ------
    ImageError
        If the file is truncated, damaged, too large, compressed in a way that nothing installed
        decodes, or holds no image, several frames, or one that is not grey or RGB of 8 or 16 bits.
    MissingExtraError
        If pydicom is not installed.

    References
    ----------
    .. [1] DICOM PS3.3, C.7.6.3 Image Pixel, C.11.1 Modality LUT, C.11.2 VOI LUT.
    """
    require("pydicom.pixels", "DICOM files", "dicom")
    try:
        with _quiet():
            dataset = _read(io.BytesIO(data), int(8 * max_pixels))
            _check(dataset, name, max_pixels)
            return _unit(dataset)
    except (ImageError, MissingExtraError):
        raise
    except Exception:  # of any kind, because pydicom trusts what it reads
        # "from None" leaves out the cause, whose message may quote the file.
        raise ImageError(f"{name}: is truncated or damaged DICOM; get it again") from None


def view_of(source: str | os.PathLike[str] | bytes) -> str:
    """Return the view that a DICOM file (its path or content) names, without reading its pixels.

    It is 'frontal', 'lateral' or 'unknown': the last for oblique and decubitus views, where View
    Position (0018,5101) is absent or has any other value, and for anything that is no readable
    DICOM file. Raise MissingExtraError if it is one and pydicom is not installed.
    """
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
            if not is_dicom(file.read(PREAMBLE)):
                return "unknown"
            require("pydicom.pixels", "DICOM files", "dicom")
            with _quiet():
                return named_view(str(_read(file, _LARGEST_LEAD, _VIEW_POSITION).ViewPosition))
    except MissingExtraError:
        raise
    except Exception:  # the view is only a hint; reading the pixels will tell what is wrong
        return "unknown"


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back pydicom's warnings and log, which may quote the file, for one thread at a time."""
    log = logging.getLogger("pydicom")
    with _pydicom_lock, warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        before = log.level
        log.setLevel(logging.CRITICAL + 1)  # its children's as well
        try:
            yield
        finally:
            log.setLevel(before)


def _read(file: BinaryIO, most: int, only: int | None = None) -> Any:
    """Read the elements of an image, or the `only` one, never inflating more than `most` bytes.

    `pydicom.dcmread` would inflate a deflated file whole, however large that makes it.
    """
    from pydicom.dataset import FileMetaDataset
    from pydicom.filereader import read_dataset
    from pydicom.tag import Tag
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    file.seek(PREAMBLE)
    meta = read_dataset(file, False, True, stop_when=lambda tag, *_: tag >> 16 != 2)
    syntax = meta.TransferSyntaxUID
    if syntax == DeflatedExplicitVRLittleEndian:
        file = io.BytesIO(_inflated(file.read(), most, whole=only is None))
    stop = None if only is None else (lambda tag, *_: tag > only)
    tags = [Tag(element) for element in (_ELEMENTS if only is None else [only])]
    implicit, little = syntax.is_implicit_VR, syntax.is_little_endian
    dataset = read_dataset(file, implicit, little, stop_when=stop, specific_tags=tags)
    dataset.set_original_encoding(implicit, little)
    dataset.file_meta = FileMetaDataset(meta)
    return dataset


def _inflated(data: bytes, most: int, whole: bool) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    content = inflater.decompress(data, most)
    if whole and not inflater.eof:
        raise ValueError("the deflated data are cut or inflate to too much")
    return content


def _check(dataset: Any, name: str, max_pixels: float) -> None:
    """Refuse, before decoding, what cannot or should not be decoded."""
    if not dataset.get("PixelData") or not dataset.get("Rows") or not dataset.get("Columns"):
        raise ImageError(
            f"{name}: is DICOM without an image, or cut before it; get it again or take it out"
        )
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise ImageError(f"{name}: holds {frames} frames; export one frame as a file of its own")
    check_size(dataset.Rows, dataset.Columns, name, max_pixels)
    grey, colour = (dataset.PhotometricInterpretation in kinds for kinds in (_GREY, _COLOUR))
    samples = 1 if grey else 3
    if not (grey or colour) or dataset.SamplesPerPixel != samples:
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
    if bits > dataset.BitsAllocated:
        raise ValueError("the compressed image is deeper than the header says")
    if bits > dataset.BitsStored and not dataset.PixelRepresentation:
        dataset.BitsStored, dataset.HighBit = bits, bits - 1  # or the uppermost would be lost


def _unit(dataset: Any) -> NDArray[np.float32]:
    from pydicom.pixels import pixel_array

    stored = pixel_array(dataset)
    if dataset.SamplesPerPixel == 3:
        most = np.float32(2**dataset.BitsStored - 1)
        return np.clip(stored.astype(np.float32) / most, 0.0, 1.0)
    padding = _padding(stored, dataset)
    unit = _scaled(_windowed(stored, dataset), ~padding)
    if dataset.PhotometricInterpretation == "MONOCHROME1" and unit.any():
        unit = 1 - unit
    unit[padding] = 0
    return unit


def _padding(stored: NDArray[Any], dataset: Any) -> NDArray[np.bool_]:
    """Mark the pixels outside the exposed field, which no transformation applies to."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, bool)
    limit = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((value, value if limit is None else limit))
    return (stored >= low) & (stored <= high)


def _windowed(stored: NDArray[Any], dataset: Any) -> NDArray[Any]:
    """Apply the modality transformation and the first VOI transformation."""
    from pydicom.pixels import apply_rescale, apply_windowing

    little = dataset.original_encoding[1]
    if modality := dataset.get("ModalityLUTSequence"):
        values = _looked_up(stored, modality[0], little)
    else:
        values = apply_rescale(stored, dataset)
    if voi := dataset.get("VOILUTSequence"):
        return _looked_up(values, voi[0], little)
    if dataset.get("WindowCenter") is None or dataset.get("WindowWidth") is None:
        return values
    for done in ("ModalityLUTSequence", "RescaleSlope"):
        # They have been applied; a window scales to their range, and upside down if the slope
        # is negative.
        dataset.pop(done, None)
    return apply_windowing(values, dataset)


def _looked_up(values: NDArray[Any], item: Any, little: bool) -> NDArray[Any]:
    """Replace values by those of a lookup table, the first and last beyond its ends.

    pydicom's own fails for modality tables of 10 to 15 bits and for VOI tables whose entries are
    of fewer bits than their index.
    """
    entries, first, _ = item.LUTDescriptor
    table = item.LUTData
    if isinstance(table, bytes):
        kind = "u1" if len(table) == entries else "<u2" if little else ">u2"
        table = np.frombuffer(table, kind)
    table = np.atleast_1d(table)
    index = np.clip(np.rint(values) - np.float64(first), 0, len(table) - 1)
    return table[index.astype(np.intp)]


def _scaled(values: NDArray[Any], counted: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Scale to [0, 1] by the least and greatest of the values that count."""
    if not counted.any():
        return np.zeros(values.shape, np.float32)
    low, high = (float(edge(values[counted])) for edge in (np.min, np.max))
    if not np.isfinite(high - low):
        raise ValueError("the values have no range")
    unit = (values - low) / (high - low or 1.0)
    return np.clip(unit, 0.0, 1.0).astype(np.float32)
