"""A system: the texts that a person or a program wrote for the evaluated studies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class System(NamedTuple):
    """What one system wrote for the evaluated studies, in their order."""

    name: str
    search: str | None  # ``greedy``, ``beam-3`` …, or None where nothing was searched
    texts: list[str]
    kind: str = "system"  # or what it is compared with: "baseline", "shuffled"
    others: Sequence[list[str]] = ()  # of further runs: training seeds, or random draws

    @property
    def column(self) -> str:
        """Name of the system's column in ``captions.csv``, or what such columns begin with."""
        return f"{self.name} {self.search}" if self.search else self.name

    @property
    def runs(self) -> list[list[str]]:
        """Texts of every run; the system's scores are the mean over them."""
        return [self.texts, *self.others]

    @property
    def columns(self) -> dict[str, list[str]]:
        """Columns of ``captions.csv``: one a run of a system, the first draw of what is random."""
        if self.kind != "system" or not self.others:
            return {self.column: self.texts}
        return {f"{self.column} run {n}": texts for n, texts in enumerate(self.runs, 1)}


class ReportTexts(NamedTuple):
    """What readers wrote of the evaluated and of the training studies, and what is scored of it.

    The reports' findings and sides count. They differ from the references, which words are compared
    with, where a protocol alters those: a rare word that becomes ``<unk>`` may be a finding or a
    "without".
    """

    references: list[str]  # of the evaluated studies
    reports: list[str]  # of the same studies
    training: list[str]  # of the training studies; a system may repeat one of them
    targets: list[str]  # the same as the protocol alters references
    whole: list[str] | None = None  # the references, where a protocol truncates them, before that

    @classmethod
    def unaltered(cls, references: list[str], training: list[str]) -> ReportTexts:
        """Return texts that no protocol alters."""
        return cls(references, references, training, training)
