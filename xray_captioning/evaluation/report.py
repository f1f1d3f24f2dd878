"""The report: one page that needs nothing from anywhere, and its tables as Markdown and CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xray_captioning.evaluation.cases import cases_section, contradictions_section
from xray_captioning.evaluation.clinical import (
    FindingScore,
    contradictions,
    finding_table,
    label_matrix,
)
from xray_captioning.evaluation.figures import bar, strip, variety
from xray_captioning.evaluation.html import Element, page, table, tag
from xray_captioning.evaluation.results import Results, rows_by_kind
from xray_captioning.evaluation.table import System, format_csv, format_markdown
from xray_captioning.files import atomic_write

COLUMNS = (
    "clinical_f1",
    "sides",
    "abnormal_recall",
    "distinct",
    "copied",
    "BLEU-1",
    "BLEU-2",
    "BLEU-3",
    "BLEU-4",
    "ROUGE-L",
    "CIDEr",
    "mean_length",
)
WHOLE = ("clinical_f1", "sides", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr")
COMPARED = ("clinical_f1", "BLEU-4", "ROUGE-L", "CIDEr")
DRAWN = 4
"""Systems that are drawn, beside the reports and a constant; the tables hold all."""

_NAMES = {
    "clinical_f1": "clinical F1",
    "abnormal_recall": "abnormal recall",
    "mean_length": "words",
}
_GROUPS = {
    "system": "Systems",
    "baseline": "Baselines: what looks at no image, or at the answer (label-oracle)",
    "shuffled": "The systems' own captions dealt to other studies: what is said without looking",
}


class Drawn(NamedTuple):
    """A system as it is drawn: its place in the palette goes with it through the page."""

    colour: int
    system: System


def write_report(
    results: Results, path: str | Path, images: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Write the page, and beside it its tables.

    ``NAME.html`` is the page; ``NAME.md`` has the tables as Markdown, ``NAME.csv`` the summary with
    ``METRIC_low`` and ``METRIC_high``, ``NAME-findings.csv`` a row a system and finding and
    ``NAME-contradictions.csv`` every contradiction.

    Parameters
    ----------
    results : Results
        Of a comparison that was not quick.
    path : path
        The page.
    images : mapping of str to sequence of str, optional
        Paths by study; the cases show those that are there.
    """
    target = Path(path)
    labels = {s.column: label_matrix(s.texts) for s in results.systems if s.kind != "shuffled"}
    reference = label_matrix(results.reports)
    findings = {name: finding_table(reference, said) for name, said in labels.items()}
    systems = [s for s in results.systems if s.kind == "system"]
    opposed = {s.column: contradictions(reference, labels[s.column]) for s in systems}
    drawn = [Drawn(i, s) for i, s in enumerate(systems[:DRAWN], 1)]
    constants = [s for s in results.systems if s.name == "constant"]
    drawn += [Drawn(5, s) for s in constants]
    body = tag(
        "main",
        *_head(results, systems),
        *_summary(results),
        *_whole(results),
        *_differences(results, systems),
        *_findings(drawn, findings),
        *_variety(results, drawn),
        *cases_section(results, systems[:DRAWN], reference, labels, images or {}),
        *contradictions_section(results, opposed),
        _foot(),
    )
    style = resources.files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    content = page(body, _title(systems), style)
    atomic_write(target, content)
    atomic_write(target.with_suffix(".md"), _markdown(results, systems, findings))
    _write_tables(target, results, findings, opposed)


def _title(systems: Sequence[System]) -> str:
    names = list(dict.fromkeys(system.name for system in systems))
    return f"Evaluation of {', '.join(names)}" if names else "Evaluation of baselines"


def _facts(results: Results) -> str:
    about = results.about
    return (
        f"{len(results.studies)} studies of the {about['part']} part; protocol "
        f"{about['protocol']}; split {str(about['split'])[:12]}"
    )


def _head(results: Results, systems: Sequence[System]) -> list[Element]:
    if results.alarms:
        told = [tag("p", f"{alarm.message}.") for alarm in results.alarms]
        box = tag("div", tag("strong", "Collapse alarm"), *told, class_="alarm", role="alert")
    elif systems:
        text = (
            "Each system finds clearly more than the strongest fixed report, and more than its own "
            "captions dealt to other studies (95 % intervals of the paired differences)."
        )
        box = tag("div", tag("strong", "No collapse alarm"), tag("p", text), class_="calm")
    else:
        box = tag("p", "No system was given: these are the baselines alone.", class_="note")
    return [tag("h1", _title(systems)), tag("p", _facts(results), class_="facts"), box]


