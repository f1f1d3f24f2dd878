"""Numbers that stay: what is measured here lies in the JSON files beside this one.

    python -m tests.golden.measured            # says what moved, and writes nothing
    python -m tests.golden.measured --renew    # writes the files anew; then say in CHANGELOG.md what moved, and why

What README and docs say is renewed by `python -m tests.golden.said --renew`.

Captions come from the shipped bundle, of phantoms that are drawn here. Whole numbers and texts are equal or
not; floating-point numbers have a tolerance for each kind, which other versions of Python, NumPy, OpenCV, Keras and
TensorFlow stay within.
"""

import csv
import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from xray_captioning.files import load_as_program

HERE = Path(__file__).parent
SEED, STUDIES, SIZE = 28, 12, 224
TOLERANCES = {"pixels": 2e-3, "features": 2e-3, "captions": 2e-3, "scores": 1e-9, "labels": 0.0}
REFERENCES = [
    "the heart is normal in size . the lungs are clear . no effusion or pneumothorax .",
    "small right pleural effusion with adjacent atelectasis .",
    "cardiomegaly . mild pulmonary edema . no pneumothorax .",
    "left lower lobe consolidation , which may be pneumonia .",
    "no acute disease .",
    "emphysema with a nodule in the right upper lobe .",
    "large left pneumothorax .",
    "a pacemaker is in place . the heart is enlarged .",
]
HYPOTHESES = [
    "the heart is normal in size . the lungs are clear .",
    "small left pleural effusion .",
    "cardiomegaly . no pneumothorax . no effusion .",
    "right lower lobe consolidation .",
    "no acute cardiopulmonary abnormality .",
    "emphysema . no nodule .",
    "no pneumothorax .",
    "a pacemaker is in place .",
]


@cache
def studies() -> list[Any]:
    """Return the phantoms: their reports, findings and the two images of each."""
    from xray_captioning.phantom.dataset import render
    from xray_captioning.phantom.studies import sample_study
    from xray_captioning.phantom.wording import report

    rng = np.random.default_rng(SEED)
    drawn = [(one := sample_study(rng), report(one, rng)) for _ in range(STUDIES)]
    return [(list(render(one, SIZE)), said) for one, said in drawn]


@cache
def captioner() -> Any:
    """Return the shipped bundle."""
    from xray_captioning.captioner.captioner import Captioner

    return Captioner.load("phantom_attention")


@cache
def encoded() -> Any:
    """Return the features of all studies."""
    return captioner().features([pictures for pictures, _ in studies()])


def pixels() -> dict[str, Any]:
    """Return each phantom's report, and the means of 4 x 4 parts of its images, in [0, 1]."""
    side = SIZE // 4
    return {
        str(number): {
            "report": said,
            "means": [
                (np.asarray(p, float) / 255).reshape(4, side, 4, side).mean((1, 3)).ravel().tolist() for p in pictures
            ],
        }
        for number, (pictures, said) in enumerate(studies())
    }


def features() -> dict[str, Any]:
    """Return mean, deviation and eight numbers of each study's regions: of the middle of both images, for the
    letter in the corner is drawn otherwise by OpenCV 4.
    """
    regions = np.asarray(encoded().regions, float)
    return {
        str(number): {"mean": one.mean(), "deviation": one.std(), "some": one[[24, 73], ::24].tolist()}
        for number, one in enumerate(regions)
    }


def captions() -> dict[str, Any]:
    """Return the captions of each study, greedy and by a beam of three, with their log-probabilities."""
    found = {f"beam of {beam}": captioner().caption_features(encoded(), beam) for beam in (1, 3)}
    return {
        name: {str(number): [one.text, one.log_probability] for number, one in enumerate(rows)}
        for name, rows in found.items()
    }


def scores() -> dict[str, Any]:
    """Return every score of the pairs of texts above."""
    from xray_captioning.metrics.clinical import clinical_scores
    from xray_captioning.metrics.mentions import compare_mentions
    from xray_captioning.metrics.scores import score, word_statistics

    found = {protocol: score(REFERENCES, HYPOTHESES, protocol) for protocol in ("coco", "nltk", "legacy")}
    rows = word_statistics(REFERENCES, HYPOTHESES, rouge_score=True)
    rouge = [float(rows[name].mean()) for name in ("ROUGE-1", "ROUGE-2", "ROUGE-L-F1")]
    own = {"clinical": clinical_scores(REFERENCES, HYPOTHESES), "mentions": compare_mentions(REFERENCES, HYPOTHESES)}
    return {**found, **own, "rouge_score": rouge}


def labels() -> dict[str, Any]:
    """Return what is read of some of the labeler's own sentences, in both conventions."""
    from xray_captioning.metrics.labeler import label_report

    with open(HERE.parent / "metrics" / "sentences.tsv", encoding="utf-8", newline="") as file:
        sentences = [row["sentence"] for row in csv.DictReader(file, delimiter="\t")][::55]

    def said(sentence: str, convention: str) -> dict[str, int]:
        return {name: label for name, label in label_report(sentence, convention).items() if label is not None}

    return {one: {way: said(one, way) for way in ("chexpert", "mesh")} for one in sentences}


KINDS = {"pixels": pixels, "features": features, "captions": captions, "scores": scores, "labels": labels}


def kept(kind: str) -> Any:
    """Return what is kept of a kind."""
    return json.loads((HERE / f"{kind}.json").read_text("utf-8"))


def plain(value: Any) -> Any:
    """Return a value as JSON has it, floating-point numbers rounded, NaN as text."""
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return "nan" if value != value else float(f"{value:.10g}")
    return value


def moved(before: Any, now: Any, tolerance: float, where: str = "") -> Iterator[str]:
    """Yield a line for everything that is not as it was."""
    if isinstance(before, dict) and isinstance(now, dict) and before.keys() == now.keys():
        for name in before:
            yield from moved(before[name], now[name], tolerance, f"{where} / {name}")
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for place, (old, new) in enumerate(zip(before, now)):
            yield from moved(old, new, tolerance, f"{where} / {place}")
    elif isinstance(before, float) or isinstance(now, float):
        numbers = all(isinstance(one, int | float) for one in (before, now))
        if not (numbers and abs(before - now) <= tolerance * max(1.0, abs(before))):
            yield f"{where}: {before} -> {now}"
    elif before != now:
        yield f"{where}: {before} -> {now}"


def main(renew: bool) -> int:
    """Say what moved; return the number of lines."""
    load_as_program()
    count = 0
    for kind, measure in KINDS.items():
        now, file = plain(measure()), HERE / f"{kind}.json"
        lines = list(moved(kept(kind), now, TOLERANCES[kind], kind)) if file.is_file() else [f"{kind}: is new"]
        print(*lines, sep="\n", end="\n" if lines else "")
        count += len(lines)
        if renew and lines:
            file.write_text(json.dumps(now, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return count


if __name__ == "__main__":
    main("--renew" in sys.argv[1:])
