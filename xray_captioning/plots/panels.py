"""Figures of studies, matplotlib's: their views, what was written, and where the decoder looked."""

import itertools
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

from xray_captioning.plots.charts import COLOURS, DPI, FONT, WIDTH
from xray_captioning.plots.images import Array, View, colour_scale, overlay, strongest

# Inches: an image, what lies between two, a title above one, a system's name beside its text (and
# beside the views, where there is less room), the margin of a page, a line of text.
SIDE, GAP, TITLE, NAME, SHORT, MARGIN, LINE = 1.6, 0.1, 0.42, 1.9, 1.4, 0.2, 0.165
SHOWN = 3  # findings of a caption whose attention a panel shows
COLUMNS = 7  # words side by side
CARD_WIDTH, CARD_SIDE, CARD_LINE, CARD_DPI = 7.6, 3.3, 0.22, 110

Lines = Sequence[str]
Texts = list[tuple[str, list[str], str]]  # name, lines and colour


class Example(NamedTuple):
    """One study of a panel."""

    images: Sequence[Array] | Array  # each (height, width, 3), float in [0, 1]
    reference: str | None  # of a reader
    captions: dict[str, str]  # text by system
    attention: Array | None  # (words, views, rows, columns), of the first caption
    words: Sequence[str]  # of the first caption
    views: Sequence[str] = ()  # "frontal", "lateral" or "unknown", where that is known
    named: Sequence[Sequence[int]] = ()  # the places of the words that name each finding
    offset: tuple[float, float] = (0.0, 0.0)  # how far below and right regions see (`Captioner.offset`)

    def attended_views(self, places: Sequence[int] = ()) -> list[View]:
        """Return the views, with the mean attention of the words in places where some are given."""
        maps: Any = itertools.repeat(None)
        if len(places) and self.attention is not None:
            maps = self.attention[list(places)].mean(axis=0)
        names = [*self.views, *["unknown"] * len(self.images)]
        return [
            View(f"view {i}" if name == "unknown" else name, image[..., 0], weights, (*self.offset, 1.0, 1.0))
            for i, (name, image, weights) in enumerate(zip(names, self.images, maps), 1)
        ]


def panel(examples: Sequence[Example], note: str = "", most: int = SHOWN) -> Any:
    """Draw each study: its views, where words look that name findings (`most`), below what was written; last a note."""
    from matplotlib.figure import Figure

    views = max(len(example.images) for example in examples)
    chosen = [[] if e.attention is None else [*dict.fromkeys(map(tuple, e.named))][:most] for e in examples]
    beside = not any(chosen)  # without attention there is room for the texts beside the views
    width = max((views + max(map(len, chosen))) * (SIDE + GAP) + GAP, 5 * SIDE)
    left, indent = (views * (SIDE + GAP) + GAP, SHORT) if beside else (GAP, NAME)
    texts = [_texts(example, width - left - indent - GAP, indent - GAP) for example in examples]
    long = [LINE * (sum(len(t[1]) for t in text) + 1.5) for text in texts]
    heights = [TITLE + (max(SIDE + LINE, n) if beside else SIDE + n) for n in long]
    said = _wrap(note, width - 2 * GAP) if note and not beside else []
    figure = Figure(figsize=(width, sum(heights) + LINE * len(said)), dpi=DPI)
    for i, line in enumerate(said):
        figure.text(GAP / width, 1 - (sum(heights) + LINE * (i + 0.4)) / figure.get_figheight(), line, fontsize=FONT)
    for i, (example, text) in enumerate(zip(examples, texts)):
        top = sum(heights[:i]) + TITLE
        _draw_views(figure, example, GAP, top)
        for place, words in enumerate(chosen[i], views):
            _draw_words(_axis(figure, GAP + place * (SIDE + GAP), top), example, words)
        _write(figure, text, top if beside else top + SIDE + LINE / 2, left, indent)
    return figure