def _summary(results: Results) -> list[Element]:
    note = (
        "BLEU, ROUGE-L and CIDEr compare words; clinical F1 is the mean over the findings that "
        "some report has, labelled by rules. Read them beside the fixed reports: constant was "
        "chosen on the training texts by BLEU-4, constant-METRIC by that metric. Small: 95 % "
        "bootstrap interval over patients."
    )
    heads = [_NAMES.get(name, name) for name in COLUMNS]
    whole = tag(
        "table", tag("thead", tag("tr", *(tag("th", h, scope="col") for h in ["", *heads])))
    )
    for kind, rows in rows_by_kind(results):
        group = tag("th", _GROUPS[kind], colspan=len(COLUMNS) + 1, scope="colgroup")
        lines = [tag("tr", group, class_="group")]
        for system, row in rows:
            intervals = results.intervals(system.column)
            cells = [_cell(name, row[name], intervals.get(name)) for name in COLUMNS]
            lines.append(tag("tr", tag("th", system.column, scope="row"), *cells))
        whole.append(tag("tbody", *lines))
    box = tag("div", whole, class_="wide", tabindex="0")
    return [tag("h2", "Summary"), tag("p", note, class_="note"), box]


def _number(name: str, value: Any) -> str:
    if not isinstance(value, float):
        return "-" if value is None else str(value)
    return f"{value:.1f}" if name == "mean_length" else f"{value:.3f}"


def _cell(name: str, value: Any, interval: list[float] | None) -> Element:
    small = None
    if interval is not None and interval[0] < interval[1]:
        small = tag("small", f"{_number(name, interval[0])} to {_number(name, interval[1])}")
    return tag("td", _number(name, value), small)


def _whole(results: Results) -> list[Element]:
    if not results.whole_rows:
        return []
    heads = ["", *(_NAMES.get(name, name) for name in WHOLE)]
    rows: list[list[Element | str]] = [
        [system.column, *(_number(name, row[name]) for name in WHOLE)]
        for system, row in zip(results.systems, results.whole_rows)
    ]
    note = "The same texts against whole references; the protocol scores their first 59 words."
    return [tag("h2", "Without truncation"), tag("p", note, class_="note"), table([*heads], rows)]


def _rivals(results: Results, systems: Sequence[System]) -> list[dict[str, Any]]:
    """Compare each system with the constant that is strongest in each metric."""
    constants = [
        s.column for s in results.systems if s.kind == "baseline" and s.name.startswith("constant")
    ]
    found, rows = results.found, []
    for system in systems if constants else []:
        for metric in COMPARED:
            scores = {name: found.scores[name][metric] for name in constants}
            rival = max(scores, key=lambda name: np.nan_to_num(scores[name], nan=-1))
            difference = found.differences(system.column, rival)[metric]
            row: dict[str, Any] = {"system": system.column, "metric": metric}
            row |= {"score": found.scores[system.column][metric], "constant": rival}
            rows.append(row | {"its score": scores[rival]} | difference._asdict())
    return rows


def _differences(results: Results, systems: Sequence[System]) -> list[Element]:
    rows = _rivals(results, systems)
    if not rows:
        return []
    heads = ["", "metric", "score", "strongest constant", "its score", "difference", "p"]
    lines: list[list[Element | str]] = [
        [
            row["system"] if row["metric"] == COMPARED[0] else "",
            _NAMES.get(row["metric"], row["metric"]),
            f"{row['score']:.3f}",
            row["constant"],
            f"{row['its score']:.3f}",
            tag(
                "span",
                f"{row['difference']:+.3f} ",
                tag("small", f"{row['low']:+.3f} to {row['high']:+.3f}"),
            ),
            f"{row['p']:.3f}",
        ]
        for row in rows
    ]
    note = (
        "Paired on the same resamples. The floor of each metric is the fixed report that is "
        "strongest in it on these very studies. Nothing is corrected for the number of tests."
    )
    head = tag("h2", "Against the strongest fixed report")
    return [head, tag("p", note, class_="note"), table([*heads], lines)]


def _key(colour: int) -> Element:
    # A letter, too: colours alone do not tell systems apart for everybody.
    return tag("span", "ABCD"[colour - 1] if colour <= DRAWN else "K", class_=f"key s{colour}")


def _legend(drawn: Sequence[Drawn]) -> Element:
    items = [
        tag("li", _key(colour), tag("b", system.column), class_=f"s{colour}")
        for colour, system in drawn
    ]
    return tag("ul", *items, class_="legend")


