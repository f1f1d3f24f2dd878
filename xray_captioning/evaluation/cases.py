"""Studies to look at: the best, the median and the worst of a system, and contradictions."""

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from xray_captioning.data.images import read_image, read_images
from xray_captioning.data.studies import Studies
from xray_captioning.errors import ImageError
from xray_captioning.evaluation.results import Results
from xray_captioning.findings import FINDINGS
from xray_captioning.metrics import clinical, labeler, rouge
from xray_captioning.metrics.mentions import named_findings, written_spans
from xray_captioning.plots.images import data_uri
from xray_captioning.plots.panels import Example
from xray_captioning.text.cleaning import prettify

EACH = 2  # cases of each kind
EXAMPLES = 8  # contradictions shown a system; the CSV has all
THUMBNAIL = 176  # pixels of a side: what a card of the page shows, and a few kilobytes
_CUT = 400  # characters of a text on the page
Labels = clinical.Labels
Texts = Sequence[str]


class Piece(NamedTuple):
    """A part of a text and, where it decided a label, why; "" elsewhere."""

    text: str
    why: str = ""


def choose_cases(references: Texts, texts: Texts, counts: Labels) -> list[list[int]]:
    """Return rows of best, median and worst studies, `EACH` a kind, none twice, by F1 of `counts`, then by ROUGE-L."""
    order = np.lexsort((-rouge.rouge_l_rows(references, texts), -clinical.example_f1(counts))).tolist()
    middle = max(len(order) // 2 - EACH // 2, 0)
    best, median, worst = order[:EACH], order[middle : middle + EACH], order[::-1][:EACH]
    return [best, [r for r in median if r not in best], [r for r in worst if r not in best + median]]


def wordiest(studies: Studies, count: int = 4) -> list[int]:
    """Return rows to show: the longest report, which often names a finding, of each equal share."""
    lengths = [len(text.split()) for text in studies["reference"]]
    shares = [range(i, len(studies), count) for i in range(min(count, len(studies)))]
    return [max(rows, key=lambda row: lengths[row]) for rows in shares]


def example(study: Any, images: Any, texts: dict[str, str], caption: Any, *size: Any, offset: Any = (0, 0)) -> Example:
    """Return a study as a panel shows it, images in their views' places; `caption`, the first system's, may be None."""
    places, paths = zip(*((place, path) for place, path in enumerate(images) if path))
    views, pixels = dict(zip(study["images"], study["views"])), read_images(paths, *size)
    maps = None if caption is None or caption.attention is None else caption.attention[:, places]
    words = caption.words if caption else []
    named = [one.words for one in named_findings(words)]
    return Example(pixels, study["reference"], texts, maps, words, [views[p] for p in paths], named, offset)


def case_cards(
    results: Results, texts: Texts, reference: Labels, labels: Labels, images: Mapping[str, Texts]
) -> list[dict[str, Any]]:
    """Return what the page shows of a run's best, median and worst studies, one dict per study."""
    counts = clinical.confusion(reference, labels)
    scores, groups = clinical.example_f1(counts), choose_cases(results.references, texts, counts)

    def named(row: int, kind: int) -> list[str]:
        return [FINDINGS[i] for i in np.flatnonzero(counts[row, :, kind] * clinical.IS_FINDING)]

    return [
        {
            "kind": kind,
            "study": results.studies[row],
            "score": float(scores[row]),
            "report": marked(prettify(results.reports[row])),
            "text": marked(prettify(texts[row])),
            "images": _thumbnails(images.get(results.studies[row], ())),
            **{name: named(row, kind) for kind, name in enumerate(("common", "added", "missed"))},
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


def _cut(text: str) -> str:
    return (text if len(text) <= _CUT else f"{text[:_CUT]} …") if text.strip() else "(nothing)"


def contradiction_summary(results: Results, texts: Texts, found: Sequence[clinical.Contradiction]) -> dict[str, Any]:
    """Return how often a run's texts contradict the reports, in how many studies, and examples."""
    # Examples are of as many different findings as possible.
    numbers: dict[str, Iterator[int]] = defaultdict(count)  # of a finding's contradictions
    ranked = sorted((next(numbers[one.finding]), place, one) for place, one in enumerate(found))
    return {
        "count": len(found),
        "studies": len({contradiction.row for contradiction in found}),
        "findings": Counter(contradiction.finding for contradiction in found).most_common(),
        "examples": [
            {
                "study": results.studies[row],
                "finding": name,
                "sides": (_statement(results.reports[row], name, label), _statement(texts[row], name, other)),
            }
            for *_, (row, name, label, other) in ranked[:EXAMPLES]
        ],
    }


def _statement(text: str, finding: str, label: int) -> tuple[str, str]:
    """Return whether a text asserts or denies a finding, and the sentence that does."""
    said = [m.sentence for m in labeler.find_mentions(text) if m.finding == finding and m.label == label]
    return "present" if label == labeler.PRESENT else "denied", _cut(prettify(said[0] if said else text))


def marked(text: str) -> list[Piece]:
    """Return what is shown of a text, its beginning, in pieces: words that decided stand alone."""
    shown, deciding = _cut(text), set(labeler.explain_report(text).values())
    mentions = [m for m in dict.fromkeys(labeler.find_mentions(shown)) if m in deciding]
    reasons: dict[tuple[int, int], list[str]] = {}
    spans = written_spans(shown, [(mention.sentence, mention.start, mention.end) for mention in mentions])
    for mention, span in zip(mentions, spans, strict=True):
        cue = "" if mention.cue in ("", mention.words) else f" by “{mention.cue}”"
        reasons.setdefault(span, []).append(f"{mention.finding}: {mention.status}{cue}")
    pieces, last = [], 0
    for (start, end), why in sorted(reasons.items()):
        if last <= start < end:
            pieces += [Piece(shown[last:start]), Piece(shown[start:end], "; ".join(why))]
            last = end
    return [piece for piece in (*pieces, Piece(shown[last:])) if piece.text]
