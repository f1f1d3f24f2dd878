"""Charts of numbers, each a figure of its own, as wide as a page, in Okabe and Ito's colours for the colour-blind."""

import io
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xray_captioning.errors import ConfigError
from xray_captioning.files import atomic_write
from xray_captioning.findings import CONSTANT, MOST_FREQUENT, ORACLE, RANDOM, RETRIEVAL, SHUFFLED

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#767676"  # of what is there for comparison
WIDTH, ROW = 7.2, 0.21  # inches of a page of text, and of a row of names
FONT, DPI = 8.5, 130
FORMATS = ("png", "pdf", "svg")  # of files
BINS = 30
BASELINES = (CONSTANT, MOST_FREQUENT, RANDOM, RETRIEVAL, ORACLE)
METRIC_NAMES = {"clinical_f1": "clinical F1", "sides": "right side", "distinct": "distinct texts"}

Interval = Sequence[float] | None


def png(figure: Any) -> bytes:
    """Return the bytes of a PNG file of a figure."""
    figure.savefig(file := io.BytesIO(), format="png")
    return file.getvalue()


def save(figure: Any, path: str | Path) -> None:
    """Write a figure to a file, whole or not at all: .png, .pdf with fonts that can be edited, or .svg."""
    from matplotlib import rc_context

    kind, file = Path(path).suffix[1:].lower(), io.BytesIO()
    undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind)
    with rc_context({"pdf.fonttype": 42, "svg.hashsalt": "xray_captioning"}):  # the same figure is the same file
        figure.savefig(file, format=kind, metadata=undated)
    atomic_write(path, file.getvalue())


def save_as(figure: Any, path: Path, formats: Collection[str]) -> None:
    """Write a figure beside `path`, which has no ending, in some formats; those of before in other ones are removed."""
    for kind in FORMATS:
        file = path.with_name(f"{path.name}.{kind}")
        save(figure, file) if kind in formats else file.unlink(missing_ok=True)


def check_format(path: Path, option: str) -> None:
    """Refuse the name of a file that `save` cannot write."""
    if path.suffix[1:].lower() not in FORMATS:
        raise ConfigError(f"{option} {path}: is a picture; let its name end in .{', .'.join(FORMATS)}")


def curves(history: Sequence[Mapping[str, float]]) -> Any:
    """Draw each metric by epoch, training and validation (``val_`` before its name) in one axis."""
    names = [name.removeprefix("val_") for row in history for name in row]  # a reward is not of every epoch
    metrics = [name for name in dict.fromkeys(names) if name not in ("epoch", "learning_rate", "seconds")]
    figure, axes = _figure(len(metrics), 2.8, WIDTH / 2 * len(metrics))
    epochs = [row["epoch"] for row in history]
    for axis, metric in zip(axes, metrics):
        for colour, (prefix, label) in zip(COLOURS, [("", "training"), ("val_", "validation")]):
            if not np.isnan(values := [row.get(prefix + metric, np.nan) for row in history]).all():
                axis.plot(epochs, values, color=colour, label=label, marker=".", markersize=4)
        axis.set(xlabel="epoch", ylabel=metric.replace("_", " "))
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(frameon=False, fontsize=FONT)
    return figure


def bars(panels: Mapping[str, Mapping[str, float]], label: str = "studies") -> Any:
    """Draw counts of `label` by name as horizontal bars, a panel for each title."""
    rows = max(1, *(len(counts) for counts in panels.values()))
    figure, axes = _figure(len(panels), 0.9 + ROW * rows)
    for axis, (title, counts) in zip(axes, panels.items()):
        drawn = axis.barh(range(len(counts)), list(counts.values()), 0.75, color=COLOURS[0])
        axis.bar_label(drawn, [f"{value:,.5g}" for value in counts.values()], padding=3, fontsize=FONT - 1)
        axis.set_yticks(range(len(counts)), list(counts), parse_math=False)
        axis.set_ylim(max(rows, len(counts)) - 0.4, -0.6)
        axis.set_title(title, fontsize=FONT)
        axis.set(xlabel=label, xlim=(0, 1.22 * max([*counts.values(), 1e-9])))
        axis.xaxis.get_major_locator().set_params(nbins=4)
    return figure


