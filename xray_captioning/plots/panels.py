"""Pictures one would show: training curves, panels of studies, attention over the pixels."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xray_captioning.files import atomic_path

Array = NDArray[Any]
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # Okabe and Ito: safe for the colour-blind

# A panel's measures in inches: it is as wide as a page of text, and read without enlarging.
SIDE, GAP, TITLE, NAME = 1.6, 0.1, 0.42, 1.9
WIDTH, MARGIN = 7.2, 0.2  # of a page; left of the words' first column
SHORT = 1.4  # of a name beside the views
DPI = 130
FONT, LINE = 8.5, 0.165  # points; inches


def plot_curves(history: Sequence[dict[str, float]], path: str | Path) -> None:
    """Write what :func:`curves_figure` draws to a PNG file."""
    _save(curves_figure(history), path)


def curves_figure(history: Sequence[dict[str, float]]) -> Any:
    """Draw losses and accuracies by epoch, training and validation in one axis each.

    Parameters
    ----------
    history : sequence of dict
        A row an epoch with ``epoch``, ``loss`` and perhaps ``token_accuracy``, each perhaps
        with a ``val_`` twin.

    Returns
    -------
    matplotlib.figure.Figure
    """
    metrics = [name for name in ("loss", "token_accuracy") if name in history[0]]
    figure, axes = _figure(len(metrics), (3.6 * len(metrics), 2.8))
    epochs = [row["epoch"] for row in history]
    for axis, metric in zip(axes, metrics):
        for colour, (prefix, label) in zip(COLOURS, [("", "training"), ("val_", "validation")]):
            if prefix + metric in history[0]:
                values = [row[prefix + metric] for row in history]
                axis.plot(epochs, values, color=colour, label=label, marker=".", markersize=4)
        axis.set(xlabel="epoch", ylabel=metric.replace("_", " "))
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(frameon=False)
    return figure


class Example(NamedTuple):
    """One study of a panel.

    Attributes
    ----------
    images : sequence of arrays, each (height, width, 3), float in [0, 1]
    reference : str
    captions : dict of str
        Text by system.
    attention : array, shape (words, views, rows, columns), or None
        Of the first caption.
    words : sequence of str
        Of the first caption.
    views : sequence of str
        ``frontal``, ``lateral`` or ``unknown`` for each image, where that is known.
    """

    images: Sequence[Array] | Array
    reference: str
    captions: dict[str, str]
    attention: Array | None
    words: Sequence[str]
    views: Sequence[str] = ()

    def view(self, index: int) -> str:
        """Return what to call a view."""
        name = self.views[index] if index < len(self.views) else "unknown"
        return f"view {index + 1}" if name == "unknown" else name


def plot_panel(examples: Sequence[Example], path: str | Path, words: int = 3) -> None:
    """Write what :func:`panel_figure` draws to a PNG file."""
    _save(panel_figure(examples, words), path)


def panel_figure(examples: Sequence[Example], words: int = 3) -> Any:
    """Draw each study: its views, where the model looked, and below what was written.

    Parameters
    ----------
    examples : sequence of Example
    words : int
        Words of each caption whose attention is drawn: those that look at the fewest regions.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    views = max(len(example.images) for example in examples)
    chosen = [_sharpest(example, words) for example in examples]
    beside = not any(chosen)  # without attention there is room for the texts beside the views
    width = max((views + max(map(len, chosen))) * (SIDE + GAP) + GAP, 5 * SIDE)
    left, indent = (views * (SIDE + GAP) + GAP, SHORT) if beside else (GAP, NAME)
    texts = [_texts(example, width - left - indent - GAP, indent - GAP) for example in examples]
    long = [LINE * (sum(len(t[1]) for t in text) + 1.5) for text in texts]
    heights = [TITLE + (max(SIDE + LINE, n) if beside else SIDE + n) for n in long]
    figure = Figure(figsize=(width, sum(heights)), dpi=DPI)
    for i, (example, text) in enumerate(zip(examples, texts)):
        top = sum(heights[:i]) + TITLE
        cells = [_axis(figure, GAP + n * (SIDE + GAP), top) for n in range(views + len(chosen[i]))]
        for view, (axis, image) in enumerate(zip(cells, example.images)):
            axis.imshow(image[..., 0], cmap="gray", vmin=0, vmax=1)
            axis.set_title(example.view(view), fontsize=FONT, pad=4)
        for axis, word in zip(cells[views:], chosen[i]):
            draw_attention(axis, example, word)
        _write(figure, text, top if beside else top + SIDE + LINE / 2, left, indent)
    return figure


