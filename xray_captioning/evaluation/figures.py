"""Parts of the report page that are drawn: bars, strips, chips and small images."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xray_captioning.data.images import read_image
from xray_captioning.errors import ImageError
from xray_captioning.evaluation.html import Element, tag

THUMBNAIL = 176
"""Pixels of a side: what a card of the page shows, and a few kilobytes."""


def bar(value: float, label: str | None = None, colour: int | None = None) -> Element:
    """Draw a share as a horizontal bar with its number.

    Parameters
    ----------
    value : float
        From 0 to 1; nan, a share of nothing, has no bar.
    label : str, optional
        Instead of the number with two digits.
    colour : int, optional
        Of a system in the page's palette.
    """
    known = value == value
    text = label if label is not None else f"{value:.2f}" if known else "-"
    width = f"width:{100 * value if known else 0:.1f}%"
    fill = tag("i", style=width, class_=None if colour is None else f"s{colour}")
    return tag("span", tag("span", fill, class_="track"), tag("b", text), class_="bar")


def strip(lengths: Sequence[int], longest: int, colour: int) -> Element:
    """Draw how often each number of words occurs, scaled to the most frequent one.

    Parameters
    ----------
    lengths : sequence of int
        Words of each text.
    longest : int
        Where the axis ends; longer texts are counted there.
    colour : int
    """
    bins = min(longest, 60) + 1
    places = np.minimum(np.array(lengths), longest) * (bins - 1) // max(longest, 1)
    counts = np.bincount(places, minlength=bins).tolist()
    most = max(counts)
    rectangles = [
        tag(
            "rect",
            x=i,
            y=f"{1 - count / most:.3f}",
            width=1,
            height=f"{count / most:.3f}",
        )
        for i, count in enumerate(counts)
        if count
    ]
    return tag(
        "svg",
        *rectangles,
        class_=f"strip s{colour}",
        viewBox=f"0 0 {bins} 1",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"{len(lengths)} texts, {np.mean(lengths):.1f} words on average",
    )


def chips(common: Sequence[str], missed: Sequence[str], invented: Sequence[str]) -> Element:
    """Name the findings that two texts share and those that only one of them has."""
    named = [("hit", "✓ ", common), ("missed", "missed: ", missed), ("extra", "added: ", invented)]
    found = [tag("span", word + name, class_=kind) for kind, word, names in named for name in names]
    none = tag("span", "no finding in either", class_="hit")
    return tag("p", *(found or [none]), class_="chips")


def thumbnail(path: str) -> Element | None:
    """Return a small copy of an image, inside the page, or None where it cannot be read."""
    import cv2

    if not Path(path).is_file():
        return None
    try:
        pixels: NDArray[np.float32] = read_image(path, THUMBNAIL)
    except ImageError:
        return None
    grey = (255 * pixels[..., 0]).round().clip(0, 255).astype(np.uint8)
    data = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
    source = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
    return tag("img", src=source, alt="", width=THUMBNAIL, height=THUMBNAIL)


def variety(texts: Sequence[str], colour: int) -> tuple[Element, str, str]:
    """Draw how many texts differ; say the share of the commonest and how often each half occurs.

    Returns
    -------
    tuple
        A bar of the share of distinct texts, the share of the most frequent one, and how many
        texts make up half of all.
    """
    counts = sorted(Counter(texts).values(), reverse=True)
    half = int(np.searchsorted(np.cumsum(counts), len(texts) / 2)) + 1
    label = f"{len(counts)} of {len(texts)}"
    return bar(len(counts) / len(texts), label, colour), f"{counts[0] / len(texts):.0%}", str(half)