def histograms(panels: Mapping[str, Sequence[float]], label: str, unit: str = "studies") -> Any:
    """Draw how often values occur, a panel a title, with the median; the last bin has those above 99.5 %, too."""
    figure, axes = _figure(len(panels), 2.5)
    edges = _edges(np.concatenate([np.asarray(values, float) for values in panels.values()]))
    for axis, (title, values) in zip(axes, panels.items()):
        axis.hist(np.clip(np.asarray(values, float), edges[0], edges[-1]), edges, color=COLOURS[0], rwidth=0.9)
        if len(values):
            middle = float(np.median(values))
            axis.axvline(middle, color=COLOURS[1], linewidth=1.5)
            named = f" median {middle:.3g}" if abs(middle) < 1 else f" median {middle:.0f}"
            style = {"transform": axis.get_xaxis_transform(), "color": COLOURS[1], "fontsize": FONT}
            axis.text(middle, 1.0, named, va="top", **style)
        axis.set_title(title, fontsize=FONT)
        axis.set(xlabel=label, ylabel=unit)
        axis.xaxis.get_major_locator().set_params(nbins=4)
    return figure


def scores(
    rows: Sequence[Mapping[str, Any]], metrics: Sequence[str], intervals: Mapping[str, Mapping[str, Interval]] = {}
) -> Any:
    """Draw scores with intervals, as in ``metrics.json``, a panel a metric; systems that see no image are grey."""
    names = [f"{row['system']} {row['search']}" if row.get("search") else str(row["system"]) for row in rows]
    figure, axes = _figure(len(metrics), 0.9 + ROW * len(rows), shared=True)
    for axis, metric in zip(axes, metrics):
        for place, (name, row) in enumerate(zip(names, rows)):
            _point(axis, row.get(metric), place, intervals.get(name, {}).get(metric), _colour(str(row["system"])))
        axis.set_xlabel(METRIC_NAMES.get(metric, metric))
        axis.set_xlim(left=0)
        axis.xaxis.get_major_locator().set_params(nbins=4)
    _name_rows(axes, names)
    return figure


def intervals(values: Mapping[str, tuple[float, float, float]], label: str, chance: float) -> Any:
    """Draw values (value, low, high), one below the other, and a dashed line at `chance`."""
    figure, (axis,) = _figure(1, 0.9 + ROW * len(values), 0.75 * WIDTH)
    for place, (value, low, high) in enumerate(values.values()):
        _point(axis, value, place, (low, high), COLOURS[0])
    axis.axvline(chance, color=GREY, linestyle="--", linewidth=1)
    axis.set_xlabel(label)
    _name_rows([axis], list(values))
    return figure


