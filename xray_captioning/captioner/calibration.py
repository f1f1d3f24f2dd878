"""Calibration: the confidence of a caption's sentences, and the novelty of a study's images.

A bundle has both after ``xray-captioning calibrate`` on studies that it was not trained on (see
`xray_captioning.training.calibration`). The *confidence* of a sentence is the logistic function of
a line in its mean log-probability [1]_. The *novelty* of a study is a Mahalanobis distance [2]_
between the encoder's features, averaged over each image, and those of the training images,
divided by the 99th percentile of the distances of validation studies.

References
----------
.. [1] Platt, Probabilistic outputs for support vector machines, 1999.
.. [2] Lee et al., A simple unified framework for detecting out-of-distribution samples and
   adversarial attacks, NeurIPS 2018 (here with one Gaussian instead of one a class).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xray_captioning.bundles.bundle import bundle_files
from xray_captioning.errors import BundleError
from xray_captioning.files import read_json
from xray_captioning.findings import NO_FINDING
from xray_captioning.metrics.labeler import label_report

NUMBERS, ARRAYS = "calibration.json", "calibration.h5"
NOT_CONFIDENT = "not confident"

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was fitted to tell how far a bundle's captions can be trusted."""

    slope: float  # of the line from a mean log-probability to the log-odds of being right
    intercept: float
    centre: Array  # mean of the pooled features of training images, (channels,) float32
    precision: Array  # inverse of their covariance, (channels, channels) float32
    radius: float  # the Mahalanobis distance at which the novelty is 1
    # JSON values: what it was fitted on, and how well it does on other studies.
    about: dict[str, Any] = field(default_factory=dict)

    def confidence(self, log_probability: float) -> float:
        """Return the probability in [0, 1] that a sentence of a mean log-probability is right."""
        return 1 / (1 + math.exp(-max(self.slope * log_probability + self.intercept, -700.0)))

    def novelty(self, pooled: Array, present: Array) -> Array:
        """Return the novelty of each study, (studies,) float64: that of its least familiar image.

        It is 0 or more; above 1 the images are less familiar than those of 99 % of the validation
        studies. Features are those of :func:`pooled_views`.
        """
        found: Array = distances(pooled, present, self.centre, self.precision) / self.radius
        return found

    def calibrated(
        self, captions: Sequence[Any], regions: Array, mask: Array, views: int, drawn: bool = False
    ) -> list[Any]:
        """Return captions with the confidence of their sentences and the novelty of their studies.

        `regions` and `mask` are the features of the same studies. The fit does not hold for words
        that were sampled at random (`drawn`), so their sentences' confidence stays None.
        """
        novelties = self.novelty(*pooled_views(regions, mask, views)).tolist()
        return [
            caption._replace(
                novelty=novelty,
                sentences=[
                    s if drawn else s._replace(confidence=self.confidence(s.log_probability))
                    for s in caption.sentences
                ],
            )
            for caption, novelty in zip(captions, novelties)
        ]

    def save(self, folder: Path) -> None:
        """Write ``calibration.json`` and ``calibration.h5`` into a bundle's folder."""
        import h5py

        names = ("slope", "intercept", "radius", "about")
        values = {name: getattr(self, name) for name in names}
        (folder / NUMBERS).write_text(json.dumps(values, indent=2) + "\n", "utf-8")
        with h5py.File(folder / ARRAYS, "w") as file:
            for name in ("centre", "precision"):
                file.create_dataset(name, data=np.asarray(getattr(self, name), "float32"))


def load_calibration(folder: Path) -> Calibration | None:
    """Return the calibration of a bundle, None where it has none.

    Raises
    ------
    BundleError
        Its files are not what :meth:`Calibration.save` writes.
    """
    if not {NUMBERS, ARRAYS} <= set(bundle_files(folder)):
        return None
    import h5py

    advice = f"calibrate anew: xray-captioning calibrate --bundle {folder}"
    try:
        with h5py.File(folder / ARRAYS) as file:
            arrays = {name: file[name][:] for name in ("centre", "precision")}
        return Calibration(**read_json(folder / NUMBERS, advice), **arrays)
    except (OSError, KeyError, TypeError) as error:
        raise BundleError(f"{folder}/{NUMBERS}: does not fit {ARRAYS}; {advice}") from error


def pooled_views(regions: Array, mask: Array, views: int) -> tuple[Array, Array]:
    """Average the features of each image.

    Parameters
    ----------
    regions : array, shape (studies, views * regions, channels), float32
    mask : array, shape (studies, views * regions), bool
    views : int

    Returns
    -------
    pooled : array, shape (studies, views, channels), float32
    present : array, shape (studies, views), bool
        False for a view that the study does not have.
    """
    studies = len(mask)
    pooled = regions.reshape(studies, views, -1, regions.shape[-1]).mean(axis=2)
    return pooled, mask.reshape(studies, views, -1)[..., 0]


def distances(pooled: Array, present: Array, centre: Array, precision: Array) -> Array:
    """Return the Mahalanobis distance of the most distant image of each study, (studies,) float."""
    away = (pooled - centre).astype("float64")
    squares = np.einsum("svc,cd,svd->sv", away, precision, away, optimize=True)
    found: Array = np.sqrt(np.where(present, squares.clip(0), 0).max(axis=1))
    return found


def hedged(caption: Any, threshold: float) -> list[str]:
    """Return a caption's sentences, with "not confident" in place of those below a threshold.

    Parameters
    ----------
    caption : Caption, or sequence of Sentence
    threshold : float
        The least confidence of a sentence that is shown, in [0, 1]. A sentence without a
        confidence, of a bundle that is not calibrated, is always shown. For images with a novelty
        above 1 no confidence holds, so a threshold above 0 withholds all their sentences.
    """
    unfamiliar = threshold > 0 and is_unfamiliar(caption)

    def withheld(confidence: float | None) -> bool:
        return unfamiliar or (confidence is not None and confidence < threshold)

    return [NOT_CONFIDENT if withheld(s.confidence) else s.text for s in _sentences(caption)]


def _sentences(caption: Any) -> Sequence[Any]:
    found: Sequence[Any] = getattr(caption, "sentences", caption)
    return found


def is_unfamiliar(caption: Any) -> bool:
    """Return whether a caption is known to be of images unlike the training images."""
    novelty = getattr(caption, "novelty", None)
    return novelty is not None and novelty > 1


def sure_labels(caption: Any, threshold: float) -> dict[str, int | None]:
    """Label the sentences that `hedged` shows, as :func:`~xray_captioning.label_report` does.

    Sentences below the threshold count as if they were not there. Where one is withheld, "No
    Finding" is None, because the sentence may have named a finding.
    """
    sentences = _sentences(caption)
    pairs = zip(sentences, hedged(caption, threshold))
    sure = [said for sentence, said in pairs if said == sentence.text]
    labels = label_report(" ".join(sure))
    return labels if len(sure) == len(sentences) else {**labels, NO_FINDING: None}
