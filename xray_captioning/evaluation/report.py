"""The report: one page that needs nothing from anywhere, and its tables as Markdown and CSV."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from xray_captioning.evaluation import table
from xray_captioning.evaluation.baselines import System, merged_rows
from xray_captioning.evaluation.cases import THUMBNAIL, case_cards, contradiction_summary
from xray_captioning.evaluation.claims import LEVEL, Row, beaten
from xray_captioning.evaluation.jackknife import COMPARED
from xray_captioning.evaluation.results import Results
from xray_captioning.files import atomic_write, read_toml
from xray_captioning.findings import CONSTANT, ORACLE, SHUFFLED
from xray_captioning.metrics import clinical, further
from xray_captioning.metrics.clinical import Contradiction, FindingScore, Labels
from xray_captioning.plots.charts import FORMATS, save_as, scores
from xray_captioning.plots.images import render

# Scores by name, and what a reader finds above them: of the summary and of the tables below it.
_TABLES: dict[str, Any] = read_toml(__file__, "report.toml")
COLUMNS, MORE, SAID = _TABLES["columns"], _TABLES["more"], _TABLES["said"]
NAMES = COLUMNS | MORE | SAID
WHOLE = (*table.CLINICAL_COLUMNS, "sides", *table.TEXT_COLUMNS)
_SIGN = re.compile(r"[^0-9A-Za-zÀ-ÖØ-öø-ÿ .:;,?!()/=+*@\[\]'`-]")  # that LaTeX may not take as it stands
_LONG = re.compile(r"\S{14,}")  # a word that narrow columns have to break
_LIGATURE = re.compile(r"([-,'`])(?=\1)")
PLAIN = ("system", "baseline")  # kinds of systems in the chart
DRAWN = 4  # systems that the page draws and compares with each other; Markdown and CSV have all
STRIP = 60  # most columns of the strip that shows how long texts are

Scores = Mapping[str, Sequence[FindingScore]]  # of findings, by column
DrawnSystem = tuple[int, System]  # and before it its colour, the same everywhere on the page


def write_report(
    results: Results,
    path: str | Path,
    images: Mapping[str, Sequence[str]] | None = None,
    figures: Sequence[str] = FORMATS[:1],
) -> None:
    """Write the page ``NAME.html`` of a comparison that was not quick, and beside it its tables: ``NAME.md``, ``.tex``,
    ``.csv``, ``-differences.csv``, ``-findings.csv``, ``-contradictions.csv`` and, where a protocol truncates,
    ``-untruncated.csv``, and a chart, ``-scores``, in the formats of `figures`. `images` are paths by study.
    """
    target = Path(path)
    read = {name: texts for s in results.systems if s.kind != SHUFFLED for name, texts in s.columns.items()}
    labels = {name: clinical.label_matrix(texts) for name, texts in read.items()}
    reference = clinical.label_matrix(results.reports)
    findings = {name: clinical.finding_table(reference, said) for name, said in labels.items()}
    systems = [s for s in results.systems if s.kind == "system"]
    runs = {name: texts for system in systems for name, texts in system.columns.items()}
    opposed = {name: clinical.contradictions(reference, labels[name]) for name in runs}
    values = _values(results, systems)
    drawn = values["drawn"]
    pooled = zip(*(_pooled(reference, labels, system) for _, system in drawn))
    shown = [scores for scores in pooled if any(s.support or s.predicted for s in scores)]
    values["findings"] = sorted(shown, key=lambda scores: -scores[0].support)
    columns = [name for _, system in drawn for name in system.columns if name in runs]
    values["cases"] = {n: case_cards(results, runs[n], reference, labels[n], images or {}) for n in columns}
    values["contradictions"] = {name: contradiction_summary(results, runs[name], opposed[name]) for name in runs}
    atomic_write(target, render("evaluation/report.html", **values))
    values |= {"table": table, "scores": _finding_rows(findings, list(runs))}
    atomic_write(target.with_suffix(".md"), render("evaluation/report.md", **values))
    atomic_write(target.with_suffix(".tex"), render("evaluation/report.tex", **values))
    _write_tables(target, results, findings, opposed)
    charted = [row for row in values["marked"] if row["kind"] in PLAIN]
    ends = [{m: [row[f"{m}_low"], row[f"{m}_high"]] for m in COMPARED if f"{m}_low" in row} for row in charted]
    names = [" ".join(filter(None, (row["system"], row["search"]))) for row in charted]
    save_as(scores(charted, COMPARED, dict(zip(names, ends))), target.with_name(f"{target.stem}-scores"), figures)


def _values(results: Results, systems: Sequence[System]) -> dict[str, Any]:
    """Return what the template names, but for what is read out of texts."""
    own, hidden = drawn_systems(results)
    every = results.paired_tests  # which Markdown and CSV hold
    fixed = [system for system in results.systems if system.name == CONSTANT]
    drawn = [*enumerate(own, 1), *((DRAWN + 1, system) for system in fixed)]
    best = [{"best": outstanding(results, system)} for system in results.systems]
    names = dict.fromkeys(system.name for system in systems)
    return {
        **_TABLES,
        "title": f"Evaluation of {', '.join(names) or 'baselines'}",
        "facts": _TABLES["facts"].format(number=len(results.studies), **({"convention": "chexpert"} | results.about))
        + f"; {results.note}" * bool(results.note),
        "results": results,
        "names": NAMES,
        "columns": {"summary": COLUMNS, "said": SAID, "more": [*MORE, *further.COLUMNS], "whole": WHOLE},
        "further": further.present(results.rows[0]),
        "number": number,
        "marked": merged_rows([row | own for row, own in zip(summary_rows(results), best, strict=True)]),
        "tex": tex,
        "whole_rows": merged_rows(results.whole_rows),
        "differences": [r for r in every if not {r["system"], r["rival"]}.intersection(hidden)],
        "most": DRAWN,
        "systems": systems,
        "drawn": drawn,
        "hidden": hidden,
        "pointing": dict(zip(("Where it looks", "Painted over"), results.about.get("pointing_game", {}).values())),
        "beaten": [beaten(row) for row in results.beats_every_baseline],
        **_variety(results, drawn),
        "thumbnail": THUMBNAIL,
    }


def _pooled(reference: Labels, labels: Mapping[str, Labels], system: System) -> list[FindingScore]:
    """Return the scores of a system's findings, those of all its runs together."""
    said = [labels[name] for name in system.columns]
    scores = clinical.finding_table(np.tile(reference, (len(said), 1)), np.concatenate(said))
    return [score._replace(support=score.support // len(said)) for score in scores]


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
            "distinct": len(times),
            "top_share": times[0] / len(texts),
            "half": int(np.searchsorted(np.cumsum(times), len(texts) / 2)) + 1,
        }
        for (colour, name, texts), words in zip(columns, lengths)
        for times in [sorted(Counter(texts).values(), reverse=True)]
    ]
    return {"longest": longest, "variety": rows}


