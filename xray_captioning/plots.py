"""Pictures one would show: training curves, panels of studies, attention over the pixels."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xray_captioning.files import atomic_path

Array = NDArray[Any]
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # Okabe and Ito: safe for the colour-blind


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
    """

    images: Sequence[Array] | Array
    reference: str
    captions: dict[str, str]
    attention: Array | None
    words: Sequence[str]


def plot_panel(examples: Sequence[Example], path: str | Path, words: int = 3) -> None:
    """Draw a row a study: its views, what was written, and where the model looked.

    Parameters
    ----------
    examples : sequence of Example
    path : path
        A PNG file.
    words : int
        Words of each caption whose attention is drawn: those that look at the fewest regions.
    """
    views = max(len(example.images) for example in examples)
    widths = [1.0] * views + [1.9] + [1.0] * words
    figure, grid = _grid(len(examples), widths)
    for row, example in zip(grid, examples):
        for axis, image, name in zip(row, example.images, ("first view", "second view")):
            axis.imshow(image[..., 0], cmap="gray", vmin=0, vmax=1)
            axis.set_title(name, fontsize=7)
        _write(row[views], example)
        for axis, number in zip(row[views + 1 :], _sharpest(example, words)):
            draw_attention(axis, example, number)
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
    axis.imshow(image, cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0))
    heat = maps[view] / max(float(maps[view].max()), 1e-9)
    axis.imshow(
        np.ma.masked_less(heat, 0.05),
        cmap="plasma",
        alpha=0.45,
        vmin=0,
        vmax=1,
        extent=(0, width, height, 0),
        interpolation="bicubic",
    )
    share = 100 * maps[view].sum()
    name = ("first", "second")[view] if view < 2 else f"{view + 1}th"
    axis.set_title(f"“{example.words[word]}”\n{name} view, {share:.0f} %", fontsize=7)


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


def _write(axis: Any, example: Example) -> None:
    parts = [("reference", example.reference, "black")]
    parts += [
        (name, text, colour) for (name, text), colour in zip(example.captions.items(), COLOURS)
    ]
    height = 1.0
    for name, text, colour in parts:
        lines = textwrap.wrap(text, 44)[:7] or ["(nothing)"]
        axis.text(0, height, name, fontsize=7, weight="bold", color=colour, va="top")
        axis.text(0, height - 0.075, "\n".join(lines), fontsize=7, color=colour, va="top")
        height -= 0.11 + 0.075 * len(lines)
    axis.set(xlim=(0, 1), ylim=(0, 1))


def _figure(columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _grid(rows: int, widths: Sequence[float]) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.75 * sum(widths), 2.0 * rows), layout="constrained")
    axes = figure.subplots(rows, len(widths), squeeze=False, width_ratios=list(widths))
    for axis in axes.flat:
        axis.set_axis_off()
    return figure, axes


def _save(figure: Any, path: str | Path) -> None:
    # A Figure of its own needs neither a display nor pyplot's global state.
    with atomic_path(Path(path)) as temporary:
        figure.savefig(temporary, dpi=130)
