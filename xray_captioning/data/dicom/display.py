"""From stored values to what a radiologist sees: modality and VOI transformations, and padding.

DICOM PS3.3, C.7.6.3, C.11.1 and C.11.2. pydicom's `apply_windowing` inverts the picture after a
negative slope and refuses a window of width 0; `apply_voi` and `apply_modality_lut` fail for tables
of 10 to 15 bits or an odd number of bytes; `apply_color_lut` counts modulo 256 in a table of bytes.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xray_captioning.data.levels import white

Mask = NDArray[np.bool_]
Tell = Callable[[str], object]

INSTEAD = "the whole range of its pixels is shown instead"
NO_WINDOW = f"its window has no width, or a function that is unknown: {INSTEAD}"
MISSES = f"its window or lookup table shows none of its pixels: {INSTEAD}"
_ALMOST_ALL = 0.99  # of the pixels, at one end of a picture that shows nothing
_END = 0.01  # of the range from black to white
COLOURS, PARTS = ("Red", "Green", "Blue"), ("Descriptor", "Data")  # of a palette


def displayed(stored: NDArray[Any], dataset: Any, tell: Tell) -> NDArray[np.float32]:
    """Return grey in [0, 1], bone in white, from stored values; padding is black."""
    padding = _padding(stored, dataset)
    little = dataset.original_encoding[1]
    values = _modality(stored, dataset, little)
    unit = _scaled(_voi(values, dataset, little, ~padding, tell), ~padding)
    if dataset.PhotometricInterpretation == "MONOCHROME1" and unit.any():
        unit = 1 - unit
    unit[padding] = 0
    return unit


def coloured(stored: NDArray[Any], dataset: Any) -> NDArray[np.float32]:
    """Return RGB in [0, 1] from the indices of a palette (C.7.9)."""
    little = dataset.original_encoding[1]
    tables = [[dataset[f"{c}PaletteColorLookupTable{p}"].value for p in PARTS] for c in COLOURS]
    rgb = np.stack([_looked_up(stored, table, data, little) for table, data in tables], axis=-1)
    return np.divide(rgb, white(rgb), dtype=np.float32)


def _padding(stored: NDArray[Any], dataset: Any) -> Mask:
    """Mark the pixels outside the exposed field, which no transformation applies to."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, bool)
    limit = dataset.get("PixelPaddingRangeLimit")
    # Some files write a negative value as an unsigned one.
    given = np.array([value, value if limit is None else limit]).astype(stored.dtype)
    return (stored >= given.min()) & (stored <= given.max())


def _modality(stored: NDArray[Any], dataset: Any, little: bool) -> NDArray[Any]:
    if sequence := dataset.get("ModalityLUTSequence"):
        return _looked_up(stored, sequence[0].LUTDescriptor, sequence[0].LUTData, little)
    slope, intercept = (dataset.get(f"Rescale{name}") for name in ("Slope", "Intercept"))
    if slope is None and intercept is None:
        return stored
    return stored * (1.0 if slope is None else float(slope)) + float(intercept or 0)


def _voi(values: NDArray[Any], dataset: Any, little: bool, counted: Mask, tell: Tell) -> Any:
    """Apply the VOI LUT, or else the first window, that shows anything."""
    picture = None
    for picture in _voi_pictures(values, dataset, little, tell):
        if _shows(picture[counted]):
            return picture
    if picture is not None:
        tell(MISSES)
    return values


def _voi_pictures(values: NDArray[Any], dataset: Any, little: bool, tell: Tell) -> Iterator[NDArray[Any]]:
    if sequence := dataset.get("VOILUTSequence"):
        for item in sequence:
            yield _looked_up(values, item.LUTDescriptor, item.LUTData, little)
        return
    given = [dataset.get(f"Window{name}") for name in ("Center", "Width")]
    centres, widths = (np.atleast_1d(np.asarray([] if v is None else v, float)) for v in given)
    if not (len(centres) and len(widths)):
        return
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    wide = widths >= 1 if function == "LINEAR" else widths > 0
    rows = zip(centres, widths, wide) if function in _FUNCTIONS else ()
    usable = [(c, width) for c, width, enough in rows if enough and np.isfinite(c + width)]
    if not usable:
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
    whole = picture.dtype.kind in "ui"
    low, high = (picture.min(), picture.max()) if whole else (0.0, 1.0)
    if low == high:
        return False
    margin = _END * (float(high) - float(low))
    dark, bright = (picture < low + margin).mean(), (picture > high - margin).mean()
    return bool(max(dark, bright) < _ALMOST_ALL)


def _looked_up(
    values: NDArray[Any], descriptor: Any, data: Any, little: bool
) -> NDArray[np.uint16] | NDArray[np.uint8]:
    """Replace values by those of a table, the first and last beyond its ends (C.11.1.1.1);
    `descriptor` is the number of entries, the value that the first is for, and their bits.
    """
    count, first, _ = (int(number) for number in descriptor)
    table = _entries(data, count % 65536 or 65536, little)
    index = np.clip(np.rint(values) - _first(first, len(table), values), 0, len(table) - 1)
    return table[index.astype(np.intp)]


def _first(first: int, count: int, values: NDArray[Any]) -> float:
    """Return the value that a table begins with; no encoding tells whether it has a sign: that
    reading is right which covers more of the values.
    """
    low, high = float(values.min()), float(values.max())
    other = first - 65536 if first >= 32768 else first + 65536 if first < 0 else first
    covered = [min(high, start + count - 1) - max(low, start) for start in (first, other)]
    return float(other if covered[1] > covered[0] else first)


def _entries(data: Any, count: int, little: bool) -> Any:
    """Return the entries of a table, a byte or a word each; bytes are filled up to words, and are
    swapped with them in a big-endian file.
    """
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
    unit = (values - low) / (high - low or 1.0)
    return np.clip(unit, 0.0, 1.0).astype(np.float32)
