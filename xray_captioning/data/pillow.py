"""Images of Pillow, for those who have one in their hands: the pixels that its file would have."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xray_captioning.data.levels import on_black
from xray_captioning.errors import ImageError

if TYPE_CHECKING:
    import PIL.Image
    from typing_extensions import TypeIs  # of typing from Python 3.13 on

_AS_THEY_ARE = ("L", "RGB", "RGBA", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")


def is_pillow(image: object) -> TypeIs[PIL.Image.Image]:
    """Tell whether this is an image of Pillow, which is not imported for that."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(image, module.Image)


def pillow_pixels(image: PIL.Image.Image) -> NDArray[Any]:
    """Return the pixels of an image in any mode: (height, width) or (height, width, 3), RGB.

    Palettes, CMYK and other colours become RGB, transparency is composited on black, and the
    picture is turned as EXIF says; whole numbers and floating-point stay as they are.

    Raises
    ------
    ImageError
        If its file turns out to be damaged.
    """
    from PIL import ImageOps

    try:
        image = ImageOps.exif_transpose(image)
        if image.has_transparency_data:
            image = image.convert("RGBA")
        elif image.mode not in _AS_THEY_ARE:
            image = image.convert("L" if image.mode == "1" else "RGB")
        return on_black(np.asarray(image))
    except (OSError, SyntaxError, ValueError) as error:  # Pillow reads the file only now
        raise ImageError(f"image: Pillow cannot read it ({error}); get its file again") from error
