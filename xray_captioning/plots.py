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
DPI = 130
FONT, LINE = 8.5, 0.165  # points; inches


def plot_curves(history: Sequence[dict[str, float]], path: str | Path) -> None:
    """Draw losses and accuracies by epoch, training and validation in one axis each.

    Parameters
    ----------
    history : sequence of dict
        A row an epoch with ``epoch``, ``loss`` and perhaps ``token_accuracy``, each perhaps
        with a ``val_`` twin.
    path : path
        A PNG file.
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
    _save(figure, path)


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
    """Draw each study: its views, where the model looked, and below what was written.

    Parameters
    ----------
    examples : sequence of Example
    path : path
        A PNG file.
    words : int
        Words of each caption whose attention is drawn: those that look at the fewest regions.
    """
    from matplotlib.figure import Figure

    views = max(len(example.images) for example in examples)
    chosen = [_sharpest(example, words) for example in examples]
    width = max((views + max(map(len, chosen))) * (SIDE + GAP) + GAP, 5 * SIDE)
    texts = [_texts(example, width - NAME - 2 * GAP) for example in examples]
    heights = [TITLE + SIDE + LINE * (sum(len(t[1]) for t in text) + 1.5) for text in texts]
    figure = Figure(figsize=(width, sum(heights)), dpi=DPI)
    for i, (example, text) in enumerate(zip(examples, texts)):
        top = sum(heights[:i]) + TITLE
        cells = [_axis(figure, GAP + n * (SIDE + GAP), top) for n in range(views + len(chosen[i]))]
        for view, (axis, image) in enumerate(zip(cells, example.images)):
            axis.imshow(image[..., 0], cmap="gray", vmin=0, vmax=1)
            axis.set_title(example.view(view), fontsize=FONT, pad=4)
        for axis, word in zip(cells[views:], chosen[i]):
            draw_attention(axis, example, word)
        _write(figure, text, top + SIDE + LINE / 2)
    _save(figure, path)


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
    maps = example.attention[word][: len(example.images)]
    view = int(np.argmax(maps.sum(axis=(1, 2))))
    image = example.images[view][..., 0]
    height, width = image.shape
    place = {"extent": (0, width, height, 0)}
    axis.imshow(image, cmap="gray", vmin=0, vmax=1, **place)
    heat = maps[view] / max(float(maps[view].max()), 1e-9)
    # The less attention, the less colour: the pixels below stay readable.
    axis.imshow(
        heat, cmap="autumn_r", vmin=0, vmax=1, alpha=0.7 * heat, interpolation="bilinear", **place
    )
    share = 100 * maps[view].sum()
    title = f"“{_cut(example.words[word], 0.9 * SIDE)}”\n{example.view(view)}, {share:.0f} %"
    axis.set_title(title, fontsize=FONT, pad=4, parse_math=False)


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


def _texts(example: Example, width: float) -> list[tuple[str, list[str], str]]:
    """Return name, lines and colour of everything that was written, wrapped to a width."""
    named = [("reference", example.reference), *example.captions.items()]
    return [
        (_cut(name, NAME - GAP), _wrap(text, width), colour)
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


def _write(figure: Any, texts: list[tuple[str, list[str], str]], top: float) -> None:
    width, height = figure.get_size_inches()
    style = {"fontsize": FONT, "va": "baseline", "parse_math": False}
    for name, lines, colour in texts:
        for i, line in enumerate(lines):
            y = 1 - (top + LINE * (i + 0.8)) / height
            if not i:
                figure.text(GAP / width, y, name, color=colour, weight="bold", **style)
            figure.text((GAP + NAME) / width, y, line, color=colour, **style)
        top += LINE * len(lines)


def _axis(figure: Any, left: float, top: float) -> Any:
    """Return a square without frame at a place in inches."""
    width, height = figure.get_size_inches()
    box = (left / width, 1 - (top + SIDE) / height, SIDE / width, SIDE / height)
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
