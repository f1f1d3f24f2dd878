"""Where a model looked, over the pixels it looked at."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xray_captioning.data.images import opencv
from xray_captioning.serving.app_parts import Result, Study, cautions, shown_text

Array = NDArray[Any]

# Viridis: read alike with every kind of colour vision, and no grey of a radiograph is among it.
COLOURS = "viridis"
LOWEST, OPACITY = 0.25, 0.72  # its darkest quarter would be black on black
GREY = 0.25  # under the colour bar; the lungs are about as bright
DPI = 110
WIDTH, SIDE, LINE = 7.6, 3.3, 0.22  # of the panel: its width, its images, a line of text; inches


class View(NamedTuple):
    """One image with the attention on it.

    Attributes
    ----------
    name : str
    picture : array, shape (height, width), float32 in [0, 1]
    weights : array, shape (rows, columns), float32, or None
        Share of the attention on each region; those of all views sum to 1.
    """

    name: str
    picture: Array
    weights: Array | None

    @property
    def share(self) -> float:
        """How much of the attention lies on this view, in [0, 1]."""
        return 0.0 if self.weights is None else float(self.weights.sum())


def views_of(study: Study, attention: Array | None, words: Sequence[int]) -> list[View]:
    """Return the views of a study with the mean attention of some words.

    Parameters
    ----------
    study : Study
    attention : array, shape (words, views, rows, columns), or None
    words : sequence of int
        Places in the caption.

    Returns
    -------
    list of View
        One an image, and a further one where a model looked at the same image twice.
    """
    if attention is None or not len(words):
        return [View(name, image, None) for name, image in zip(study.views, study.pictures)]
    maps = attention[list(words)].mean(axis=0)
    last = len(study.pictures) - 1
    return [
        View(
            study.views[min(i, last)] + (" (seen twice)" if i > last else ""),
            study.pictures[min(i, last)],
            weights,
        )
        for i, weights in enumerate(maps)
        if i <= last or weights.any()
    ]


def highest(views: Sequence[View]) -> float:
    """Return the greatest weight of a region in any view: where the colours end."""
    return max((float(v.weights.max()) for v in views if v.weights is not None), default=0.0)


def overlay(view: View, top: float) -> Array:
    """Lay the attention over an image.

    Parameters
    ----------
    view : View
    top : float
        The weight that has the strongest colour.

    Returns
    -------
    array, shape (height, width, 3), uint8
        RGB. The less attention, the less colour: the pixels below stay readable.
    """
    grey = np.repeat(view.picture[..., None], 3, axis=2)
    if view.weights is None or top <= 0:
        return _bytes(grey)
    height, width = view.picture.shape
    heat = opencv().resize(np.float32(view.weights) / top, (width, height))
    return _bytes(_blend(grey, np.clip(heat, 0, 1)))


def colour_stops(count: int = 9) -> list[str]:
    """Return the colours from no attention to the most, as on a grey image."""
    scale = np.linspace(0, 1, count, dtype=np.float32)[None]
    rgb = _bytes(_blend(np.full((1, count, 3), GREY, np.float32), scale))[0]
    return ["#{:02x}{:02x}{:02x}".format(*colour) for colour in rgb]


def png(image: Array) -> bytes:
    """Return the bytes of a PNG file of an image, (height, width, 3), uint8, RGB."""
    return bytes(opencv().imencode(".png", image[..., ::-1])[1])


def panel(study: Study, result: Result, views: Sequence[View], of: str, limit: float) -> bytes:
    """Draw the caption and the attention on the study's images.

    Parameters
    ----------
    study : Study
    result : Result
    views : sequence of View
    of : str
        The words whose attention it is.
    limit : float
        Sentences less sure than this are withheld.

    Returns
    -------
    bytes
        A PNG file.
    """
    from matplotlib.figure import Figure

    top = highest(views)
    text = textwrap.wrap(shown_text(result, limit), 88) or ["(nothing)"]
    notes = [line for n in (study.about, *cautions(result)) for line in textwrap.wrap(n, 118)]
    above, below = 0.75 + LINE * len(text), 0.85 + LINE * len(notes)
    height = above + SIDE + below
    figure = Figure(figsize=(WIDTH, height), dpi=DPI)
    _write(figure, [f"{result.bundle}, beam size {result.beam_size}"], height - 0.28, 8)
    _write(figure, text, height - 0.56, 11)
    _write(figure, notes, LINE * (len(notes) - 1) + 0.12, 8)
    for i, view in enumerate(views):
        width = 0.96 / len(views)
        axis = figure.add_axes((0.02 + i * width, below / height, width, SIDE / height))
        axis.imshow(overlay(view, top))
        axis.set_axis_off()
        axis.set_title(title(view), size=9)
    if top > 0:
        _colour_bar(figure, top, of, below - 0.2)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def title(view: View) -> str:
    """Return a view's name, and the share of the attention on it."""
    return (
        view.name
        if view.weights is None
        else f"{view.name}: {100 * view.share:.0f} % of the attention"
    )


def _colour_bar(figure: Any, top: float, of: str, at: float) -> None:
    height = figure.get_size_inches()[1]
    axis = figure.add_axes((0.2, at / height, 0.6, 0.1 / height))
    colours = _blend(np.full((1, 256, 3), GREY, np.float32), np.linspace(0, 1, 256)[None])
    axis.imshow(_bytes(colours), aspect="auto", extent=(0, 100 * top, 0, 1))
    axis.set_yticks([])
    axis.tick_params(labelsize=7)
    label = f"% of the attention on a region, for {textwrap.shorten(of, 70, placeholder=' …')}"
    axis.set_xlabel(label, size=8, parse_math=False)


def _write(figure: Any, lines: Sequence[str], at: float, size: int) -> None:
    height = figure.get_size_inches()[1]
    for i, line in enumerate(lines):
        figure.text(0.03, (at - LINE * i) / height, line, size=size, parse_math=False)


def _blend(grey: Array, heat: Array) -> Array:
    from matplotlib import colormaps

    colour = colormaps[COLOURS](LOWEST + (1 - LOWEST) * heat)[..., :3]
    opacity = OPACITY * heat[..., None]
    blended: Array = (1 - opacity) * grey + opacity * colour
    return blended


def _bytes(rgb: Array) -> Array:
    return np.rint(255 * rgb).astype(np.uint8)
