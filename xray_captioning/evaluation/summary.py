"""The scores of all systems as tables: what the columns are called, and rows for every format."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from xray_captioning.evaluation.baselines import merged_rows
from xray_captioning.evaluation.differences import Row
from xray_captioning.evaluation.results import Results
from xray_captioning.evaluation.systems import System
from xray_captioning.evaluation.table import CLINICAL_COLUMNS, TEXT_COLUMNS, format_cell

_TABLES: dict[str, dict[str, str]] = tomllib.loads(
    Path(__file__).with_name("summary.toml").read_text("utf-8")
)
COLUMNS, MORE, SAID = _TABLES["columns"], _TABLES["more"], _TABLES["said"]
"""Scores by name, and what a reader finds above them: of the summary and of the tables below it."""

NAMES = COLUMNS | MORE | SAID
WHOLE = (*CLINICAL_COLUMNS, "sides", *TEXT_COLUMNS)
DRAWN = 4
"""Systems that the page draws and compares with each other; Markdown and CSV have all."""

GROUPS = _TABLES["groups"]
"""What a reader finds above the systems of each kind."""


def named(columns: Iterable[str]) -> list[str]:
    """Return what a reader of a table finds above its columns."""
    return [NAMES[name] for name in columns]


def number(name: str, value: Any) -> str:
    """Return a score as text, with the digits that its metric has in tables."""
    short = name in ("mean_length", "chrF") and value is not None
    return f"{value:.1f}" if short else format_cell(value)


def drawn_systems(results: Results) -> tuple[list[System], list[str]]:
    """Return the systems that the page draws, in table order, and the names of the others.

    Drawn are those with the highest clinical F1, or BLEU-4 where no report names a finding.
    """
    own = [(s, row) for s, row in zip(results.systems, results.rows) if s.kind == "system"]
    known = all(row["clinical_f1"] is not None for _, row in own)
    metric = "clinical_f1" if known else "BLEU-4"
    best = sorted(own, key=lambda pair: -pair[1][metric])[:DRAWN]
    names = [system.column for system, _ in best]
    drawn = [system for system, _ in own if system.column in names]
    return drawn, [system.column for system, _ in own if system.column not in names]


def shown_differences(results: Results, hidden: Collection[str]) -> list[Row]:
    """Return the paired tests without those of hidden systems; Markdown and CSV hold all."""
    return [r for r in results.paired_tests if not {r["system"], r["rival"]}.intersection(hidden)]


def signed(value: float | None) -> str:
    """Return a difference as text, with its sign."""
    return "-" if value is None else f"{value:+.3f}"


def summary_rows(results: Results) -> list[Row]:
    """Return every score of every system with its interval, for a CSV."""
    rows = []
    for system, row in zip(results.systems, results.rows):
        intervals = results.intervals(system.column)
        values: Row = {"system": system.name, "search": system.search, "kind": system.kind}
        for name in (*COLUMNS, *(name for name in (*MORE, *SAID) if name in row)):
            values[name] = row[name]
            if intervals.get(name):
                values[f"{name}_low"], values[f"{name}_high"] = intervals[name] or (None, None)
        rows.append(values | {"n": row["n"]} | results.left_out)
    return rows


def rows_by_kind(results: Results) -> dict[str, list[Row]]:
    """Return the rows of the page: of systems, baselines and shuffled systems."""
    rows = merged_rows(summary_rows(results))
    return {kind: [row for row in rows if row["kind"] == kind] for kind in GROUPS}


def markdown_rows(results: Results, columns: Iterable[str]) -> list[Row]:
    """Return some scores of every system as text, intervals in parentheses."""
    return [_markdown_row(row, columns) for row in merged_rows(summary_rows(results))]


def _markdown_row(row: Mapping[str, Any], columns: Iterable[str]) -> Row:
    shown = {"system": row["system"], "search": row["search"] or ""}
    for name in (name for name in columns if name in row):
        low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
        span = f" ({number(name, low)} to {number(name, high)})" if low is not None else ""
        shown[NAMES[name]] = number(name, row[name]) + span
    return shown
