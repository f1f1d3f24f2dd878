"""The report: one page that needs nothing from anywhere, and its tables as Markdown and CSV."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xray_captioning.evaluation import summary
from xray_captioning.evaluation.baselines import merged_rows
from xray_captioning.evaluation.cases import THUMBNAIL, case_cards, contradiction_summary
from xray_captioning.evaluation.differences import COMPARED, beaten
from xray_captioning.evaluation.pages import render
from xray_captioning.evaluation.results import Results
from xray_captioning.evaluation.summary import COLUMNS, MORE, SAID, markdown_rows, summary_rows
from xray_captioning.evaluation.systems import System
from xray_captioning.evaluation.table import format_csv, format_markdown
from xray_captioning.files import atomic_write
from xray_captioning.findings import CONSTANT, SHUFFLED
from xray_captioning.metrics.clinical import (
    Contradiction,
    FindingScore,
    Labels,
    contradictions,
    finding_table,
    label_matrix,
)

STRIP = 60
"""Most columns of the strip that shows how long texts are."""


DrawnSystem = tuple[int, System]
"""A system that is drawn, and its colour, which is the same everywhere on the page."""


def write_report(
    results: Results, path: str | Path, images: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Write the page of a comparison that was not quick, and beside it its tables.

    ``NAME.html`` is the page; ``NAME.md`` has the tables as Markdown, ``NAME.csv`` all scores with
    ``METRIC_low`` and ``METRIC_high``, ``NAME-differences.csv`` the paired tests,
    ``NAME-findings.csv`` one row per system and finding, ``NAME-contradictions.csv`` every
    contradiction and, under a protocol that truncates, ``NAME-untruncated.csv`` the scores without.
    `images` are paths by study; the cases show those that are there.
    """
    target = Path(path)
    labels = {
        name: label_matrix(texts)
        for system in results.systems
        if system.kind != SHUFFLED
        for name, texts in system.columns.items()
    }
    reference = label_matrix(results.reports)
    findings = {name: finding_table(reference, said) for name, said in labels.items()}
    systems = [s for s in results.systems if s.kind == "system"]
    runs = {name: texts for system in systems for name, texts in system.columns.items()}
    opposed = {name: contradictions(reference, labels[name]) for name in runs}
    values = _values(results, systems)
    drawn = values["drawn"]
    values["findings"] = _shown_findings([_pooled(reference, labels, s) for _, s in drawn])
    values["cases"] = {
        name: case_cards(results, runs[name], reference, labels[name], images or {})
        for _, system in drawn
        for name in system.columns
        if name in runs
    }
    values["contradictions"] = {
        name: contradiction_summary(results, texts, opposed[name]) for name, texts in runs.items()
    }
    atomic_write(target, render("evaluation/report.html", **values))
    atomic_write(target.with_suffix(".md"), _markdown(results, systems, findings))
    _write_tables(target, results, findings, opposed)


def _values(results: Results, systems: Sequence[System]) -> dict[str, Any]:
    """Return what the template names, but for what is read out of texts."""
    own, hidden = summary.drawn_systems(results)
    fixed = [system for system in results.systems if system.name == CONSTANT]
    drawn = [*enumerate(own, 1), *((summary.DRAWN + 1, system) for system in fixed)]
    return {
        "title": _title(systems),
        "facts": _facts(results),
        "results": results,
        "summary": summary,
        "systems": systems,
        "drawn": drawn,
        "hidden": hidden,
        "compared": COMPARED,
        "beaten": [beaten(row) for row in results.beats_every_baseline],
        **_variety(results, drawn),
        "thumbnail": THUMBNAIL,
    }


