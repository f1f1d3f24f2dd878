"""The results of an evaluation: all scores of some systems on the same studies, and two files."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

from xray_captioning.evaluation.baselines import CONSTANTS, shuffled_captions
from xray_captioning.evaluation.bootstrap import Bootstrap, Comparison, bootstrap
from xray_captioning.evaluation.collapse import Alarm, Spread, caption_spread, collapse_alarm
from xray_captioning.evaluation.systems import ReportTexts, System, score_system
from xray_captioning.evaluation.table import finite, format_csv
from xray_captioning.files import atomic_write
from xray_captioning.findings import SHUFFLED
from xray_captioning.metrics.diversity import distinct_ngrams

Row = dict[str, Any]

COMPARED = ("clinical_f1", "BLEU-4", "ROUGE-L", "CIDEr")
"""Metrics of the paired tests."""


@dataclass(frozen=True)
class Results:
    """What :func:`evaluate_systems` found."""

    studies: list[str]  # ids
    references: list[str]  # the texts that words are compared with
    reports: list[str]  # those whose findings count
    systems: list[System]  # systems first, then baselines, then shuffled systems
    rows: list[Row]  # one a system
    found: Bootstrap  # by column name; in a quick comparison without some baselines
    alarms: list[Alarm]
    about: dict[str, Any]  # part, digest of the split and protocol
    # Against references that are not truncated, where a protocol truncates.
    whole_rows: list[Row] = field(default_factory=list)

    def write(self, out: Path) -> None:
        """Write ``metrics.json`` and ``captions.csv`` into a folder.

        ``metrics.json`` holds what `about` says, ``rows``, ``alarms``, ``differences`` (see
        :meth:`paired_tests`) and ``intervals`` (95 %, by column of ``captions.csv`` and metric)
        and, under a protocol that truncates the references, ``rows_untruncated``.
        """
        columns = {system.column: system.texts for system in self.systems}
        names = ["study_id", "reference", *columns]
        lines = zip(self.studies, self.references, *columns.values(), strict=True)
        rows = [dict(zip(names, line, strict=True)) for line in lines]
        atomic_write(out / "captions.csv", format_csv(rows, names))
        values = {**self.about, "rows": self.rows}
        values |= {"rows_untruncated": self.whole_rows} if self.whole_rows else {}
        values["alarms"] = [
            {**alarm._asdict(), "comparisons": [_comparison_values(c) for c in alarm.comparisons]}
            for alarm in self.alarms
        ]
        values["differences"] = self.paired_tests()
        values["intervals"] = {name: self.intervals(name) for name in self.found.scores}
        atomic_write(out / "metrics.json", json.dumps(values, indent=2) + "\n")

    def paired_tests(self) -> list[Row]:
        """Compare each system with the strongest constant and with every other system.

        A row has ``system``, ``rival``, ``metric`` (of :data:`COMPARED`), ``score``,
        ``rival_score``, their ``difference``, its 95 % interval ``low`` to ``high`` and ``p``
        (two-sided), on the same resamples. The strongest constant is the one with the highest score
        in that metric on these studies. Constants come first. Nothing is corrected for the number
        of tests.
        """
        names = [system.column for system in self.systems if system.kind == "system"]
        pairs = [
            (name, _strongest(self, metric), metric)
            for name in names
            for metric in COMPARED
            if any(map(_is_constant, self.systems))
        ]
        pairs += [(*pair, metric) for pair in combinations(names, 2) for metric in COMPARED]
        return [
            {"system": name} | _comparison_values(self.found.compare(name, rival, metric))
            for name, rival, metric in pairs
        ]

    def rows_by_kind(self) -> Iterator[tuple[str, list[tuple[System, Row]]]]:
        """Yield the systems and rows of each kind that there is, in the order of a table."""
        for kind in ("system", "baseline", SHUFFLED):
            chosen = [(s, r) for s, r in zip(self.systems, self.rows) if s.kind == kind]
            if chosen:
                yield kind, chosen

    def intervals(self, column: str) -> dict[str, list[float] | None]:
        """Return the 95 % intervals of a system's scores, None where a score has no value."""
        return {
            ("sides" if name == "side_recall" else name): [low, high]
            if finite(low) is not None
            else None
            for name, (low, high) in self.found.intervals(column).items()
        }


