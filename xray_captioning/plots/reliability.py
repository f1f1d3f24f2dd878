"""The reliability diagram: what is right of what is stated with some confidence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xray_captioning.plots.charts import DPI, save

COLOURS = ("#999999", "#0072B2", "#D55E00")

Bin = tuple[float, float, float, float, int]
"""Mean stated probability, share of right ones with its 95 % interval, and how many there are."""


def reliability_diagram(curves: Mapping[str, Sequence[Bin]], path: str | Path) -> None:
    """Draw the share of right sentences over the stated probability, with 95 % intervals.

    Parameters
    ----------
    curves : mapping of str to sequence of Bin
        By what the legend says of them, drawn in this order.
    path : path
        A PNG file.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 4.2), layout="constrained", dpi=DPI)
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color="0.75", linestyle="--", linewidth=1)
    for colour, (name, bins) in zip(COLOURS, curves.items()):
        _draw(axis, bins, colour, name)
    least = min(min(stated, low) for bins in curves.values() for stated, _, low, _, _ in bins)
    edge = max(0.0, math.floor(least * 20) / 20 - 0.05)
    axis.set(
        xlim=(edge, 1.01),
        ylim=(edge, 1.01),
        xlabel="stated probability that a sentence is right",
        ylabel="share of sentences that are right",
        aspect="equal",
    )
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8, loc="lower right")
    save(figure, path)


def _draw(axis: Any, bins: Sequence[Bin], colour: str, label: str) -> None:
    x, y, low, high, _ = zip(*bins)
    spans = [[b - a for a, b in zip(low, y)], [b - a for a, b in zip(y, high)]]
    style = {"fmt": "o-", "markersize": 4, "linewidth": 1, "elinewidth": 0.8, "capsize": 2}
    axis.errorbar(x, y, spans, color=colour, label=label, **style)