def _heights(lengths: Sequence[int], longest: int) -> list[float]:
    """Count texts by their number of words, scaled to the highest count."""
    bins = min(longest, STRIP) + 1
    counts = np.bincount(np.minimum(np.array(lengths), longest) * (bins - 1) // max(longest, 1), minlength=bins)
    return list((counts / counts.max()).tolist())


def _finding_rows(findings: Scores, columns: Sequence[str]) -> list[Row]:
    return [{"system": name} | score._asdict() for name in columns for score in findings[name]]


def _write_tables(
    target: Path, results: Results, findings: Scores, opposed: Mapping[str, Sequence[Contradiction]]
) -> None:
    every = ((name, one) for name, found in opposed.items() for one in found)
    lines = [{"system": name, "study_id": results.studies[one.row]} | one._asdict() for name, one in every]
    tables: dict[str, tuple[list[Row], Sequence[str]]] = {
        "": (summary_rows(results), ()),
        "-differences": (results.paired_tests, ["system"]),
        "-findings": (_finding_rows(findings, list(findings)), ["system", *FindingScore._fields]),
        "-contradictions": (lines, ["system", "study_id", *Contradiction._fields[1:]]),
    }
    target.with_name(f"{target.stem}-untruncated.csv").unlink(missing_ok=True)  # of before
    if results.whole_rows:
        tables["-untruncated"] = results.whole_rows, ()
    for ending, (rows, first) in tables.items():
        rows = [row | results.left_out for row in rows]
        names = dict.fromkeys([*first, *(name for row in rows for name in row if name != "row")])
        atomic_write(target.with_name(f"{target.stem}{ending}.csv"), table.format_csv(rows, list(names)))


def outstanding(results: Results, system: System) -> list[str]:
    """Return a paper's metrics in which a system or baseline is better than every other one, the oracle aside.

    The paired 95 % interval of each difference lies above 0: an intersection-union test, as `beats_every_baseline` is.
    """
    every = [s for s in results.systems if s.kind in PLAIN and s.name != ORACLE]
    rivals = [s.column for s in every if s.runs != system.runs]
    known = results.found.pseudo[system.column] if system in every and rivals else ()
    shown = [metric for metric in chain(*_TABLES["paper"].values()) if metric in known]
    found = {m: [results.found.compare(system.column, r, m) for r in rivals] for m in shown}
    # p heeds how few patients carry a score
    return [metric for metric, tests in found.items() if all(one.low > 0 and one.p <= LEVEL for one in tests)]


def tex(text: str) -> str:
    """Return text in which LaTeX sees no command; a sign that its fonts may lack is written as ``[U+80BA]``."""
    broken = _LONG.sub(lambda word: "\u200b".join(re.findall(".{1,7}", word[0])), " ".join(text.split()))
    escaped = _SIGN.sub(lambda sign: _TABLES["tex"].get(sign[0], f"[U+{ord(sign[0]):04X}]"), broken)
    return _LIGATURE.sub(r"\1{}", escaped)


def number(name: str, value: Any) -> str:
    """Return a score as text, with the digits that its metric has in tables."""
    return f"{value:.1f}" if name == "mean_length" and value is not None else table.format_cell(value)


def drawn_systems(results: Results) -> tuple[list[System], list[str]]:
    """Return the systems that the page draws, best by clinical F1 or BLEU-4, and names of the others."""
    own = [(s, row) for s, row in zip(results.systems, results.rows) if s.kind == "system"]
    metric = "clinical_f1" if all(row["clinical_f1"] is not None for _, row in own) else "BLEU-4"
    names = [system.column for system, _ in sorted(own, key=lambda pair: -pair[1][metric])[:DRAWN]]
    drawn = [system for system, _ in own if system.column in names]
    return drawn, [system.column for system, _ in own if system.column not in names]


def summary_rows(results: Results) -> list[Row]:
    """Return every score of every system with its interval, for a CSV."""
    rows = []
    for system, row in zip(results.systems, results.rows):
        intervals, spread = results.intervals(system.column), results.spread(system)
        values: Row = {"system": system.name, "search": system.search, "kind": system.kind}
        values["runs"] = len(system.runs) if spread else 1
        for name in (*COLUMNS, *(name for name in (*MORE, *further.COLUMNS, *SAID) if name in row)):
            values[name] = row[name]
            if intervals.get(name):
                values[f"{name}_low"], values[f"{name}_high"] = intervals[name] or (None, None)
            values |= {f"{name}_sd": spread[name]} if name in spread else {}
        rows.append(values | {"n": row["n"]} | results.left_out)
    return rows
