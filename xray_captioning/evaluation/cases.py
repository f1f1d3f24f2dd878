"""Studies to look at: the best, the median and the worst of a system, and contradictions."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xray_captioning.data.images import read_image
from xray_captioning.errors import ImageError
from xray_captioning.evaluation.marks import marked
from xray_captioning.evaluation.results import Results
from xray_captioning.findings import FINDINGS
from xray_captioning.metrics import clinical
from xray_captioning.metrics.labeler import PRESENT, find_mentions
from xray_captioning.metrics.rouge import rouge_l_rows
from xray_captioning.plots.images import data_uri

if TYPE_CHECKING:
    import pandas as pd

EACH = 2  # cases of each kind
EXAMPLES = 8  # contradictions shown a system; the CSV has all
THUMBNAIL = 176  # pixels of a side: what a card of the page shows, and a few kilobytes
_CUT = 400  # characters of a text on the page


def choose_cases(
    references: Sequence[str], texts: Sequence[str], counts: clinical.Labels
) -> list[list[int]]:
    """Return the rows of a system's best, median and worst studies, `EACH` a kind, none twice.

    Studies are ordered by the F1 of their findings, whose `counts` are
    :func:`~xray_captioning.metrics.clinical.confusion`'s, and, where that is equal, by ROUGE-L.
    """
    order = np.lexsort((-rouge_l_rows(references, texts), -clinical.example_f1(counts)))
    middle = max(len(order) // 2 - EACH // 2, 0)
    chosen = (order[:EACH], order[middle : middle + EACH], order[::-1][:EACH])
    seen: set[int] = set()
    groups = []
    for rows in chosen:
        groups.append([row for row in rows.tolist() if row not in seen])
        seen.update(groups[-1])
    return groups


def wordiest(studies: pd.DataFrame, count: int = 4) -> list[int]:
    """Return rows to show: of each of some equal shares of the studies the longest report.

    Most of them name a finding.
    """
    lengths = [len(text.split()) for text in studies["reference"]]
    shares = [range(i, len(studies), count) for i in range(min(count, len(studies)))]
    return [max(rows, key=lambda row: lengths[row]) for rows in shares]


def case_cards(
    results: Results,
    texts: Sequence[str],
    reference: clinical.Labels,
    labels: clinical.Labels,
    images: Mapping[str, Sequence[str]],
) -> list[dict[str, Any]]:
    """Return what the page shows of a run's best, median and worst studies, one dict per study.

    `reference` and `labels` are the labels of the reports and of the run's texts, `images`
    paths by study. ``score`` is the F1 of the study.
    """
    counts = clinical.confusion(reference, labels)
    scores = clinical.example_f1(counts)
    groups = choose_cases(results.references, texts, counts)
    return [
        {
            "kind": kind,
            "study": results.studies[row],
            "score": float(scores[row]),
            "report": marked(results.reports[row], _cut(results.reports[row])),
            "text": marked(texts[row], _cut(texts[row])),
            "images": _thumbnails(images.get(results.studies[row], ())),
            **_findings(counts[row]),
        }
        for kind, rows in zip(("best", "median", "worst"), groups)
        for row in rows
    ]


def _thumbnails(paths: Sequence[str]) -> list[str]:
    """Return small copies of the first two images that can be read, as data URIs."""
    found = []
    for path in paths[:2]:
        with contextlib.suppress(ImageError):
            found.append(data_uri(read_image(path, THUMBNAIL)[..., 0], ".jpg"))
    return found


def _findings(counts: clinical.Labels) -> dict[str, list[str]]:
    named = ("common", "added", "missed")
    columns = (np.flatnonzero(counts[:, k] * clinical.IS_FINDING) for k in range(3))
    return {name: [FINDINGS[i] for i in column] for name, column in zip(named, columns)}


def _cut(text: str) -> str:
    if not text.strip():
        return "(nothing)"
    return text if len(text) <= _CUT else f"{text[:_CUT]} …"


def contradiction_summary(
    results: Results, texts: Sequence[str], found: Sequence[clinical.Contradiction]
) -> dict[str, Any]:
    """Return how often a run's texts contradict the reports, in how many studies, and examples.

    ``findings`` come with their number, the most frequent first. The ``sides`` of an example
    are what the report and the text say, each as a word and a sentence.
    """
    return {
        "count": len(found),
        "studies": len({contradiction.row for contradiction in found}),
        "findings": Counter(contradiction.finding for contradiction in found).most_common(),
        "examples": [
            {
                "study": results.studies[c.row],
                "finding": c.finding,
                "sides": (
                    _statement(results.reports[c.row], c.finding, c.reference),
                    _statement(texts[c.row], c.finding, c.hypothesis),
                ),
            }
            for c in _spread(found)
        ],
    }


def _spread(found: Sequence[clinical.Contradiction]) -> list[clinical.Contradiction]:
    """Choose examples of as many different findings as possible."""
    seen: Counter[str] = Counter()
    ranked: list[tuple[int, int, clinical.Contradiction]] = []
    for contradiction in found:
        ranked.append((seen[contradiction.finding], len(ranked), contradiction))
        seen[contradiction.finding] += 1
    return [contradiction for *_, contradiction in sorted(ranked)[:EXAMPLES]]


def _statement(text: str, finding: str, label: int) -> tuple[str, str]:
    """Return whether a text asserts or denies a finding, and the sentence that does."""
    said = [m.sentence for m in find_mentions(text) if m.finding == finding and m.label == label]
    return "present" if label == PRESENT else "denied", _cut(said[0] if said else text)
