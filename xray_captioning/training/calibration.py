"""Fit a captioner's calibration on studies it was not trained on, and evaluate it on others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xray_captioning.captioner.calibration import Array, Calibration, distances, pooled_views
from xray_captioning.captioner.caption import Caption
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.config import Config
from xray_captioning.data.splits import Split
from xray_captioning.data.targets import reference_texts, study_images, usable_studies
from xray_captioning.errors import DataError
from xray_captioning.metrics.calibration import (
    CalibrationScores,
    calibration_scores,
    sentence_is_right,
)

if TYPE_CHECKING:
    import pandas as pd

FAMILIAR = 2000  # training studies whose features are fitted
BATCH = 64


class Outcomes(NamedTuple):
    """A captioner's features of studies, and which sentences of its captions are right."""

    pooled: Array  # (studies, views, channels) float32
    present: Array  # (studies, views) bool
    log_probabilities: Array  # (sentences,) float64; empty where no captions were asked for
    right: Array  # (sentences,) bool


def calibrate(
    captioner: Captioner, studies: pd.DataFrame, split: Split, part: str = "val"
) -> Calibration:
    """Fit confidence and novelty.

    The images of the training part are those that are familiar. `part`, "val" or "test", on which
    the captioner must not have been trained, gives the usual distance from them, and which
    sentences are right. The result's ``about`` holds ``fitted``; see
    :func:`evaluate_calibration` for other studies.

    Raises
    ------
    DataError
        A part has no usable study, or more probable sentences are not right more often.
    """
    usable = usable_studies(studies, captioner.config)
    familiar = part_studies(usable, split, "train")[:FAMILIAR]
    train = caption_outcomes(captioner, familiar, captions=False)
    found = caption_outcomes(captioner, part_studies(usable, split, part))
    slope, intercept = fit_confidence(found.log_probabilities, found.right)
    if slope <= 0:
        raise DataError(
            f"calibration: of {len(found.right)} sentences the more probable ones "
            "are not right more often; give more studies, or train longer"
        )
    centre, precision = fit_familiar(train.pooled[train.present])
    radius = np.percentile(distances(found.pooled, found.present, centre, precision), 99)
    fitted = {
        "part": part,
        "studies": len(found.present),
        "sentences": len(found.right),
        "right_sentences": int(found.right.sum()),
        "training_studies": len(train.present),
    }
    return Calibration(slope, intercept, centre, precision, float(radius), {"fitted": fitted})


def caption_outcomes(
    captioner: Captioner, studies: pd.DataFrame, captions: bool = True
) -> Outcomes:
    """Encode studies and compare the sentences of their captions with their reports.

    Without `captions` nothing is written, and only the features are returned.
    """
    from tqdm import tqdm

    config = captioner.config
    images, references = study_images(studies, config), reference_texts(studies, config)
    views: list[tuple[Array, Array]] = []
    sentences: list[tuple[float, bool]] = []
    for start in tqdm(range(0, len(images), BATCH), desc="studies", unit="batch", disable=None):
        features = captioner.features(images[start : start + BATCH])
        views.append(pooled_views(*features, config.image.views))
        if captions:
            written = captioner.caption_features(features)
            sentences += _compared(written, references[start : start + BATCH], config)
    pooled, present = zip(*views)
    return Outcomes(
        np.concatenate(pooled),
        np.concatenate(present),
        np.array([found for found, _ in sentences], "float64"),
        np.array([right for _, right in sentences], bool),
    )


def _compared(
    captions: Sequence[Caption], references: Sequence[str], config: Config
) -> Iterator[tuple[float, bool]]:
    # Some models begin with a sentence that says which views there are; no reference does.
    first = 1 if config.text.view_prefix else 0
    for caption, reference in zip(captions, references):
        for sentence in caption.sentences[first:]:
            right = sentence_is_right(sentence.text, reference)
            yield sentence.log_probability, right


def fit_confidence(log_probabilities: Array, right: Array) -> tuple[float, float]:
    """Fit the log-odds that a sentence is right as a line in its mean log-probability.

    The outcomes are fitted as if there were one more right and one more wrong sentence (Platt,
    1999, section 2.2), so that a fit on few mistakes, or none, does not state certainty. Arrays
    are (sentences,); slope and intercept are returned.
    """
    from sklearn.linear_model import LogisticRegression

    if not len(right):
        raise DataError("calibration: the captions have no sentence; give more studies")
    yes, no = int(right.sum()), int((~right).sum())
    target = np.where(right, (yes + 1) / (yes + 2), 1 / (no + 2))
    outcomes = np.repeat([1, 0], len(right))
    twice = np.tile(log_probabilities, 2)[:, None]
    line = LogisticRegression(C=1e6).fit(twice, outcomes, np.concatenate([target, 1 - target]))
    return float(line.coef_[0, 0]), float(line.intercept_[0])


def fit_familiar(features: Array) -> tuple[Array, Array]:
    """Fit one Gaussian to the pooled features of images, (images, channels).

    The covariance of the standardised features is shrunk towards a multiple of the identity, by
    as much as Ledoit and Wolf's formula says [1]_, so that it can be inverted. The mean,
    (channels,), and the inverse, (channels, channels), are float32.

    References
    ----------
    .. [1] Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices,
       Journal of Multivariate Analysis 88, 2004.
    """
    from sklearn.covariance import LedoitWolf

    exact = features.astype("float64")
    centre, scale = exact.mean(axis=0), exact.std(axis=0) + 1e-6
    fitted = LedoitWolf(assume_centered=True).fit((exact - centre) / scale)
    precision = fitted.precision_ / np.outer(scale, scale)
    return centre.astype("float32"), precision.astype("float32")


def evaluate_calibration(
    calibration: Calibration, outcomes: Outcomes
) -> tuple[dict[str, Any], dict[str, CalibrationScores]]:
    """Evaluate a calibration on studies it was not fitted on.

    Returns
    -------
    values : dict
        For the model card.
    curves : dict of str to CalibrationScores
        ``uncalibrated``, the exponential of the mean log-probability, and ``calibrated``.
    """
    stated = [calibration.confidence(float(found)) for found in outcomes.log_probabilities]
    curves = {
        "uncalibrated": calibration_scores(np.exp(outcomes.log_probabilities), outcomes.right),
        "calibrated": calibration_scores(stated, outcomes.right),
    }
    values = {
        "studies": len(outcomes.present),
        "flagged": float(np.mean(calibration.novelty(outcomes.pooled, outcomes.present) > 1)),
        "sentences": {
            name: {
                "n": found.n,
                "right": found.right,
                "Brier": found.brier,
                "calibration error": found.calibration_error,
            }
            for name, found in curves.items()
        },
    }
    return values, curves


def part_studies(studies: pd.DataFrame, split: Split, name: str) -> pd.DataFrame:
    """Return the studies of one part of a split; a DataError where there are none."""
    chosen = studies[studies["study_id"].isin(split.parts[name])]
    if chosen.empty:
        raise DataError(
            f"the {name} part of the split has no study with images and text; "
            "give other data or another split"
        )
    return chosen.reset_index(drop=True)
