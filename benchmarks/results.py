"""The table and the picture of what `benchmarks/phantom.py` has finished."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xray_captioning.evaluation.table import TEXT_COLUMNS

METRICS = (*TEXT_COLUMNS, "clinical_f1", "sides", "side_agreement", "distinct")
BASELINES = ("constant", "constant-clinical_f1", "random", "retrieval")
COLOURS = {"greedy": "#0072b2", "beam-3": "#d55e00"}


def write_results(out: Path, presets: Sequence[str], options: Sequence[str]) -> None:
    """Write ``table.md``, ``options.md`` and ``table.png`` of every finished run below ``out``."""
    found = {name: _finished(out, name) for name in (*presets, *options)}
    presets = [name for name in presets if found[name]]
    options = [name for name in options if found[name]]
    if not presets:  # options alone, as on more studies
        presets, options = options, []
    if not presets:
        raise SystemExit(f"{out}: holds no finished run; start without --table-only")
    lines = [_row(name, search, found[name]) for name in presets for search in COLOURS]
    lines += _baselines(found, presets)
    (out / "table.md").write_text(_markdown(lines), "utf-8")
    print(_markdown(lines))
    if options:
        seeds = {path.parent.parent for name in options for path in _paths(out, name)}
        same = [p for p in _paths(out, "chexnet_attention") if p.parent.parent in seeds]
        base = [_row("chexnet_attention", "greedy", list(map(_read, same)))] if same else []
        lines = base + [_row(name, "greedy", found[name]) for name in options]
        (out / "options.md").write_text(_markdown(lines), "utf-8")
        print(_markdown(lines))
    plot(found, presets, out / "table.png")


def _finished(out: Path, name: str) -> list[dict[str, Any]]:
    return [_read(path) for path in _paths(out, name)]


def _paths(out: Path, name: str) -> list[Path]:
    return sorted(out.glob(f"seed-*/{name}/result.json"))


def _read(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return values


def values(results: Sequence[dict[str, Any]], system: str, search: str | None, metric: str) -> Any:
    """Return a metric of one system over the seeds, shape (seeds,)."""
    rows = (row for result in results for row in result["rows"])
    chosen = [row[metric] for row in rows if (row["system"], row["search"]) == (system, search)]
    return np.array([np.nan if value is None else value for value in chosen], float)


def _row(name: str, search: str | None, results: Sequence[dict[str, Any]]) -> dict[str, str]:
    first = results[0]
    seconds = [result["seconds_an_epoch"] for result in results]
    cells = {
        "system": name,
        "search": search or "",
        "seeds": str(len(results)),
        "parameters": f"{first['encoder_parameters'] / 1e6:.2f} + {first['decoder_parameters'] / 1e6:.2f} M",
        "s/epoch": f"{np.mean(seconds):.0f}",
    }
    return cells | {m: _spread(values(results, name, search, m)) for m in METRICS}


def _baselines(found: dict[str, Any], presets: Sequence[str]) -> list[dict[str, str]]:
    # They are the same for all presets but retrieval, which looks through an encoder.
    encoders = [name for name in presets if name in ("chexnet_attention", "vit_gpt2")]
    lines = []
    for name in BASELINES:
        for preset in (encoders or presets[:1]) if name == "retrieval" else presets[:1]:
            results = found[preset]
            shown = f"{name} ({preset})" if name == "retrieval" else name
            cells = {"system": shown, "search": "", "seeds": str(len(results))}
            cells |= {"parameters": "", "s/epoch": ""}
            lines.append(cells | {m: _spread(values(results, name, None, m)) for m in METRICS})
    return lines


def _spread(numbers: Any) -> str:
    # Mean and, over the seeds, the sample's standard deviation; nothing where no study has a value.
    if np.isnan(numbers).all():
        return ""
    digits = 0 if np.all(numbers % 1 == 0) and np.all(numbers) else 3
    text = f"{np.mean(numbers):.{digits}f}"
    if len(numbers) > 1 and np.ptp(numbers) > 0:
        text += f" ± {np.std(numbers, ddof=1):.{digits}f}"
    return text


def _markdown(lines: Sequence[dict[str, str]]) -> str:
    names = [name for name in lines[0] if any(line[name] for line in lines)]
    rows = [names, ["---"] * len(names), *([line[name] for name in names] for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def plot(found: dict[str, Any], presets: Sequence[str], path: Path) -> None:
    """Draw clinical F1, sides and BLEU-4 of every preset, with the baselines as lines."""
    from matplotlib.figure import Figure

    shown = {"clinical_f1": "clinical macro F1", "sides": "right side", "BLEU-4": "BLEU-4"}
    figure = Figure(figsize=(10, 0.45 * len(presets) + 1.6), layout="constrained")
    axes = figure.subplots(1, len(shown), sharey=True)
    for axis, (metric, title) in zip(axes, shown.items()):
        for offset, (search, colour) in zip((-0.15, 0.15), COLOURS.items()):
            for y, name in enumerate(presets):
                points = values(found[name], name, search, metric)
                label = search if y == 0 else None
                height = np.full(len(points), y + offset)
                axis.plot(points, height, "o", color=colour, ms=4, alpha=0.45)
                axis.plot(points.mean(), y + offset, "|", color=colour, ms=14, mew=2.5, label=label)
        _draw_baselines(axis, found[presets[-1]], found, metric)
        axis.set(title=title, xlim=(-0.02, 1.02), yticks=range(len(presets)))
        axis.set_yticklabels(presets)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    figure.savefig(path, dpi=130)


def _draw_baselines(axis: Any, first: Any, found: dict[str, Any], metric: str) -> None:
    first = found.get("chexnet_attention") or first
    for name, style in zip(BASELINES, (":", "-.", "--", "-")):
        mean = np.mean(values(first, name, None, metric))
        axis.axvline(mean, color="#777777", linestyle=style, lw=1.2, label=name, zorder=0)
