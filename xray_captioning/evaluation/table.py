"""One row a system and search: text scores, clinical scores and distinct captions side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from xray_captioning.evaluation.clinical import clinical_scores
from xray_captioning.evaluation.scores import score
from xray_captioning.evaluation.sides import side_agreement


class System(NamedTuple):
    """What one system wrote for the evaluated studies, in their order.

    Attributes
    ----------
    name : str
    search : str or None
        ``greedy``, ``beam-3`` …, or None where nothing was searched.
    texts : list of str
    """

    name: str
    search: str | None
    texts: list[str]

    @property
    def column(self) -> str:
        """Name of the system's column in ``captions.csv``."""
        return f"{self.name} {self.search}" if self.search else self.name


def system_row(references: Sequence[str], system: System) -> dict[str, Any]:
    """Score one system.

    Parameters
    ----------
    references : sequence of str
        Cleaned as the system's training texts were.
    system : System

    Returns
    -------
    dict
        ``system``, ``search``, BLEU-1 to BLEU-4 (corpus), ROUGE-L, CIDEr, ``clinical_f1`` (macro
        F1 over the findings some reference has), ``sides`` (share of the references' lateralised
        findings named on the same side; None where there are none), ``distinct`` (number of
        different texts) and ``n``.
    """
    clinical = clinical_scores(references, system.texts)["clinical_f1"]
    sides = side_agreement(references, system.texts).side_recall
    return {
        "system": system.name,
        "search": system.search,
        **score(references, system.texts),
        "clinical_f1": _or_none(clinical),
        "sides": _or_none(sides),
        "distinct": len(set(system.texts)),
        "n": len(references),
    }


def format_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as aligned text for a terminal."""
    names = list(rows[0])
    cells = [names, *([_cell(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    lines = ["  ".join(value.ljust(w) for value, w in zip(line, widths)).rstrip() for line in cells]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _or_none(value: float) -> float | None:
    return None if value != value else float(value)
