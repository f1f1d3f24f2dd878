"""Real radiographs in five folds by patient: findings, and captions made from their labels.

    python benchmarks/nih.py nih14/Data_Entry_subset.csv --out folds

A fifth of the patients is tested by networks that learned from the others, five times over, so
that every image is tested once: EfficientNet-Lite0, every weight of it trained, from ImageNet's
weights and from random ones, and decoders on top of the former. What is finished is not done
again, so the command can be stopped and started; each result is a JSON file in its folder.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

import xray_captioning as xc
from xray_captioning.backend import ops
from xray_captioning.comparison.evaluate import evaluate
from xray_captioning.config import Config
from xray_captioning.data.sources.published import render_captions
from xray_captioning.data.splits import Split, group_ids
from xray_captioning.encoders.encoding import encode_studies
from xray_captioning.evaluation.baselines import ReportTexts, System
from xray_captioning.evaluation.results import Results, evaluate_systems
from xray_captioning.evaluation.table import format_markdown
from xray_captioning.files import atomic_write
from xray_captioning.metrics.classification import classification_table, format_intervals
from xray_captioning.training.labels import finding_labels

FOLDS, BATCH, DRAWS = 5, 64, 2000
# One image a study, of 256 px; half the preset's size is four times as quick. Captions are short.
SETTINGS: dict[str, Any] = {
    "image.views": 1,
    "image.size": 128,
    "model.pool": 1,
    **{f"model.{name}": 128 for name in ("head", "units", "attention", "embedding")},
}
# Random weights have nothing to keep: they need a higher rate, more epochs, new statistics.
FROM_RANDOM = {
    "encoder_training.learning_rate": 0.001,
    "encoder_training.classifier_first": False,
    "encoder_training.epochs": 10,
    "encoder_training.patience": 10,
}
STARTS: dict[str, dict[str, Any]] = {"imagenet": {}, "random": FROM_RANDOM}
CAPTIONERS: dict[str, dict[str, Any]] = {"lite_attention": {}, "lite_attention_balanced": {"training.balanced": True}}
SCORES = ("clinical_f1", "micro_f1", "BLEU-4", "CIDEr")


def main() -> None:
    """Train what is not there yet, fold by fold, and print the tables of all images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="ChestX-ray14's table, its images beside it")
    parser.add_argument("--out", type=Path, required=True, help="folder of the folds")
    args = parser.parse_args()
    studies = render_captions(xc.read_studies(args.data))
    config = xc.load_preset("lite_attention").replace(SETTINGS)
    folds = [
        _fold(studies, config, split, args.out / f"fold-{number}") for number, split in enumerate(_splits(studies), 1)
    ]
    _print_findings(studies, folds)
    _print_captions(studies, folds, args.out)


def _splits(studies: pd.DataFrame) -> list[Split]:
    """Return five splits by patient, a fifth for testing. No part chooses anything."""
    patients = studies["patient_id"].unique()
    order = np.random.default_rng(0).permutation(len(patients)) * FOLDS // len(patients)
    fold = studies["patient_id"].map(dict(zip(patients, order))).to_numpy()
    ids = studies["study_id"].to_numpy()
    return [Split(tuple(ids[fold != i]), (), tuple(ids[fold == i])) for i in range(FOLDS)]


def _fold(studies: pd.DataFrame, config: Config, split: Split, out: Path) -> dict[str, Any]:
    """Train encoders and captioners, and return what they say of the test studies."""
    options = {"split": split, "cache": out.parent / "cache"}
    test = studies[studies["study_id"].isin(split.test)]

    def encoder(start: str) -> dict[str, Any]:
        run, own = out / start, config.replace(STARTS[start])
        trained, _ = xc.train_encoder(studies, own, run, start, resume=run.exists(), **options)
        return {"logits": _logits(trained, config, list(test["images"]))}

    def captions(name: str) -> dict[str, Any]:
        run, own = out / name, config.replace(CAPTIONERS[name])
        given = {"resume": run.exists(), "measured": False, **options}
        captioner = xc.train(studies, own, run, out / "imagenet", **given)
        evaluate(studies, {name: captioner}, run, quick=True, **options)
        return {"texts": pd.read_csv(run / "captions.csv", dtype=str).to_dict("list")}

    works = {name: partial(encoder, name) for name in STARTS}
    works |= {name: partial(captions, name) for name in CAPTIONERS}
    results = {name: _once(out / f"{name}.json", work) for name, work in works.items()}
    return {**results, "test": list(test.index)}