def words_figure(example: Example, columns: int = 7, most: int = 28) -> Any:
    """Draw a study, what was written of it, and below, word by word, where the decoder looked.

    The views stand one above the other, and the colours of a word share one scale over both, so
    that one glance tells which view it was read from, and where in it.

    Parameters
    ----------
    example : Example
        With attention.
    columns : int
        Words side by side.
    most : int
        Words drawn, punctuation left out; so is the rest of a longer caption.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    views = len(example.images)
    words = [n for n, word in enumerate(example.words) if any(map(str.isalnum, word))][:most]
    side = (WIDTH - MARGIN) / columns - GAP / 2
    row = TITLE / 2 + views * side + GAP
    text = _texts(example, WIDTH - views * (SIDE + GAP) - SHORT - GAP, SHORT - GAP)
    head = TITLE / 2 + max(SIDE, LINE * sum(len(lines) for _, lines, _ in text)) + GAP
    figure = Figure(figsize=(WIDTH, head + row * -(-len(words) // columns)), dpi=DPI)
    for view, image in enumerate(example.images):
        axis = _axis(figure, view * (SIDE + GAP), TITLE / 2)
        axis.imshow(image[..., 0], cmap="gray", vmin=0, vmax=1)
        axis.set_title(example.view(view), fontsize=FONT, pad=4)
    _write(figure, text, TITLE / 2, views * (SIDE + GAP), SHORT)
    for place, word in enumerate(words):
        top = head + row * (place // columns) + TITLE / 2
        left = MARGIN + (place % columns) * (side + GAP / 2)
        for view in range(views):
            axis = _axis(figure, left, top + view * side, side)
            _overlay(axis, example, word, view)
            if not view:
                _fit_title(axis, example.words[word], side)
            if not place % columns:
                style = {"transform": axis.transAxes, "rotation": 90, "ha": "right", "va": "center"}
                axis.text(-0.04, 0.5, example.view(view), fontsize=FONT - 1.5, **style)
    return figure


def draw_attention(axis: Any, example: Example, word: int) -> None:
    """Lay one word's attention over the view that it looks at most.

    Parameters
    ----------
    axis : matplotlib axis
    example : Example
        With attention.
    word : int
        Index of the word.
    """
    assert example.attention is not None
    weights = example.attention[word][: len(example.images)].sum(axis=(1, 2))
    view = int(np.argmax(weights))
    _overlay(axis, example, word, view)
    share = 100 * weights[view]
    title = f"“{_cut(example.words[word], 0.9 * SIDE)}”\n{example.view(view)}, {share:.0f} %"
    axis.set_title(title, fontsize=FONT, pad=4, parse_math=False)


def _overlay(axis: Any, example: Example, word: int, view: int) -> None:
    """Lay a word's attention over one view, scaled to the strongest of all views."""
    assert example.attention is not None
    maps = example.attention[word][: len(example.images)]
    image = example.images[view][..., 0]
    height, width = image.shape
    place = {"extent": (0, width, height, 0)}
    axis.imshow(image, cmap="gray", vmin=0, vmax=1, **place)
    heat = maps[view] / max(float(maps.max()), 1e-9)
    # The less attention, the less colour: the pixels below stay readable.
    axis.imshow(
        heat, cmap="autumn_r", vmin=0, vmax=1, alpha=0.7 * heat, interpolation="bilinear", **place
    )


def _fit_title(axis: Any, word: str, side: float) -> None:
    """Put a word above a picture, smaller or cut where it is wider."""
    size = FONT * min(1.0, max(side / _inches(word), 0.75))
    shown = _cut(word, 1.2 * side * FONT / size)  # it is measured bold
    axis.set_title(shown, fontsize=size, pad=4, parse_math=False)


def _sharpest(example: Example, count: int) -> list[int]:
    # Low entropy: these words depend on a place.
    if example.attention is None or not len(example.words):
        return []
    flat = example.attention.reshape(len(example.words), -1)
    entropy = -(flat * np.log(flat + 1e-9)).sum(axis=1)
    eligible = [i for i, word in enumerate(example.words) if len(word) > 3]
    seen: dict[str, int] = {}
    for i in sorted(eligible, key=lambda i: float(entropy[i])):
        seen.setdefault(example.words[i], i)
    return sorted(list(seen.values())[:count])


def _texts(example: Example, width: float, name_width: float) -> list[tuple[str, list[str], str]]:
    """Return name, lines and colour of everything that was written, fitted to widths."""
    named = [("reference", example.reference), *example.captions.items()]
    return [
        (_cut(name, name_width), _wrap(text, width), colour)
        for (name, text), colour in zip(named, itertools.cycle(("black", *COLOURS)))
    ]


def _wrap(text: str, width: float) -> list[str]:
    characters = int(width / 0.06)
    while True:
        lines = textwrap.wrap(text, characters, max_lines=8, placeholder=" …") or ["(nothing)"]
        if characters < 10 or all(_inches(line) <= width for line in lines):
            return lines
        characters -= max(characters // 20, 1)


def _cut(name: str, width: float) -> str:
    if _inches(name, "bold") <= width:
        return name
    kept = next(n for n in range(len(name), -1, -1) if _inches(name[:n] + "…", "bold") <= width)
    return name[:kept] + "…"


def _inches(text: str, weight: str = "normal") -> float:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(weight=weight, size=FONT)
    size: float = text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] / 72
    return size * 1.05  # on whole pixels letters are a little wider


def _write(
    figure: Any,
    texts: list[tuple[str, list[str], str]],
    top: float,
    left: float = GAP,
    indent: float = NAME,
) -> None:
    width, height = figure.get_size_inches()
    style = {"fontsize": FONT, "va": "baseline", "parse_math": False}
    for name, lines, colour in texts:
        for i, line in enumerate(lines):
            y = 1 - (top + LINE * (i + 0.8)) / height
            if not i:
                figure.text(left / width, y, name, color=colour, weight="bold", **style)
            figure.text((left + indent) / width, y, line, color=colour, **style)
        top += LINE * len(lines)


def _axis(figure: Any, left: float, top: float, side: float = SIDE) -> Any:
    """Return a square without frame at a place in inches."""
    width, height = figure.get_size_inches()
    box = (left / width, 1 - (top + side) / height, side / width, side / height)
    axis = figure.add_axes(box)
    axis.set_axis_off()
    return axis


def _figure(columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Any, path: str | Path) -> None:
    # A Figure of its own needs neither a display nor pyplot's global state.
    with atomic_path(Path(path)) as temporary:
        figure.savefig(temporary, dpi=DPI)