def _findings(
    drawn: Sequence[Drawn], findings: Mapping[str, Sequence[FindingScore]]
) -> list[Element]:
    if not drawn:
        return []
    tables = [findings[system.column] for _, system in drawn]
    kept = [
        i
        for i, score in enumerate(tables[0])
        if any(t[i].support or t[i].predicted for t in tables)
    ]
    kept.sort(key=lambda i: -tables[0][i].support)
    heads = ["finding", "reports", "", "F1", "precision", "recall"]
    lines = []
    for i in kept:
        for place, ((colour, system), scores) in enumerate(zip(drawn, tables)):
            score = scores[i]
            shares = (score.f1, score.precision, score.recall)
            lines.append(
                tag(
                    "tr",
                    tag("th", "" if place else score.finding, scope="row"),
                    tag("td", "" if place else str(score.support)),
                    tag("td", _key(colour), title=system.column),
                    *(tag("td", bar(share, colour=colour)) for share in shares),
                    class_="last" if system is drawn[-1].system else "more",
                )
            )
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in heads)))
    body = tag("table", head, tag("tbody", *lines), class_="full findings")
    note = (
        "Labels by rules from the texts, uncertain counted as present; - is a share of nothing. "
        "“No Finding” is no part of clinical F1."
    )
    return [
        tag("h2", "Findings"),
        tag("p", note, class_="note"),
        _legend(drawn),
        tag("div", body, class_="wide", tabindex="0"),
    ]


def _variety(results: Results, drawn: Sequence[Drawn]) -> list[Element]:
    columns = [(0, "the references", results.references)]
    columns += [(colour, system.column, system.texts) for colour, system in drawn]
    lengths = [[len(text.split()) for text in texts] for _, _, texts in columns]
    longest = max(int(np.percentile(column, 99)) for column in lengths) + 1
    middle = tag("div", *(tag("span", str(longest * i // 4)) for i in range(5)), class_="axis")
    heads: list[Element | str] = ["", middle, "mean words", "distinct texts", "commonest"]
    rows: list[list[Element | str]] = []
    for (colour, name, texts), words in zip(columns, lengths):
        share, top, half = variety(texts, colour)
        mean = f"{np.mean(words):.1f}"
        common = tag("span", top, tag("small", f"{half} make up half"))
        rows.append([name, strip(words, longest, colour), mean, share, common])
    note = (
        "Left: number of words of a text, from 0, each strip scaled to its highest column. Right: "
        "how many texts are different, and the share of the most frequent one."
    )
    head = tag("h2", "Length and variety")
    return [head, tag("p", note, class_="note"), table(heads, rows, class_="full")]


def _foot() -> Element:
    text = (
        "Text scores cannot tell a reader of X-rays from a fixed sentence, and rules that label "
        "reports err themselves. For research and teaching; not for clinical use."
    )
    return tag("footer", text)


def _summary_rows(results: Results) -> list[dict[str, Any]]:
    rows = []
    for system, row in zip(results.systems, results.rows):
        intervals = results.intervals(system.column)
        values: dict[str, Any] = {
            "system": system.name,
            "search": system.search,
            "kind": system.kind,
        }
        for name in COLUMNS:
            values[name] = row[name]
            if intervals.get(name):
                values[f"{name}_low"], values[f"{name}_high"] = intervals[name] or (None, None)
        rows.append(values | {"n": row["n"]})
    return rows


def _markdown(
    results: Results, systems: Sequence[System], findings: Mapping[str, Sequence[FindingScore]]
) -> str:
    def cells(row: Mapping[str, Any]) -> dict[str, Any]:
        shown = {"system": row["system"], "search": row["search"] or ""}
        for name in COLUMNS:
            low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
            span = f" ({_number(name, low)} to {_number(name, high)})" if low is not None else ""
            shown[_NAMES.get(name, name)] = _number(name, row[name]) + span
        return shown

    parts = [f"# {_plain(_title(systems))}", _plain(_facts(results))]
    parts += [f"**Collapse alarm**: {_plain(alarm.message)}." for alarm in results.alarms]
    parts += ["## Summary", format_markdown([cells(row) for row in _summary_rows(results)])]
    if results.whole_rows:
        parts += ["## Without truncation", format_markdown(results.whole_rows)]
    if rivals := _rivals(results, systems):
        parts += ["## Against the strongest fixed report", format_markdown(rivals)]
    if scores := _finding_rows(findings, [s.column for s in systems]):
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
    opposed: Mapping[str, Sequence[Any]],
) -> None:
    rows = _summary_rows(results)
    names = list(dict.fromkeys(name for row in rows for name in row))
    atomic_write(target.with_suffix(".csv"), format_csv(rows, names))
    scores = _finding_rows(findings, list(findings))
    atomic_write(
        target.with_name(f"{target.stem}-findings.csv"),
        format_csv(scores, ["system", *FindingScore._fields]),
    )
    lines = [
        {"system": name, "study_id": results.studies[found.row]} | found._asdict()
        for name, rows_found in opposed.items()
        for found in rows_found
    ]
    atomic_write(
        target.with_name(f"{target.stem}-contradictions.csv"),
        format_csv(lines, ["system", "study_id", "finding", "reference", "hypothesis"]),
    )
