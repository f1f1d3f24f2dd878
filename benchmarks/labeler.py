"""How well `label_report` agrees with the human MeSH coding of the Indiana University reports.

    python benchmarks/labeler.py ecgen-radiology.tgz

Text is findings and impression together; an uncertain finding counts as present. The phrase lists
were tuned on the odd-numbered reports only, so the even-numbered ones say how good they are.
Printed are precision, recall and F1 of each finding, macro F1 with a bootstrap interval (1,000
resamples of reports), and kinds of disagreement that can be told apart without reading.
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from xray_captioning.data.sources.reading import read_studies
from xray_captioning.metrics.labeler import (
    MESH_FINDINGS,
    UNCERTAIN,
    find_mentions,
    label_report,
)

NAMES = tuple(dict.fromkeys(MESH_FINDINGS.values()))
RESAMPLES = 1000
# A finding of which coders chose another term: what the disagreement is then called.
OTHER_TERMS = {
    "Cardiomegaly": ("cardiac shadow",),
    "Pleural Effusion": ("costophrenic angle", "sulcus", "hydropneumothorax", "hemopneumothorax"),
    "Emphysema": ("lung/hyperdistention", "bullous emphysema", "blister", "lung, hyperlucent"),
    "Lung Lesion": ("opacity", "density", "cavitation", "cysts", "calcified granuloma"),
    "Granuloma": ("granulomatous disease", "nodule"),
    "Fracture": ("deformity", "lucency"),
    "Atelectasis": ("opacity", "airspace disease", "infiltrate", "density"),
    "Edema": ("markings", "opacity", "airspace disease"),
    "Hiatal Hernia": ("opacity", "density"),
}


def read(path: Path) -> tuple[NDArray[np.int64], list[str], list[list[str]]]:
    """Read numbers, texts and lower-case MeSH terms of all reports."""
    studies = read_studies(path)
    parts = zip(studies["findings"], studies["impression"], strict=True)
    texts = ["\n\n".join(part for part in pair if isinstance(part, str)) for pair in parts]
    terms = [mesh.lower().split(";") if isinstance(mesh, str) else [] for mesh in studies["mesh"]]
    return studies["study_id"].astype(int).to_numpy(), texts, terms


def coded(terms: list[str]) -> set[str]:
    """Findings that MeSH terms stand for."""
    heads = (term.split("/")[0].strip() for term in terms)
    return {MESH_FINDINGS[head] for head in heads if head in MESH_FINDINGS}


def counts(terms: list[list[str]], labels: list[dict[str, int | None]]) -> NDArray[np.int64]:
    """True positives, false positives and false negatives (n, 11, 3)."""
    truth = np.array([[name in found for name in NAMES] for found in map(coded, terms)])
    said = np.array([[bool(label[name]) for name in NAMES] for label in labels])
    return np.stack([truth & said, ~truth & said, truth & ~said], axis=-1).astype(np.int64)


def f1(summed: NDArray[np.int64]) -> NDArray[np.float64]:
    """F1 of (..., 3) counts."""
    hits, false, missed = np.moveaxis(summed, -1, 0)
    return 2 * hits / np.maximum(2 * hits + false + missed, 1)


def interval(per_report: NDArray[np.int64], seed: int) -> tuple[float, float]:
    """95 % bootstrap interval of macro F1, resampling reports."""
    number = len(per_report)
    weights = np.random.default_rng(seed).multinomial(
        number, np.full(number, 1 / number), size=RESAMPLES
    )
    summed = (weights.astype(float) @ per_report.reshape(number, -1).astype(float)).round()
    macro = f1(summed.astype(np.int64).reshape(RESAMPLES, len(NAMES), 3)).mean(-1)
    low, high = np.percentile(macro, [2.5, 97.5])
    return float(low), float(high)


def kinds(
    texts: list[str], terms: list[list[str]], labels: list[dict[str, int | None]]
) -> Counter[str]:
    """Kinds of disagreement, by what can be counted without reading a report."""
    found: Counter[str] = Counter()
    for text, codes, label in zip(texts, terms, labels, strict=True):
        truth = coded(codes)
        for name in NAMES:
            if bool(label[name]) != (name in truth):
                found[kind(text, codes, name, label[name])] += 1
    return found


def kind(text: str, codes: list[str], name: str, label: int | None) -> str:
    """Name the kind of one disagreement."""
    if not label:
        denied = any(mention.finding == name for mention in find_mentions(text))
        return "missed: " + ("text denies it" if denied else "text does not name it so")
    if codes in ([], ["normal"], ["no indexing"]):
        return "extra: report coded as normal or not coded"
    if any(code.startswith(OTHER_TERMS.get(name, ())) for code in codes):
        hedged = "in doubt, " if label == UNCERTAIN else ""
        return f"extra: {hedged}coded under a neighbouring term"
    return "extra: " + ("in doubt, not coded" if label == UNCERTAIN else "asserted, not coded")


def report(title: str, per_report: NDArray[np.int64], seed: int) -> None:
    """Print one table."""
    summed = per_report.sum(0)
    hits, false, missed = summed.T
    print(f"\n{title} ({len(per_report)} reports)")
    print(f"{'finding':<18}{'coded':>6}{'precision':>11}{'recall':>8}{'F1':>7}")
    for i, name in enumerate(NAMES):
        precision = hits[i] / max(hits[i] + false[i], 1)
        recall = hits[i] / max(hits[i] + missed[i], 1)
        coded_reports = hits[i] + missed[i]
        print(f"{name:<18}{coded_reports:>6}{precision:>11.3f}{recall:>8.3f}{f1(summed)[i]:>7.3f}")
    low, high = interval(per_report, seed)
    print(f"macro F1 {f1(summed).mean():.4f}, 95 % interval {low:.3f} to {high:.3f}")


def main() -> None:
    """Run the validation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("archive", type=Path, help="folder or .tgz of the Open-i XML reports")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")
    arguments = parser.parse_args()
    numbers, texts, terms = read(arguments.archive)
    label_report("no effusion")  # the phrase lists are read at the first call
    start = time.perf_counter()
    labels = [label_report(text) for text in texts]
    speed = len(texts) / (time.perf_counter() - start)
    print(f"{speed:,.0f} reports a second, beginning with an empty cache")
    per_report = counts(terms, labels)
    odd = numbers % 2 == 1
    for title, rows in (("odd", odd), ("even", ~odd), ("all", odd | True)):
        report(title, per_report[rows], arguments.seed)
        chosen = np.flatnonzero(rows)
        found = kinds(*([source[i] for i in chosen] for source in (texts, terms, labels)))
        for name, number in sorted(found.items()):
            print(f"{number:>6}  {name}")


if __name__ == "__main__":
    main()
