"""Which value is white: pixels as they are stored, or as Pillow has them, to [0, 1].

Many programs write the 10, 12 or 14 bits of a detector into files of 16 without saying so
(``cv2.imwrite(name, dataset.pixel_array)``; exports of archives). Divided by 65,535 they are
nearly black. So whole numbers of more than 8 bits are divided by what the bits in use can hold.
"""

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xray_captioning.data.notes import Note
from xray_captioning.errors import ImageError

if TYPE_CHECKING:
    import PIL.Image
    from typing_extensions import TypeIs  # of typing from Python 3.13 on

DEPTHS = (8, 10, 12, 14, 16)  # bits that detectors deliver
LITTLE = 0.1  # of the range; the faintest of 1,440 real radiographs uses .41 of it
FAINT = (
    f"nearly all of its pixels lie within {LITTLE:.0%} of the range, so that it shows next to "
    "nothing; look at it, and export it anew if it should be a radiograph"
)
_SAMPLE = 32  # lines and columns that are looked at
_PILLOW = ("L", "RGB", "RGBA", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")  # modes as they are
_TAILS = (0.005, 0.995)  # quantiles: markers and defective pixels do not count


def white(pixels: NDArray[Any]) -> float:
    """Return the value of pixels that stands for white: 255 of uint8, 1 of floating-point, else the
    greatest of the fewest bits, of `DEPTHS`, that hold all of them: 4,095 where the greatest is
    3,000.
    """
    if pixels.dtype.kind == "f":
        return 1.0
    bits = 8 if pixels.dtype == np.uint8 else int(pixels.max()).bit_length()
    return float(2 ** next(depth for depth in DEPTHS if depth >= bits) - 1)


def checked(pixels: NDArray[Any], name: str) -> NDArray[Any]:
    """Return pixels as uint8, uint16 or float32; refuse others than whole numbers from 0 to 65,535
    and floating-point from 0 to 1, and a single value in all.
    """
    kind = pixels.dtype.kind
    if kind not in "uif":
        raise ImageError(f"{name}: pixels of type {pixels.dtype} are refused; give {WANTED}")
    low, high = pixels.min(), pixels.max()
    if not (low >= 0 and high <= (1 if kind == "f" else 65535)):  # so that NaN is refused too
        what = "floating-point" if kind == "f" else "whole numbers"
        raise ImageError(f"{name}: pixels lie outside the range, {what} from {low:g} to {high:g}; give {WANTED}")
    few, first = pixels[:: max(1, len(pixels) // 8)], pixels[0, 0]  # most are told by these
    if low == high or (pixels.ndim == 3 and (few == first).all() and (pixels == first).all()):
        value = ", ".join(f"{value:g}" for value in np.atleast_1d(first))
        raise ImageError(
            f"{name}: all of its pixels have one value ({value}), so that it shows nothing; get it "
            "again, or take it out"
        )
    if pixels.dtype == np.uint8:
        return pixels
    return pixels.astype(np.float32 if kind == "f" else np.uint16, copy=False)


WANTED = "whole numbers from 0 to 255 or, of up to 16 bits, to 65535, or floating-point from 0 to 1"


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


def is_pillow(image: object) -> "TypeIs[PIL.Image.Image]":
    """Tell whether this is an image of Pillow, which is not imported for that."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(image, module.Image)


def pillow_pixels(image: "PIL.Image.Image") -> NDArray[Any]:
    """Return the pixels of an image in any mode, upright: (height, width) or (height, width, 3);
    other colours become RGB, whole numbers and floating-point stay as they are.
    """
    from PIL import ImageOps

    try:
        image = ImageOps.exif_transpose(image)
        if image.has_transparency_data:
            image = image.convert("RGBA")
        elif image.mode not in _PILLOW:
            image = image.convert("L" if image.mode == "1" else "RGB")
        return on_black(np.asarray(image))
    except (OSError, SyntaxError, ValueError) as error:  # Pillow reads the file only now
        raise ImageError(f"image: Pillow cannot read it ({error}); get its file again") from error
