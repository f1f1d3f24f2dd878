"""The report: one page that needs nothing from anywhere, and its tables as Markdown and CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xray_captioning.evaluation.cases import cases_section, contradictions_section
from xray_captioning.evaluation.figures import bar, strip, variety
from xray_captioning.evaluation.html import Element, page, table, tag
from xray_captioning.evaluation.results import Results
from xray_captioning.evaluation.summary import (
    COLUMNS,
    MORE,
    differences_section,
    markdown_rows,
    summary_rows,
    summary_section,
    whole_section,
)
from xray_captioning.evaluation.table import System, format_csv, format_markdown
from xray_captioning.files import atomic_write
from xray_captioning.metrics.clinical import (
    FindingScore,
    contradictions,
    finding_table,
    label_matrix,
)

DRAWN = 4
"""Systems that are drawn, beside the reports and a constant; the tables hold all."""


class Drawn(NamedTuple):
    """A system as it is drawn: its place in the palette goes with it through the page."""

    colour: int
    system: System


def write_report(
    results: Results, path: str | Path, images: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Write the page, and beside it its tables.

    ``NAME.html`` is the page; ``NAME.md`` has the tables as Markdown, ``NAME.csv`` all scores with
    ``METRIC_low`` and ``METRIC_high``, ``NAME-differences.csv`` the paired tests,
    ``NAME-findings.csv`` a row a system and finding, ``NAME-contradictions.csv`` every
    contradiction and, under a protocol that truncates, ``NAME-untruncated.csv`` the scores without.

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
        *summary_section(results),
        *whole_section(results),
        *differences_section(results),
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
    elif systems and any(s.kind == "baseline" for s in results.systems):
        text = (
            "In clinical F1 (BLEU-4, where no report names a finding) each system is clearly "
            "better than the strongest fixed report and than its own captions dealt to other "
            "studies: the 95 % intervals of the paired differences lie above 0."
        )
        box = tag("div", tag("strong", "No collapse alarm"), tag("p", text), class_="calm")
    else:
        lacks = "No system was given: these are the baselines alone."
        if systems:
            lacks = "There is no training text, so no fixed report to compare the systems with."
        box = tag("p", lacks, class_="note")
    return [tag("h1", _title(systems)), tag("p", _facts(results), class_="facts"), box]


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
    shown = [scores for scores in zip(*tables) if any(s.support or s.predicted for s in scores)]
    shown.sort(key=lambda scores: -scores[0].support)
    heads = ["finding", "reports", "", "F1", "precision", "recall"]
    lines = [line for scores in shown for line in _finding_lines(drawn, scores)]
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


def _finding_lines(drawn: Sequence[Drawn], scores: Sequence[FindingScore]) -> Iterator[Element]:
    for place, ((colour, system), score) in enumerate(zip(drawn, scores)):
        shares = (score.f1, score.precision, score.recall)
        yield tag(
            "tr",
            tag("th", "" if place else score.finding, scope="row"),
            tag("td", "" if place else str(score.support)),
            tag("td", _key(colour), title=system.column),
            *(tag("td", bar(share, colour=colour)) for share in shares),
            class_="last" if system is drawn[-1].system else "more",
        )


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


def _markdown(
    results: Results, systems: Sequence[System], findings: Mapping[str, Sequence[FindingScore]]
) -> str:
    parts = [f"# {_plain(_title(systems))}", _plain(_facts(results))]
    parts += [f"**Collapse alarm**: {_plain(alarm.message)}." for alarm in results.alarms]
    parts += ["## Summary", format_markdown(markdown_rows(results, COLUMNS))]
    parts += ["## More scores", format_markdown(markdown_rows(results, MORE))]
    if results.whole_rows:
        parts += ["## Without truncation", format_markdown(results.whole_rows)]
    if tests := results.paired_tests():
        head = "## Against the strongest fixed report and each other"
        parts += [head, format_markdown(tests)]
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
    tables = {"": summary_rows(results), "-differences": results.paired_tests()}
    tables |= {"-untruncated": results.whole_rows} if results.whole_rows else {}
    for ending, rows in tables.items():
        names = list(dict.fromkeys(name for row in rows for name in row))
        path = target.with_name(f"{target.stem}{ending}.csv")
        atomic_write(path, format_csv(rows, names or ["system"]))
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