def words(example: Example, most: int = 28) -> Any:
    """Draw a study, its texts and, word by word up to `most`, where the decoder looked, in one scale of colours."""
    from matplotlib.figure import Figure

    views = len(example.images)
    drawn = [n for n, word in enumerate(example.words) if any(map(str.isalnum, word))][:most]
    side = (WIDTH - MARGIN) / COLUMNS - GAP / 2
    row = TITLE / 2 + views * side + GAP
    text = _texts(example, WIDTH - views * (SIDE + GAP) - SHORT - GAP, SHORT - GAP)
    head = TITLE / 2 + max(SIDE, LINE * sum(len(lines) for _, lines, _ in text)) + GAP
    figure = Figure(figsize=(WIDTH, head + row * -(-len(drawn) // COLUMNS)), dpi=DPI)
    _draw_views(figure, example, 0, TITLE / 2)
    _write(figure, text, TITLE / 2, views * (SIDE + GAP), SHORT)
    for place, word in enumerate(drawn):
        top, left = head + row * (place // COLUMNS) + TITLE / 2, MARGIN + (place % COLUMNS) * (side + GAP / 2)
        axes = [_axis(figure, left, top + number * side, side) for number in range(views)]
        _draw_word_over_views(axes, example, word, named=place % COLUMNS == 0)
        said = example.words[word]  # a wide one is made smaller or cut; it is measured bold
        size = FONT * min(1.0, max(side / _inches(said), 0.75))
        axes[0].set_title(_cut(said, 1.2 * side * FONT / size), fontsize=size, pad=4, parse_math=False)
    return figure


def card(title: str, text: str, notes: Lines, views: Sequence[View], captions: Lines, of: str) -> Any:
    """Draw a caption, the attention of the words `of` on captioned views, and remarks below."""
    from matplotlib.figure import Figure

    top = strongest(views)
    lines = textwrap.wrap(text, 88) or ["(nothing)"]
    small = [line for note in notes for line in textwrap.wrap(note, 118)]
    above, below = 0.75 + CARD_LINE * len(lines), 0.85 + CARD_LINE * len(small)
    height, width = above + CARD_SIDE + below, 0.96 / len(views)
    figure = Figure(figsize=(CARD_WIDTH, height), dpi=CARD_DPI)
    _write_lines(figure, [title], height - 0.28, 8)
    _write_lines(figure, lines, height - 0.56, 11)
    _write_lines(figure, small, CARD_LINE * (len(small) - 1) + 0.12, 8)
    for i, (view, caption) in enumerate(zip(views, captions)):
        axis = figure.add_axes((0.02 + i * width, below / height, width, CARD_SIDE / height))
        axis.imshow(overlay(view, top))
        axis.set_axis_off()
        axis.set_title(caption, size=9)
    if top > 0:
        axis = figure.add_axes((0.2, (below - 0.2) / height, 0.6, 0.1 / height))
        axis.imshow(colour_scale(256)[None], aspect="auto", extent=(0, 100 * top, 0, 1))
        axis.set_yticks([])
        axis.tick_params(labelsize=7)
        label = f"% of the attention on a region, for {textwrap.shorten(of, 70, placeholder=' …')}"
        axis.set_xlabel(label, size=8, parse_math=False)
    return figure


def _write_lines(figure: Any, lines: Lines, at: float, size: int) -> None:
    height = figure.get_size_inches()[1]
    for i, line in enumerate(lines):
        figure.text(0.03, (at - CARD_LINE * i) / height, line, size=size, parse_math=False)


def _draw_views(figure: Any, example: Example, left: float, top: float) -> None:
    for place, view in enumerate(example.attended_views()):
        axis = _axis(figure, left + place * (SIDE + GAP), top)
        axis.imshow(overlay(view, 0))
        axis.set_title(view.name, fontsize=FONT, pad=4)


def _draw_words(axis: Any, example: Example, places: Sequence[int]) -> None:
    view = max(views := example.attended_views(places), key=lambda view: view.share)
    axis.imshow(overlay(view, strongest(views)))
    said = _cut(" ".join(example.words[place] for place in places), 0.9 * SIDE)
    axis.set_title(f"“{said}”\n{view.name}, {100 * view.share:.0f} %", fontsize=FONT, pad=4, parse_math=False)


def _draw_word_over_views(axes: Sequence[Any], example: Example, word: int, named: bool) -> None:
    """Draw the attention of a word on every view, with the views' names on the left if named."""
    views = example.attended_views([word])
    for axis, view in zip(axes, views):
        axis.imshow(overlay(view, strongest(views)))
        if named:
            style = {"transform": axis.transAxes, "rotation": 90, "ha": "right", "va": "center"}
            axis.text(-0.04, 0.5, view.name, fontsize=FONT - 1.5, **style)


def _texts(example: Example, width: float, name_width: float) -> Texts:
    named = [("reference", example.reference)] if example.reference is not None else []
    named += example.captions.items()
    colours = itertools.cycle(("black", *COLOURS[:4]))
    return [(_cut(name, name_width), _wrap(text, width), colour) for (name, text), colour in zip(named, colours)]


def _wrap(text: str, width: float) -> list[str]:
    characters = int(width / 0.06)
    while True:
        lines = textwrap.wrap(text, characters, max_lines=8, placeholder=" …") or ["(nothing)"]
        if characters < 10 or all(_inches(line) <= width for line in lines):
            return lines
        characters -= max(characters // 20, 1)


def _cut(name: str, width: float) -> str:
    shorter = (f"{name[:n]}…" for n in range(len(name), -1, -1))
    return next(shown for shown in itertools.chain([name], shorter) if _inches(shown, "bold") <= width)


def _inches(text: str, weight: str = "normal") -> float:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(weight=weight, size=FONT)
    size: float = text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] / 72
    return size * 1.05  # on whole pixels letters are a little wider


def _write(figure: Any, texts: Texts, top: float, left: float, indent: float) -> None:
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
    axis = figure.add_axes((left / width, 1 - (top + side) / height, side / width, side / height))
    axis.set_axis_off()
    return axis
