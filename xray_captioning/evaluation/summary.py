"""Tables of all systems: for the page as elements, for Markdown and CSV as rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xray_captioning.evaluation.html import Element, table, tag
from xray_captioning.evaluation.results import COMPARED, Results, Row, rows_by_kind
from xray_captioning.evaluation.table import TEXT_COLUMNS

COLUMNS = (
    "clinical_f1",
    "sides",
    "abnormal_recall",
    "distinct",
    "copied",
    *TEXT_COLUMNS,
    "mean_length",
)
MORE = (
    "macro_f1_14",
    "micro_f1_14",
    "macro_f1_5",
    "micro_f1_5",
    "micro_f1",
    "example_f1",
    "clinical_f1_present",
    "side_agreement",
    "ROUGE-1",
    "ROUGE-2",
    "ROUGE-L-F1",
    "chrF",
    "length_ratio",
    "distinct-1",
    "distinct-2",
    "top_share",
    "entropy",
)
WHOLE = ("clinical_f1", "sides", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr")
PAIRED = 4
"""Systems that the page compares with each other; Markdown and CSV compare all."""

NAMES = {
    "clinical_f1": "clinical F1",
    "abnormal_recall": "abnormal recall",
    "mean_length": "words",
    "macro_f1_14": "macro F1, 14",
    "micro_f1_14": "micro F1, 14",
    "macro_f1_5": "macro F1, 5",
    "micro_f1_5": "micro F1, 5",
    "micro_f1": "micro F1",
    "example_f1": "F1 a study",
    "clinical_f1_present": "clinical F1, certain",
    "side_agreement": "side agreement",
    "ROUGE-L-F1": "ROUGE-L (F1)",
    "length_ratio": "length ratio",
    "top_share": "commonest",
}
_GROUPS = {
    "system": "Systems",
    "baseline": "Baselines: what looks at no image, or at the answer (label-oracle)",
    "shuffled": "The systems' own captions dealt to other studies: what is said without looking",
}


def summary_section(results: Results) -> list[Element]:
    """Return the main table with its intervals, and the other scores folded below it."""
    note = (
        "BLEU, ROUGE-L and CIDEr compare words; clinical F1 is the mean over the findings that "
        "some report has, labelled by rules. Read them beside the fixed reports: constant was "
        "chosen on the training texts by BLEU-4, constant-METRIC by that metric. Small: 95 % "
        "bootstrap interval over patients."
    )
    more = (
        "Macro F1 over the 14 findings of CheXpert (“No Finding” is one) or the 5 of its "
        "competition gives 0 to a finding that nobody has; micro F1 pools decisions, without a "
        "number those of all findings proper; F1 a study is the mean over studies; certain leaves "
        "uncertain findings out. ROUGE-1, ROUGE-2 and ROUGE-L (F1) as rouge-score, chrF as "
        "sacrebleu computes them. Entropy of the captions in bits."
    )
    return [
        tag("h2", "Summary"),
        tag("p", note, class_="note"),
        _grouped(results, COLUMNS),
        tag(
            "details",
            tag("summary", "More scores"),
            tag("p", more, class_="note"),
            _grouped(results, [name for name in MORE if name in results.rows[0]]),
        ),
    ]


def _grouped(results: Results, columns: Sequence[str]) -> Element:
    heads = [NAMES.get(name, name) for name in columns]
    names = tag("tr", *(tag("th", head, scope="col") for head in ["", *heads]))
    whole = tag("table", tag("thead", names))
    for kind, rows in rows_by_kind(results):
        # The words stay in sight when a narrow window scrolls the table sideways.
        words = tag("span", _GROUPS[kind])
        group = tag("th", words, colspan=len(columns) + 1, scope="colgroup")
        lines = [tag("tr", group, class_="group")]
        for system, row in rows:
            intervals = results.intervals(system.column)
            cells = [_cell(name, row[name], intervals.get(name)) for name in columns]
            lines.append(tag("tr", tag("th", system.column, scope="row"), *cells))
        whole.append(tag("tbody", *lines))
    return tag("div", whole, class_="wide", tabindex="0")


def _number(name: str, value: Any) -> str:
    if not isinstance(value, float):
        return "-" if value is None else str(value)
    return f"{value:.1f}" if name in ("mean_length", "chrF") else f"{value:.3f}"


def _cell(name: str, value: Any, interval: list[float] | None) -> Element:
    small = None
    if interval is not None and interval[0] < interval[1]:
        small = tag("small", f"{_number(name, interval[0])} to {_number(name, interval[1])}")
    return tag("td", _number(name, value), small)


def whole_section(results: Results) -> list[Element]:
    """Return the table without truncation, where a protocol truncates."""
    if not results.whole_rows:
        return []
    heads = ["", *(NAMES.get(name, name) for name in WHOLE)]
    rows: list[list[Element | str]] = [
        [system.column, *(_number(name, row[name]) for name in WHOLE)]
        for system, row in zip(results.systems, results.whole_rows)
    ]
    note = "The same texts against whole references; the protocol scores their first 59 words."
    return [tag("h2", "Without truncation"), tag("p", note, class_="note"), table([*heads], rows)]


def differences_section(results: Results) -> list[Element]:
    """Return the paired tests, where there is a system to test."""
    systems = [system.column for system in results.systems if system.kind == "system"]
    rows = [
        row
        for row in results.paired_tests()
        if row["rival"] not in systems[PAIRED:]
        and (row["system"] not in systems[PAIRED:] or row["rival"] not in systems)
    ]
    if not rows:
        return []
    heads = ["", "metric", "score", "against", "its score", "difference", "p"]
    note = (
        "Paired on the same resamples: each system with the fixed report that is strongest in the "
        "metric on these very studies, then with the other systems. Nothing is corrected for the "
        "number of tests."
    )
    head = tag("h2", "Against the strongest fixed report and each other")
    lines = [_difference(row) for row in rows]
    return [head, tag("p", note, class_="note"), table([*heads], lines)]


def _difference(row: Row) -> list[Element | str]:
    low, high = (_signed(row[name]) for name in ("low", "high"))
    return [
        row["system"] if row["metric"] == COMPARED[0] else "",
        NAMES.get(row["metric"], row["metric"]),
        _number("", row["score"]),
        row["rival"],
        _number("", row["rival_score"]),
        tag("span", f"{_signed(row['difference'])} ", tag("small", f"{low} to {high}")),
        _number("", row["p"]),
    ]


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


def summary_rows(results: Results) -> list[Row]:
    """Return every score of every system with its interval, for a CSV."""
    rows = []
    for system, row in zip(results.systems, results.rows):
        intervals = results.intervals(system.column)
        values: Row = {"system": system.name, "search": system.search, "kind": system.kind}
        for name in (*COLUMNS, *(name for name in MORE if name in row)):
            values[name] = row[name]
            if intervals.get(name):
                values[f"{name}_low"], values[f"{name}_high"] = intervals[name] or (None, None)
        rows.append(values | {"n": row["n"]})
    return rows


def markdown_rows(results: Results, columns: Sequence[str]) -> list[Row]:
    """Return some scores of every system as text, intervals in parentheses."""
    return [_markdown_row(row, columns) for row in summary_rows(results)]


def _markdown_row(row: Mapping[str, Any], columns: Sequence[str]) -> Row:
    shown = {"system": row["system"], "search": row["search"] or ""}
    for name in (name for name in columns if name in row):
        low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
        span = f" ({_number(name, low)} to {_number(name, high)})" if low is not None else ""
        shown[NAMES.get(name, name)] = _number(name, row[name]) + span
    return shown
