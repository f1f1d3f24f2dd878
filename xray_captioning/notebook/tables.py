"""What a notebook shows: studies with captions, tables of scores, numbers behind a figure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xray_captioning.config import Config
from xray_captioning.data.resizing import opencv
from xray_captioning.data.studies import select_images
from xray_captioning.data.targets import reference_texts
from xray_captioning.evaluation.cases import example
from xray_captioning.evaluation.results import evaluate_systems
from xray_captioning.evaluation.systems import ReportTexts, System
from xray_captioning.evaluation.table import SHOWN
from xray_captioning.metrics.bleu import bleu
from xray_captioning.metrics.clinical import contradictions
from xray_captioning.plots.panels import Example

if TYPE_CHECKING:
    import pandas as pd

    from xray_captioning.captioner.caption import Caption
    from xray_captioning.data.splits import Split

VIEWS, SIDE = 2, 224  # of a study, and pixels of an image, in figures
SIZED = 200  # images opened to tell sizes
OFTEN = 5  # times that a word has to occur to have a mean share of attention
CANDIDATES, COMPARED = 300, 200  # texts tried as a constant, and texts they are scored against


def table(rows: Sequence[Mapping[str, Any]], names: Sequence[str] | None = None) -> str:
    """Return rows as HTML, None left empty; without names, of a comparison's columns."""
    from tabulate import tabulate

    present = [name for name in names or SHOWN if any(name in row for row in rows)]
    cells = [[row.get(name) for name in present] for row in rows]
    texts = [i for i, column in enumerate(zip(*cells)) if any(isinstance(x, str) for x in column)]
    return tabulate(cells, present, "html", floatfmt=".3f", missingval="", disable_numparse=texts)


def part(studies: pd.DataFrame, split: Split, config: Config, name: str = "test") -> pd.DataFrame:
    """Return the studies of one part that have a text, with the column ``reference``."""
    found = studies[studies["study_id"].isin(split.parts[name])]
    found = found.assign(reference=reference_texts(found, config))
    return found[found["reference"] != ""].reset_index(drop=True)


def examples(
    studies: pd.DataFrame,
    rows: Sequence[int],
    captions: Mapping[str, Sequence[Caption]] | None = None,
    config: Config | None = None,
) -> list[Example]:
    """Lay some rows of studies with references out for a figure, with what systems wrote."""
    # Captions are of all the studies; of the first system the attention is drawn.
    count = config.image.views if config else VIEWS
    found = []
    for row in rows:
        study = studies.iloc[row]
        written = {name: texts[row] for name, texts in (captions or {}).items()}
        texts = {name: " ".join(caption.words) for name, caption in written.items()}
        chosen = select_images(study["images"], study["views"], count)
        first = next(iter(written.values()), None)
        found.append(example(study, chosen, texts, first, SIDE))
    return found


def image_sizes(studies: pd.DataFrame) -> list[tuple[int, int]]:
    """Return height and width, in pixels, of evenly chosen images; DICOM files are left out."""
    paths = [path for images in studies["images"] for path in images]
    chosen = paths[:: -(-len(paths) // SIZED)]
    read = (opencv().imread(path, opencv().IMREAD_UNCHANGED) for path in chosen)
    return [image.shape[:2] for image in read if image is not None]


def lateral_shares(captions: Sequence[Caption]) -> dict[str, float]:
    """Return the share of each frequent word's attention that lies on the second view, sorted."""
    shares: dict[str, list[float]] = {}
    for caption in captions:
        maps = () if caption.attention is None else caption.attention
        for word, weights in zip(caption.words, maps):
            shares.setdefault(word, []).append(float(weights[1].sum()))
    means = {word: sum(found) / len(found) for word, found in shares.items() if len(found) >= OFTEN}
    return dict(sorted(means.items(), key=lambda item: -item[1]))


def sentences_by_truth(
    captions: Sequence[Caption], references: Sequence[str]
) -> tuple[list[float], list[float]]:
    """Return the mean log-probabilities of sentences that are in the reference, and of others."""
    found: tuple[list[float], list[float]] = ([], [])
    for caption, reference in zip(captions, references):
        there = {_bare(sentence) for sentence in reference.split(" . ")}
        for sentence in caption.sentences:
            found[_bare(sentence.text) not in there].append(sentence.log_probability)
    return found


def text_rows(reference: str, texts: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the scores of several texts, by name, and their contradictions, with one reference."""
    systems = [System(name, None, [text]) for name, text in texts.items()]
    known = ReportTexts.unaltered([reference], [])
    rows = evaluate_systems(["1"], systems, known, {}, quick=True).rows
    opposed = [len(contradictions([reference], [text])) for text in texts.values()]
    named = ({"text": row["system"], **row} for row in rows)
    return [row | {"contradictions": number} for row, number in zip(named, opposed)]


def legacy_constant(texts: Sequence[str]) -> str:
    """Return the text whose legacy BLEU-4 is highest when it is said of every study."""
    # The most frequent and the shortest of the cleaned training texts are tried.
    counts = Counter(texts)
    common = [text for text, _ in counts.most_common(CANDIDATES)]
    short = sorted(counts, key=lambda text: (len(text.split()), text))[:CANDIDATES]
    references = list(texts)[:: -(-len(texts) // COMPARED)]
    values = {t: bleu(references, [t] * len(references), "legacy")[3] for t in {*common, *short}}
    return max(sorted(values), key=lambda text: float(values[text]))


def _bare(sentence: str) -> str:
    return sentence.lower().rstrip(" .").strip()
