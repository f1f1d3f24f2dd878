"""A system: the texts that a person or a program wrote for the evaluated studies, and scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from xray_captioning.evaluation.table import CLINICAL_COLUMNS, finite
from xray_captioning.metrics.clinical import clinical_scores
from xray_captioning.metrics.mentions import compare_mentions
from xray_captioning.metrics.scores import score


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


def score_system(
    references: Sequence[str],
    system: System,
    reports: Sequence[str] | None = None,
    findings: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Score one system's texts, those of its first run where it has several.

    The references are cleaned as the system's training texts were. The findings and sides of the
    `reports` count, where these are not the references; ``clinical_f1`` (macro F1) averages over
    `findings`, settled before a text is seen (:func:`~xray_captioning.metrics.clinical.
    counted_findings`), or over all seventeen. The other keys are ``system``, ``search``, BLEU-1 to
    BLEU-4 (corpus), ROUGE-L, CIDEr, ``micro_f1`` and ``false_positives`` (a study; both over all
    seventeen), ``sides`` (share of the references' lateralised findings named on the same side),
    ``distinct`` (number of different texts) and ``n``. What would be a share of nothing is None.
    """
    reports = references if reports is None else reports
    clinical = clinical_scores(reports, system.texts, findings)
    sides = compare_mentions(reports, system.texts)["side_recall"]
    return {
        "system": system.name,
        "search": system.search,
        **score(references, system.texts),
        **{name: finite(clinical[name]) for name in CLINICAL_COLUMNS},
        "sides": finite(sides),
        "distinct": len(set(system.texts)),
        "n": len(references),
    }
