"""Whether finding probabilities hold on real radiographs, by cross-fitting over patients.

A fifth of the patients is tested by an encoder that learned from the others, five times over, so
that every study is tested once. One test part of a few hundred studies cannot tell: among 20
positive studies chance alone moves the ratio of mean probability and prevalence by a third.

    python benchmarks/finding_probabilities.py nih14/Data_Entry_subset.csv --out folds
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import xray_captioning as xc
from xray_captioning.backend import ops
from xray_captioning.config import Config
from xray_captioning.data.splits import Split
from xray_captioning.encoders.encoding import encode_studies
from xray_captioning.evaluation.table import format_markdown
from xray_captioning.metrics.classification import classification_table, format_intervals
from xray_captioning.training.labels import finding_labels

TENTHS, BATCH = 10, 64
SETTINGS = {
    "image.views": 1,
    "image.augment": True,
    "encoder_training.epochs": 40,
    "encoder_training.patience": 10,
    "encoder_training.learning_rate": 0.001,
}


def main() -> None:
    """Train five encoders and print the table of all studies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="ChestX-ray14's table, its images beside it")
    parser.add_argument("--out", type=Path, required=True, help="folder of the five encoders")
    args = parser.parse_args()
    studies = xc.read_studies(args.data)
    config = xc.load_preset("phantom_attention").replace(SETTINGS)
    names, labels = finding_labels(studies)
    logits = np.zeros(labels.shape)
    for fold, split in enumerate(_splits(studies)):
        encoder, _ = xc.train_encoder(studies, config, args.out / str(fold), "random", split=split)
        rows = np.flatnonzero(studies["study_id"].isin(split.test))
        logits[rows] = _logits(encoder, config, [studies["images"].iloc[i] for i in rows])
    table = classification_table(names, labels, logits, patients=list(studies["patient_id"]))
    unread = ("n", "F1")  # logits of five encoders have no threshold in common
    rows = [{k: v for k, v in row.items() if k not in unread} for row in format_intervals(table)]
    print(format_markdown(rows))


def _splits(studies: pd.DataFrame) -> list[Split]:
    """Return five splits by patient: two tenths test, one chooses the epoch, seven train."""
    patients = studies["patient_id"].unique()
    order = np.random.default_rng(0).permutation(len(patients)) * TENTHS // len(patients)
    tenth = studies["patient_id"].map(dict(zip(patients, order))).to_numpy()
    splits = []
    for first in range(0, TENTHS, 2):
        test, val = np.isin(tenth, [first, first + 1]), tenth == (first + 2) % TENTHS
        parts = (~test & ~val, val, test)
        splits.append(Split(*(tuple(studies["study_id"][part]) for part in parts)))
    return splits


def _logits(encoder: Any, config: Config, images: list[list[str]]) -> Any:
    found = []
    for start in range(0, len(images), BATCH):
        features = encode_studies(encoder.encode, config, images[start : start + BATCH])
        found.append(ops.convert_to_numpy(encoder.classify(*features)))
    return np.concatenate(found)


if __name__ == "__main__":
    main()
