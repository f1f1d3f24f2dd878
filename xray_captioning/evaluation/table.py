"""One row a system and search: text scores, clinical scores and distinct captions side by side."""

from __future__ import annotations

import csv
import html
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from xray_captioning.metrics.clinical import clinical_scores
from xray_captioning.metrics.scores import score
from xray_captioning.metrics.sides import side_agreement

TEXT_COLUMNS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr")
SHOWN = ("system", "search", *TEXT_COLUMNS, "clinical_f1", "sides", "distinct", "n")
"""Columns for a terminal; a row of ``metrics.json`` may have more."""


class System(NamedTuple):
    """What one system wrote for the evaluated studies, in their order.

    Attributes
    ----------
    name : str
    search : str or None
        ``greedy``, ``beam-3`` …, or None where nothing was searched.
    texts : list of str
    kind : {"system", "baseline", "shuffled"}
        Something to judge, something to judge it by, or its captions dealt to other studies.
    """

    name: str
    search: str | None
    texts: list[str]
    kind: str = "system"

    @property
    def column(self) -> str:
        """Name of the system's column in ``captions.csv``."""
        return f"{self.name} {self.search}" if self.search else self.name


def system_row(
    references: Sequence[str], system: System, reports: Sequence[str] | None = None
) -> dict[str, Any]:
    """Score one system.

    Parameters
    ----------
    references : sequence of str
        Cleaned as the system's training texts were.
    system : System
    reports : sequence of str, optional
        Texts whose findings and sides count, where they are not the references.

    Returns
    -------
    dict
        ``system``, ``search``, BLEU-1 to BLEU-4 (corpus), ROUGE-L, CIDEr, ``clinical_f1`` (macro
        F1 over the findings some reference has), ``sides`` (share of the references' lateralised
        findings named on the same side; None where there are none), ``distinct`` (number of
        different texts) and ``n``.
    """
    reports = references if reports is None else reports
    clinical = clinical_scores(reports, system.texts)["clinical_f1"]
    sides = side_agreement(reports, system.texts).side_recall
    return {
        "system": system.name,
        "search": system.search,
        **score(references, system.texts),
        "clinical_f1": finite(clinical),
        "sides": finite(sides),
        "distinct": len(set(system.texts)),
        "n": len(references),
    }


def format_table(rows: Sequence[Mapping[str, Any]], names: Sequence[str] | None = None) -> str:
    """Return rows as aligned text for a terminal.

    Parameters
    ----------
    rows : sequence of mapping
    names : sequence of str, optional
        The columns to show; those of the first row where absent.
    """
    names = list(names or rows[0])
    cells = [names, *([format_cell(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    lines = ["  ".join(value.ljust(w) for value, w in zip(line, widths)).rstrip() for line in cells]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def format_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as a Markdown table in which no text can become a tag or a column."""
    lines = [list(rows[0]), ["---"] * len(rows[0])]
    lines += [[_markdown(format_cell(value)) for value in row.values()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def format_csv(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """Return rows as CSV with full precision, a header even where there is no row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([row.get(name) for name in names] for row in rows)
    return text.getvalue()


def format_cell(value: Any) -> str:
    """Return a number, name or nothing as it stands in a table."""
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def finite(value: float) -> float | None:
    """Return None for what is not a number, which JSON cannot write."""
    return float(value) if math.isfinite(value) else None


def _markdown(text: str) -> str:
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|")
