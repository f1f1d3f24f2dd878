"""What people look at: HTML pages, encoded images, and attention laid over grey pixels."""

import base64
import re
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Viridis: read alike with every kind of colour vision, and no grey of a radiograph is among it.
COLOUR_MAP = "viridis"
LOWEST, OPACITY = 0.25, 0.72  # its darkest quarter would be black on black
LUNG = 0.25  # the grey under a colour bar; lungs are about as bright

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


class View(NamedTuple):
    """One image of a study, and the attention on it where that is known."""

    name: str
    image: Array  # (height, width), float in [0, 1]
    attention: Array | None = None  # (rows, columns): shares, which sum to 1 over all views
    # Top, left, height and width of what the encoder saw, in shares of the image.
    seen: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    boxes: Sequence[tuple[float, ...]] = ()  # left, top, right and bottom to be drawn, in shares of the image

    @property
    def share(self) -> float:
        """The share of the attention on this view, in [0, 1]."""
        return 0.0 if self.attention is None else float(self.attention.sum())


def strongest(views: Sequence[View]) -> float:
    """Return the largest share of a region in any view, 0 without: where all colours end."""
    return max((float(v.attention.max()) for v in views if v.attention is not None), default=0.0)


def overlay(view: View, top: float) -> Array:
    """Lay the attention, strongest at the share `top`, over what was seen of an image, and draw boxes: RGB, uint8."""
    from cv2 import rectangle

    shown = np.repeat(view.image[..., None], 3, axis=2)
    if view.attention is not None and top > 0:
        shown = _coloured(shown, np.clip(_heat(view, view.attention) / np.float32(top), 0, 1))
    pixels, (height, width) = _bytes(shown), view.image.shape
    thick = max(1, round(max(height, width) / 180))
    for left, upper, right, lower in view.boxes:
        ends = [(round(x * (width - 1)), round(y * (height - 1))) for x, y in ((left, upper), (right, lower))]
        for colour, wide in (((0, 0, 0), 2 * thick), ((230, 159, 0), thick)):  # orange of Okabe and Ito, on black
            rectangle(pixels, ends[0], ends[1], colour, wide)
    return pixels


def _heat(view: View, attention: Array) -> Array:
    """Return the attention as large as the image, zero where the encoder did not see it."""
    import cv2

    height, width = view.image.shape
    y, x, high, wide = (round(part * n) for part, n in zip(view.seen, (height, width) * 2))
    heat = cv2.resize(np.float32(attention), (wide, high))
    heat, whole = heat[max(-y, 0) : height - y, max(-x, 0) : width - x], np.zeros((height, width), np.float32)
    whole[max(y, 0) :, max(x, 0) :][: heat.shape[0], : heat.shape[1]] = heat
    return whole


def colour_scale(count: int) -> Array:
    """Return RGB (count, 3), uint8, from no attention to the most, as it looks on a lung."""
    return _bytes(_coloured(np.full((count, 3), LUNG), np.linspace(0, 1, count)))


def encode(pixels: Array, suffix: str = ".png") -> bytes:
    """Return an image file of grey or RGB pixels, uint8 or float in [0, 1]; equal channels are stored as grey."""
    import cv2

    stored = pixels if pixels.dtype == np.uint8 else _bytes(pixels)
    if stored.ndim == 3:  # OpenCV writes BGR
        stored = stored[..., 0] if (stored == stored[..., :1]).all() else stored[..., ::-1]
    return bytes(cv2.imencode(suffix, stored, [cv2.IMWRITE_JPEG_QUALITY, 80] if suffix == ".jpg" else [])[1])


def data_uri(pixels: Array, suffix: str = ".png") -> str:
    """Return an image as a data URI, for a page that needs no other file."""
    kind = {".png": "png", ".jpg": "jpeg"}[suffix]
    return f"data:image/{kind};base64,{base64.b64encode(encode(pixels, suffix)).decode()}"


def _coloured(rgb: Array, heat: Array) -> Array:
    from matplotlib import colormaps

    colour, opacity = colormaps[COLOUR_MAP](LOWEST + (1 - LOWEST) * heat)[..., :3], OPACITY * heat[..., None]
    return (1 - opacity) * rgb + opacity * colour


def _bytes(unit: Array) -> Array:
    return np.rint(255 * np.clip(unit, 0, 1)).astype(np.uint8)


def render(template: str, **values: Any) -> str:
    """Fill a template of the package, escaping texts; control characters and lone surrogates are replaced."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", environment().get_template(template).render(values))


@cache
def environment() -> Any:
    """Return Jinja's environment: where templates are found, and how they are read."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    blocks: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    loader = PackageLoader("xray_captioning", "")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, **blocks)
    environment.policies["json.dumps_kwargs"] = {}  # as it stands, not sorted by name
    return environment