def _once(path: Path, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what a file holds, or do the work and write it and its minutes there."""
    if not path.is_file():
        started = time.perf_counter()
        found = work()
        found["minutes"] = (time.perf_counter() - started) / 60
        print(f"{path}: {found['minutes']:.1f} minutes", flush=True)
        atomic_write(path, json.dumps(found) + "\n")
    found = json.loads(path.read_text("utf-8"))
    return dict(found)


def _logits(encoder: Any, config: Config, images: list[list[str]]) -> list[list[float]]:
    found: list[list[float]] = []
    for start in range(0, len(images), BATCH):
        features = encode_studies(encoder.encode, config, images[start : start + BATCH])
        found += ops.convert_to_numpy(encoder.classify(*features)).tolist()
    return found


def _minutes(folds: Sequence[dict[str, Any]], name: str) -> str:
    return f"{sum(fold[name]['minutes'] for fold in folds):.0f} minutes"


# --- findings ---


def _print_findings(studies: pd.DataFrame, folds: Sequence[dict[str, Any]]) -> None:
    """Print each finding's area under the ROC curve, the means, and their difference.

    Five networks have no scale in common: what counts is an image's rank within its fold.
    """
    names, labels = finding_labels(studies)
    tested = [fold["test"] for fold in folds]
    order, patients = np.concatenate(tested), studies["patient_id"].to_numpy()
    ranks, table = {}, dict[str, dict[str, Any]]()
    for start in STARTS:
        ranks[start] = np.zeros(labels.shape)
        said = [np.array(fold[start]["logits"]) for fold in folds]
        ranks[start][order] = np.concatenate([rankdata(s, axis=0) / len(s) for s in said])
        found = classification_table(names, labels, ranks[start], patients=list(patients))
        for row in format_intervals(found):
            cells = {"finding": row["finding"], "positives": row["positives"]}
            table.setdefault(row["finding"], cells)[f"AUROC, {start}"] = row["AUROC"]
    print("\n".join(f"{start}: {_minutes(folds, start)}" for start in STARTS))
    print(f"\n{format_markdown(list(table.values()))}")
    drawn = _drawn(labels, ranks, patients)
    print("\n| from | mean AUROC of all images | mean over folds |\n| --- | --- | --- |")
    for start, scores in ranks.items():
        alone = np.mean([mean_auroc(labels[rows], scores[rows]) for rows in tested])
        print(f"| {start} | {_interval(mean_auroc(labels, scores), drawn[start])} | {alone:.3f} |")
    first, second = (mean_auroc(labels, scores) for scores in ranks.values())
    paired = drawn["imagenet"] - drawn["random"]
    print(f"| difference | {_interval(first - second, paired)} | |")


def mean_auroc(labels: Any, scores: Any) -> float:
    """Return the mean area under the ROC curve of findings that some, not all, studies have."""
    positives = labels.sum(axis=0)
    pairs = positives * (len(labels) - positives)
    above = (rankdata(scores, axis=0) * labels).sum(axis=0) - positives * (positives + 1) / 2
    return float((above[pairs > 0] / pairs[pairs > 0]).mean())


def _drawn(labels: Any, ranks: dict[str, Any], patients: Any) -> dict[str, Any]:
    """Return the mean areas on the same draws of patients, with replacement, for each start."""
    rows = list(pd.Series(range(len(patients))).groupby(patients).indices.values())
    rng, found = np.random.default_rng(0), []
    for _ in range(DRAWS):
        drawn = np.concatenate([rows[i] for i in rng.integers(0, len(rows), len(rows))])
        found.append([mean_auroc(labels[drawn], scores[drawn]) for scores in ranks.values()])
    return dict(zip(ranks, np.transpose(found)))


def _interval(value: float, drawn: Any) -> str:
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


# --- captions ---


def _print_captions(studies: pd.DataFrame, folds: Sequence[dict[str, Any]], out: Path) -> None:
    """Score the captions of all five captioners and of the baselines of their training parts."""
    texts: dict[str, list[str]] = {}
    for name in CAPTIONERS:
        parts = pd.concat([pd.DataFrame(fold[name]["texts"]) for fold in folds]).fillna("")
        texts |= parts.set_index("study_id").loc[studies["study_id"]].to_dict("list")
        print(f"\n{name}: {_minutes(folds, name)}")
    references = texts.pop("reference")
    systems = [
        System(name, None, said, "system" if name.startswith("lite") else "baseline") for name, said in texts.items()
    ]
    given = ReportTexts.unaltered(references, references), {"part": "all five test parts"}
    patients = group_ids(studies)
    results = evaluate_systems(list(studies["study_id"]), systems, *given, patients, quick=True)
    results.write(out)
    rows = []
    for system, row in zip(results.systems, results.rows):
        ends = results.intervals(system.column)
        cells = {name: _cell(row[name], ends.get(name)) for name in SCORES}
        cells |= {"distinct": row["distinct"], "p_shuffled": row.get("p_shuffled")}
        rows.append({"system": system.name, **cells, **_differences(results, system)})
    print(f"\n{format_markdown(rows)}")


def _differences(results: Results, system: System) -> dict[str, str | None]:
    """Return by how much a system's clinical F1 is above those of two baselines."""
    found: dict[str, str | None] = {}
    for rival in ("retrieval", "constant-clinical_f1"):
        one = results.found.compare(system.column, rival, "clinical_f1")
        said = f"{one.difference:.3f} ({one.low:.3f} to {one.high:.3f})"
        found[f"above {rival}"] = said if system.kind == "system" else None
    return found


def _cell(value: float | None, ends: Sequence[float] | None) -> Any:
    return value if value is None or not ends else f"{value:.3f} ({ends[0]:.2f} to {ends[1]:.2f})"


if __name__ == "__main__":
    main()
