"""Rows of a table for a system that was trained several times: scores are means over its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def mean_row(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the means of numbers over runs; counts stay counts, None is left out."""
    return {name: _mean([row[name] for row in rows]) for name in rows[0]}


def _mean(values: Sequence[Any]) -> Any:
    known = [value for value in values if value is not None]
    if not known or isinstance(known[0], str):
        return values[0]
    whole = all(isinstance(value, int) for value in known)
    mean = sum(known) / len(known)
    return round(mean) if whole else mean