def lines(values: Mapping[str, Sequence[float]], xlabel: str, ylabel: str, logarithmic: bool = False) -> Any:
    """Draw series of numbers over 1, 2, 3, ..., with their names beside."""
    figure, (axis,) = _figure(1, 3.0, 0.8 * WIDTH)
    for number, (name, series) in enumerate(values.items()):
        colour, style = COLOURS[number % len(COLOURS)], ("-", "--", ":")[number // len(COLOURS) % 3]
        axis.plot(1 + np.arange(len(series)), series, style, color=colour, label=name)
    axis.xaxis.get_major_locator().set_params(integer=True)
    if logarithmic:
        axis.set(xscale="log", yscale="log")
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.legend(frameon=False, fontsize=FONT, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def scatter(points: Mapping[str, tuple[float, float]], xlabel: str, ylabel: str) -> Any:
    """Draw a named point (x, y) a system; systems that see no image are grey."""
    figure, (axis,) = _figure(1, 3.6, 0.8 * WIDTH)
    for name, (x, y) in points.items():
        axis.plot(x, y, "o", color=_colour(name), markersize=6)
    _name_points(axis, points)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.margins(0.15)
    axis.grid(color="0.92", linewidth=0.8)
    return figure


def heatmap(table: NDArray[Any], rows: Sequence[str], columns: Sequence[str], label: str) -> Any:
    """Draw shares (rows, columns) in [0, 1] as shades with the numbers in them; nan stays empty."""
    figure, (axis,) = _figure(1, 1.7 + 0.27 * len(rows))
    drawn = axis.imshow(table, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(table):
        if np.isfinite(value):
            dark = {"color": "white" if value < 0.55 else "black", "fontsize": FONT - 1.5}
            axis.text(column, row, f"{value:.2f}".lstrip("0"), ha="center", va="center", **dark)
    axis.set_yticks(range(len(rows)), rows, parse_math=False)
    axis.set_xticks(range(len(columns)), columns, rotation=40, ha="right", parse_math=False)
    axis.spines[:].set_visible(False)
    scale = figure.colorbar(drawn, ax=axis, fraction=0.03, pad=0.01)
    scale.ax.tick_params(labelsize=FONT)
    scale.set_label(label, size=FONT)
    return figure


def reliability_diagram(curves: Mapping[str, Sequence[Sequence[float]]]) -> Any:
    """Draw bins (mean stated probability, share of right sentences, the ends of its 95 % interval, number)."""
    figure, (axis,) = _figure(1, 4.2, 4.6)
    axis.plot([0, 1], [0, 1], color="0.75", linestyle="--", linewidth=1)
    style = {"fmt": "o-", "markersize": 4, "linewidth": 1, "elinewidth": 0.8, "capsize": 2}
    for colour, (name, bins) in zip(("#999999", *COLOURS), curves.items()):
        x, y, low, high, _ = np.transpose(bins)
        axis.errorbar(x, y, (y - low, high - y), color=colour, label=name, **style)
    least = min(min(stated, low) for bins in curves.values() for stated, _, low, _, _ in bins)
    edge = max(0.0, np.floor(least * 20) / 20 - 0.05)
    axis.set(xlim=(edge, 1.01), ylim=(edge, 1.01), aspect="equal")
    axis.set(xlabel="stated probability that a sentence is right", ylabel="share of sentences that are right")
    axis.legend(frameon=False, fontsize=FONT, loc="lower right")
    return figure


def _edges(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return edges of bins that hold 0 and nearly all values; whole numbers get whole bins."""
    low, top = (float(end) for end in np.percentile(values, [0.5, 99.5])) if len(values) else (0.0, 0.0)
    low, top = min(0.0, low), max(0.0, top)
    if (values != np.rint(values)).any() or low == top:
        return np.linspace(low, top if top > low else low + 1.0, BINS + 1)
    step = max(int(np.ceil((top - low) / BINS)), 1)
    return np.arange(np.floor(low), np.ceil(top) + step + 1, step) - 0.5


def _name_points(axis: Any, points: Mapping[str, tuple[float, float]]) -> None:
    # Names of points that lie on each other are written one below the other.
    wide, high = (max(abs(point[i]) for point in points.values()) or 1.0 for i in (0, 1))
    taken: list[tuple[float, float]] = []
    for name, (x, y) in sorted(points.items(), key=lambda item: -item[1][1]):
        height = min([y, *(t - 0.05 * high for place, t in taken if abs(place - x) < 0.3 * wide)])
        taken.append((x, height))
        axis.annotate(name, (x, y), (x + 0.02 * wide, height), fontsize=FONT, va="center", parse_math=False)


def _colour(system: str) -> str:
    return GREY if system.startswith(BASELINES) or system.endswith(SHUFFLED) else COLOURS[0]


def _point(axis: Any, value: float | None, row: int, interval: Interval, colour: str) -> None:
    if value is not None:
        axis.plot(value, row, "o", color=colour, markersize=5)
    if interval:
        axis.plot(interval, [row, row], color=colour, linewidth=1.5)


def _name_rows(axes: Sequence[Any], names: Sequence[str]) -> None:
    axes[0].set_yticks(range(len(names)), names, parse_math=False)
    axes[0].set_ylim(len(names) - 0.4, -0.6)
    for axis in axes:
        axis.grid(axis="y", color="0.92", linewidth=0.8)


def _figure(columns: int, height: float, width: float = WIDTH, shared: bool = False) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=DPI)
    axes = figure.subplots(1, columns, squeeze=False, sharey=shared)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=FONT)
        axis.xaxis.label.set_size(FONT)
        axis.yaxis.label.set_size(FONT)
    return figure, axes
