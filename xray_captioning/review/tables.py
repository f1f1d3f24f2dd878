"""The tables of a reading study, for a terminal and as Markdown."""

from __future__ import annotations

from typing import Any

from xray_captioning.evaluation.table import format_markdown, format_table
from xray_captioning.review.design import CRITERIA

Rows = list[dict[str, Any]]


def format_summary(summary: dict[str, Any], markdown: bool = False) -> str:
    """Return what `summarise` found as tables with headings: aligned text, or Markdown."""
    heading = "## " if markdown else ""
    layout = format_markdown if markdown else format_table
    parts = [f"# {_title(summary)}" if markdown else _title(summary)]
    for name, rows, otherwise in _sections(summary):
        if rows or otherwise:
            parts += [heading + name, layout(rows) if rows else otherwise]
    return "\n\n".join(parts)


def _title(summary: dict[str, Any]) -> str:
    one, other = summary["systems"]
    same = f", {summary['identical']} with the same text twice" if summary["identical"] else ""
    return f"Reading study: {one} and {other}, {summary['studies']} studies{same}"


def _sections(summary: dict[str, Any]) -> list[tuple[str, Rows, str]]:
    """Return headings, rows, and what stands there without rows: nothing, and no heading."""
    one, other = summary["systems"]
    return [
        ("Mean ratings, 1 to 5, with 95 % intervals over studies", _means(summary), ""),
        (f"How often {one} was rated above {other}", _preferences(summary), ""),
        (
            "Agreement between readers: quadratic weighted kappa",
            _agreement(summary["agreement"]),
            "Needs the answers of at least two readers.",
        ),
        ("Agreement of readers with themselves", _agreement(summary["repeats"]), ""),
        ("Answers", _answers(summary), ""),
        ("Notes", summary["notes"], ""),
    ]


def _means(summary: dict[str, Any]) -> Rows:
    means: dict[str, Rows] = {name: [] for name in summary["systems"]}
    for row in summary["means"]:
        means[row["system"]].append(row)
    groups = [*means.items(), ("difference", summary["differences"])]
    return [
        {"system": name, **{row["criterion"]: _interval(row) for row in rows}}
        for name, rows in groups
    ]


def _interval(row: dict[str, Any]) -> str:
    if row["mean"] is None:
        return "-"
    return f"{row['mean']:.2f} ({_span(row['low'], row['high'])})"


def _span(low: float | None, high: float | None) -> str:
    return "-" if low is None else f"{low:.2f} to {high:.2f}"


def _preferences(summary: dict[str, Any]) -> Rows:
    rows = []
    for row in summary["preferences"]:
        readings = {name: row[name] for name in ("above", "below", "ties")}
        studies = {f"studies {name}": count for name, count in row["studies"].items()}
        rows.append(
            {"by": row["criterion"], **readings, **studies, "p": row["p"], "p_holm": row["p_holm"]}
        )
    return rows


def _agreement(found: Rows) -> Rows:
    return [
        {
            "readers": " and ".join(dict.fromkeys(row["readers"])),
            "criterion": row["criterion"],
            "kappa": row["kappa"],
            "95 % interval": _span(row["low"], row["high"]),
            **{name: row[name] for name in ("same", "n")},
        }
        for row in found
    ]


def _answers(summary: dict[str, Any]) -> Rows:
    return [
        {
            "reader": row["reader"],
            "given": row["given"],
            **{f"missing {name}": row["missing"][name] for name in CRITERIA},
        }
        for row in summary["readers"]
    ]
