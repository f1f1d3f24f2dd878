"""Rows as tables: aligned text for a terminal, Markdown and CSV."""

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

TEXT_COLUMNS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr")
CLINICAL_COLUMNS = ("clinical_f1", "micro_f1", "false_positives")
SHOWN = (*("system", "search", *TEXT_COLUMNS, *CLINICAL_COLUMNS), *("p_shuffled", "sides", "distinct", "n"))
"""Columns for a terminal; a row of ``metrics.json`` may have more. ``p_shuffled`` is the p value of
`xray_captioning.evaluation.claims.shuffle_test`."""

# Column of the studies that were not evaluated, because some system has no text for them.
LEFT_OUT = "left_out"
_MARKUP = re.compile(r"[\\|`*_\[\]]")


def format_table(rows: Sequence[Mapping[str, Any]], names: Sequence[str] | None = None) -> str:
    """Return rows as aligned text for a terminal: the columns named, or those of the first row."""
    names = list(names or rows[0])
    cells = [[format_cell(row.get(name)) for name in names] for row in rows]
    # As a header the names would make each column two characters wider than they are.
    head, *lines = tabulate([names, *cells], tablefmt="plain", disable_numparse=True).splitlines()
    return "\n".join([head, "-" * len(head), *lines])


def format_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as a Markdown table in which no text can become markup or another column."""
    texts = [[plain(" ".join(format_cell(v).split())) for v in row.values()] for row in rows]
    cells = [[_MARKUP.sub(lambda found: "\\" + found[0], text) for text in row] for row in texts]
    return tabulate(cells, list(rows[0]), "pipe", disable_numparse=True)


def plain(text: str) -> str:
    """Return text in which Markdown sees no HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def format_csv(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """Return rows as CSV with full precision, a header even where there is no row."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([names, *([row.get(name) for name in names] for row in rows)])
    return text.getvalue()


def format_cell(value: Any) -> str:
    """Return a number, name or nothing as it stands in a table."""
    if value is None or value != value:  # not a number: a share of nothing
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def finite(value: float) -> float | None:
    """Return None for what is not a number, which JSON cannot write."""
    return float(value) if math.isfinite(value) else None
