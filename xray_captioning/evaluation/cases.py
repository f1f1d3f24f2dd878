"""Studies to look at: the best, the median and the worst of a system, and what it contradicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from xray_captioning.evaluation.figures import chips, thumbnail
from xray_captioning.evaluation.html import Element, table, tag
from xray_captioning.evaluation.results import Results
from xray_captioning.evaluation.table import System
from xray_captioning.findings import FINDINGS
from xray_captioning.metrics.clinical import Contradiction, Labels, confusion, example_f1
from xray_captioning.metrics.labeler import PRESENT, UNCERTAIN, find_mentions
from xray_captioning.metrics.rouge import rouge_l_rows

EACH = 2
"""Cases of each kind."""

EXAMPLES = 8
"""Contradictions shown a system; the CSV has all."""

_CUT = 400  # characters of a text on the page


def choose_cases(
    references: Sequence[str], texts: Sequence[str], counts: Labels
) -> list[list[int]]:
    """Choose the best, the median and the worst studies of a system.

    Studies are ordered by the F1 of their findings and, where that is equal, by ROUGE-L.

    Parameters
    ----------
    references, texts : sequence of str
    counts : array, shape (n, 18, 3)
        What :func:`xray_captioning.metrics.clinical.confusion` gives.

    Returns
    -------
    list of list of int
        Rows, at most :data:`EACH` a kind, none twice.
    """
    order = np.lexsort((-rouge_l_rows(references, texts), -example_f1(counts)))
    middle = max(len(order) // 2 - EACH // 2, 0)
    chosen = (order[:EACH], order[middle : middle + EACH], order[::-1][:EACH])
    seen: set[int] = set()
    groups = []
    for rows in chosen:
        groups.append([row for row in rows.tolist() if row not in seen])
        seen.update(groups[-1])
    return groups


def cases_section(
    results: Results,
    systems: Sequence[System],
    reference: Labels,
    labels: Mapping[str, Labels],
    images: Mapping[str, Sequence[str]],
) -> Iterator[Element]:
    """Yield the cases of each system, the first of them unfolded."""
    if systems:
        yield tag("h2", "Cases")
        note = "Ordered by the F1 of a study's findings and, where that is equal, by ROUGE-L."
        yield tag("p", note, class_="note")
    for system in systems:
        counts = confusion(reference, labels[system.column])
        groups = choose_cases(results.references, system.texts, counts)
        scores = example_f1(counts)
        cards = [
            _card(kind, row, results, system, counts[row], float(scores[row]), images)
            for kind, rows in zip(("best", "median", "worst"), groups)
            for row in rows
        ]
        head = tag("summary", f"{system.column}: best, median and worst")
        opened = "open" if system is systems[0] else None
        yield tag("details", head, tag("div", *cards, class_="cases"), open=opened)


def _card(
    kind: str,
    row: int,
    results: Results,
    system: System,
    counts: Labels,
    score: float,
    images: Mapping[str, Sequence[str]],
) -> Element:
    study = results.studies[row]
    small = [thumbnail(path) for path in images.get(study, ())[:2]]
    shown = [image for image in small if image is not None]
    common, added, missed = ([FINDINGS[i] for i in np.flatnonzero(counts[:, k])] for k in range(3))
    proper = [[n for n in names if n != "No Finding"] for names in (common, missed, added)]
    return tag(
        "article",
        tag("h4", f"{kind}: {study}", tag("span", f"F1 {score:.2f}")),
        tag("div", *shown, class_="images") if shown else None,
        tag("p", "report", class_="who"),
        tag("p", _cut(results.reports[row])),
        tag("p", system.column, class_="who"),
        tag("p", _cut(system.texts[row])),
        chips(*proper),
        class_="case",
    )


def _cut(text: str) -> str:
    if not text.strip():
        return "(nothing)"
    return text if len(text) <= _CUT else f"{text[:_CUT]} …"


def contradictions_section(
    results: Results, opposed: Mapping[str, Sequence[Contradiction]]
) -> Iterator[Element]:
    """Yield, for each system, how often it contradicts a report, and examples."""
    if opposed:
        yield tag("h2", "Contradictions")
        note = "One text asserts what the other denies. Uncertain findings contradict nothing."
        yield tag("p", note, class_="note")
    texts = {system.column: system.texts for system in results.systems}
    for column, found in opposed.items():
        studies = len({contradiction.row for contradiction in found})
        counts = Counter(contradiction.finding for contradiction in found)
        parts = ", ".join(f"{name} {count}" for name, count in counts.most_common())
        head = f"{column}: {len(found)} in {studies} of {len(results.studies)} studies"
        rows: list[list[Element | str]] = [
            [
                results.studies[c.row],
                c.finding,
                _says(results.reports[c.row], c.finding, c.reference),
                _says(texts[column][c.row], c.finding, c.hypothesis),
            ]
            for c in _spread(found)
        ]
        heads: list[Element | str] = ["study", "finding", "the report", "the system"]
        lines = [tag("p", parts), table(heads, rows, class_="full texts")] if rows else []
        opened = "open" if column == next(iter(opposed)) else None
        yield tag("details", tag("summary", head), *lines, open=opened)


def _spread(found: Sequence[Contradiction]) -> list[Contradiction]:
    """Choose examples of as many findings as there are, the first of each before the second."""
    seen: Counter[str] = Counter()
    ranked: list[tuple[int, int, Contradiction]] = []
    for contradiction in found:
        ranked.append((seen[contradiction.finding], len(ranked), contradiction))
        seen[contradiction.finding] += 1
    return [contradiction for *_, contradiction in sorted(ranked)[:EXAMPLES]]


def _says(text: str, finding: str, label: int) -> Element:
    """Return the sentence that asserts or denies a finding."""
    word = "present" if label in (PRESENT, UNCERTAIN) else "denied"
    said = [m.sentence for m in find_mentions(text) if m.finding == finding and m.label == label]
    return tag("span", tag("b", f"{word}: "), _cut(said[0] if said else text))