def evaluate_systems(
    studies: Sequence[str],
    systems: Sequence[System],
    texts: ReportTexts,
    about: Mapping[str, Any],
    groups: Sequence[Hashable] | None = None,
    quick: bool = False,
    seed: int = 0,
) -> Results:
    """Score systems and baselines, and warn of systems that write the same of every study.

    Parameters
    ----------
    studies : sequence of str
        Ids of the evaluated studies.
    systems : sequence of System
        The systems, then the baselines.
    texts : ReportTexts
    about : mapping
        Goes to ``metrics.json`` as it is.
    groups : sequence, optional
        The patient of each study: all studies of a patient are resampled together.
    quick : bool, default=False
        Only the columns of :func:`score_system`, no rows for shuffled systems, no intervals of
        baselines other than constants; alarms are the same.
    seed : int
        Of resamples and shuffling.

    Returns
    -------
    Results
        A row has what :func:`score_system` gives and, unless quick, every score of
        :func:`xray_captioning.evaluation.bootstrap.bootstrap`, ``distinct-1``, ``distinct-2``,
        and ``copied``, ``top_share``, ``entropy`` and ``abnormal_recall`` of
        :class:`xray_captioning.evaluation.collapse.Spread`.
    """
    shuffled = [
        System(_shuffled(s), s.search, shuffled_captions(s.texts, seed), SHUFFLED)
        for s in systems
        if s.kind == "system" and len(studies) > 1
    ]
    every = [*systems, *shuffled]
    references, reports = texts.references, texts.reports
    resampled = [s for s in every if not quick or s.kind != "baseline" or _is_constant(s)]
    found = _bootstrap(references, reports, resampled, groups, seed)
    shown = list(systems) if quick else every
    spreads = {s.column: caption_spread(reports, s.texts, texts.training) for s in shown}
    rows = _rows(references, reports, shown)
    if not quick:
        rows = [_fuller(row, s, found, spreads) for row, s in zip(rows, shown, strict=True)]
    return Results(
        list(studies),
        references,
        reports,
        shown,
        rows,
        found,
        list(_alarms(systems, spreads, found)),
        dict(about),
        _rows(texts.whole, reports, shown) if texts.whole else [],
    )


def _fuller(
    row: dict[str, Any], system: System, found: Bootstrap, spreads: Mapping[str, Spread]
) -> dict[str, Any]:
    more = {**found.scores[system.column], **spreads[system.column]._asdict()}
    distinct = {f"distinct-{n}": distinct_ngrams(system.texts, n) for n in (1, 2)}
    return row | distinct | {n: finite(v) for n, v in more.items() if n not in row}


def _alarms(
    systems: Sequence[System], spreads: Mapping[str, Spread], found: Bootstrap
) -> Iterator[Alarm]:
    constants = [system.column for system in systems if _is_constant(system)]
    for system in (s for s in systems if s.kind == "system"):
        own = System(_shuffled(system), system.search, []).column
        alarm = collapse_alarm(
            system.column,
            spreads[system.column],
            found,
            constants,
            own if own in found.scores else None,
        )
        if alarm:
            yield alarm


def _rows(
    references: Sequence[str], reports: Sequence[str], systems: Sequence[System]
) -> list[Row]:
    """Score each system; equal texts, such as those of several constants, only once."""
    scored = cache(lambda texts: score_system(references, System("", None, list(texts)), reports))
    return [
        scored(tuple(system.texts)) | {"system": system.name, "search": system.search}
        for system in systems
    ]


def _is_constant(system: System) -> bool:
    return system.kind == "baseline" and system.name in CONSTANTS


def _shuffled(system: System) -> str:
    """Name a system whose captions are given to other studies."""
    return f"{system.name} {SHUFFLED}"


def _bootstrap(
    references: Sequence[str],
    reports: Sequence[str],
    systems: Sequence[System],
    groups: Sequence[Hashable] | None,
    seed: int,
) -> Bootstrap:
    """Resample all systems alike, with a progress bar, and equal texts only once."""
    from tqdm import tqdm

    drawn = cache(
        lambda texts: bootstrap(references, {"": texts}, groups, seed=seed, reports=reports)
    )
    bar = tqdm(systems, "scores and intervals", disable=None, leave=False)
    found = {system.column: drawn(tuple(system.texts)) for system in bar}
    return Bootstrap(
        {name: one.scores[""] for name, one in found.items()},
        {name: one.replicates[""] for name, one in found.items()},
    )


def _strongest(results: Results, metric: str) -> str:
    """Return the constant with the highest score; where none has a score, the first."""
    constants = [system.column for system in results.systems if _is_constant(system)]
    scores = {name: results.found.scores[name][metric] for name in constants}
    return max(constants, key=lambda name: scores[name] if scores[name] == scores[name] else -1.0)


def _comparison_values(comparison: Comparison) -> Row:
    values = comparison._asdict().items()
    return {name: finite(v) if isinstance(v, float) else v for name, v in values}