def _pooled(reference: Labels, labels: Mapping[str, Labels], system: System) -> list[FindingScore]:
    """Return the scores of a system's findings, those of all its runs together."""
    said = [labels[name] for name in system.columns]
    scores = finding_table(np.tile(reference, (len(said), 1)), np.concatenate(said))
    return [score._replace(support=score.support // len(said)) for score in scores]


def _shown_findings(tables: Sequence[Sequence[FindingScore]]) -> list[tuple[FindingScore, ...]]:
    """Return the scores of every drawn system, one row for each finding that some text has."""
    shown = [scores for scores in zip(*tables) if any(s.support or s.predicted for s in scores)]
    return sorted(shown, key=lambda scores: -scores[0].support)


def _variety(results: Results, drawn: Sequence[DrawnSystem]) -> dict[str, Any]:
    """Return how long and how varied the references and the drawn systems' texts are."""
    columns = [(0, "the references", results.references)]
    columns += [(c, name, texts) for c, s in drawn for name, texts in s.columns.items()]
    lengths = [[len(text.split()) for text in texts] for _, _, texts in columns]
    longest = max(int(np.percentile(column, 99)) for column in lengths) + 1
    rows = [
        {
            "colour": colour,
            "name": name,
            "texts": len(texts),
            "mean": np.mean(words),
            "heights": _heights(words, longest),
            **_repetition(texts),
        }
        for (colour, name, texts), words in zip(columns, lengths)
    ]
    return {"longest": longest, "variety": rows}


def _heights(lengths: Sequence[int], longest: int) -> list[float]:
    """Count texts by their number of words, scaled to the highest count."""
    bins = min(longest, STRIP) + 1
    places = np.minimum(np.array(lengths), longest) * (bins - 1) // max(longest, 1)
    counts = np.bincount(places, minlength=bins)
    heights: list[float] = (counts / counts.max()).tolist()
    return heights


def _repetition(texts: Sequence[str]) -> dict[str, float]:
    counts = sorted(Counter(texts).values(), reverse=True)
    half = int(np.searchsorted(np.cumsum(counts), len(texts) / 2)) + 1
    return {"distinct": len(counts), "top_share": counts[0] / len(texts), "half": half}


def _title(systems: Sequence[System]) -> str:
    names = list(dict.fromkeys(system.name for system in systems))
    return f"Evaluation of {', '.join(names)}" if names else "Evaluation of baselines"


def _facts(results: Results) -> str:
    about = results.about
    convention = about.get("convention", "chexpert")
    return (
        f"{len(results.studies)} studies of the {about['part']} part; protocol "
        f"{about['protocol']}; findings by convention {convention}; "
        f"split {str(about['split'])[:12]}"
        f"{f'; {results.note}' if results.note else ''}"
    )


def _markdown(
    results: Results, systems: Sequence[System], findings: Mapping[str, Sequence[FindingScore]]
) -> str:
    parts = [f"# {_plain(_title(systems))}", _plain(_facts(results))]
    parts += [f"**Alarm ({alarm.kind})**: {_plain(alarm.message)}." for alarm in results.alarms]
    parts += ["## Summary", format_markdown(markdown_rows(results, COLUMNS))]
    parts += ["## What is said of findings", format_markdown(markdown_rows(results, SAID))]
    parts += ["## More scores", format_markdown(markdown_rows(results, MORE))]
    if results.whole_rows:
        parts += ["## Without truncation", format_markdown(merged_rows(results.whole_rows))]
    if results.paired_tests:
        parts += ["## Against a fixed report and each other", format_markdown(results.paired_tests)]
        parts += [_plain(beaten(row)) for row in results.beats_every_baseline]
    if scores := _finding_rows(findings, [name for s in systems for name in s.columns]):
        parts += ["## Findings", format_markdown(scores)]
    return "\n\n".join(parts) + "\n"


def _plain(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _finding_rows(
    findings: Mapping[str, Sequence[FindingScore]], columns: Sequence[str]
) -> list[dict[str, Any]]:
    return [{"system": name} | score._asdict() for name in columns for score in findings[name]]


def _write_tables(
    target: Path,
    results: Results,
    findings: Mapping[str, Sequence[FindingScore]],
    opposed: Mapping[str, Sequence[Contradiction]],
) -> None:
    lines = [
        {"system": name, "study_id": results.studies[one.row]} | one._asdict()
        for name, found in opposed.items()
        for one in found
    ]
    tables: dict[str, tuple[list[dict[str, Any]], Sequence[str]]] = {
        "": (summary_rows(results), ()),
        "-differences": (results.paired_tests, ["system"]),
        "-findings": (_finding_rows(findings, list(findings)), ["system", *FindingScore._fields]),
        "-contradictions": (lines, ["system", "study_id", *Contradiction._fields[1:]]),
    }
    if results.whole_rows:
        tables["-untruncated"] = results.whole_rows, ()
    for ending, (rows, first) in tables.items():
        rows = [row | results.left_out for row in rows]
        names = dict.fromkeys([*first, *(name for row in rows for name in row if name != "row")])
        path = target.with_name(f"{target.stem}{ending}.csv")
        atomic_write(path, format_csv(rows, list(names)))
