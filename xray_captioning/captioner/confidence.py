"""How far a caption is to be believed: calibrated sentences, and how unlike its images are.

Two numbers that a bundle can give once ``xray-captioning calibrate`` has seen studies it was not
trained on. A sentence's *confidence* is the logistic function of a line in its mean
log-probability [1]_. A study's *novelty* is the Mahalanobis distance of the encoder's features,
averaged over each image, from the training images' [2]_, over the 99th percentile of validation
studies.

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
from xray_captioning.metrics.labeler import label_report

NUMBERS, ARRAYS = "calibration.json", "calibration.h5"
NOT_CONFIDENT = "not confident"

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Calibration:
    """What a bundle knows of its own reliability.

    Parameters
    ----------
    slope, intercept : float
        Of the log-odds that a sentence is right, over its mean log-probability.
    centre : array, shape (channels,), float32
        Mean of the pooled features of training images.
    precision : array, shape (channels, channels), float32
        Inverse of their covariance.
    radius : float
        Mahalanobis distance that is novelty 1.
    about : dict
        JSON values: what it was fitted on, and how well it does on other studies.
    """

    slope: float
    intercept: float
    centre: Array
    precision: Array
    radius: float
    about: dict[str, Any] = field(default_factory=dict)

    def confidence(self, log_probability: float) -> float:
        """Return the probability that a sentence is right, in [0, 1].

        Parameters
        ----------
        log_probability : float
            Mean over the sentence's tokens, natural logarithm.
        """
        return 1 / (1 + math.exp(-max(self.slope * log_probability + self.intercept, -700.0)))

    def novelty(self, pooled: Array, present: Array) -> Array:
        """Return how unlike the training images the least familiar image of each study is.

        Parameters
        ----------
        pooled : array, shape (studies, views, channels), float32
        present : array, shape (studies, views), bool
            As :func:`pooled_views` returns both.

        Returns
        -------
        array, shape (studies,), float64
            From 0 on; above 1 further than 99 % of validation studies.
        """
        found: Array = distances(pooled, present, self.centre, self.precision) / self.radius
        return found

    def calibrated(
        self, captions: Sequence[Any], regions: Array, mask: Array, views: int, drawn: bool = False
    ) -> list[Any]:
        """Return captions with their sentences' confidence and their studies' novelty.

        Parameters
        ----------
        captions : sequence of Caption
        regions, mask : array
            Features of the same studies.
        views : int
        drawn : bool
            Words were drawn at random, of whose confidence the fit says nothing: it stays None.
        """
        novelties = self.novelty(*pooled_views(regions, mask, views))
        rated = [said if drawn else self._rated(said) for said in captions]
        return [said._replace(novelty=float(score)) for said, score in zip(rated, novelties)]

    def _rated(self, caption: Any) -> Any:
        sentences = [
            sentence._replace(confidence=self.confidence(sentence.log_probability))
            for sentence in caption.sentences
        ]
        return caption._replace(sentences=sentences)

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
    """Return a bundle's calibration, or None where it has none.

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
        False for views a study does not have.
    """
    studies = len(mask)
    pooled = regions.reshape(studies, views, -1, regions.shape[-1]).mean(axis=2)
    return pooled, mask.reshape(studies, views, -1)[..., 0]


def distances(pooled: Array, present: Array, centre: Array, precision: Array) -> Array:
    """Return the Mahalanobis distance of the furthest image of each study.

    Returns
    -------
    array, shape (studies,), float64
    """
    away = (pooled - centre).astype("float64")
    squares = np.einsum("svc,cd,svd->sv", away, precision, away, optimize=True)
    found: Array = np.sqrt(np.where(present, squares.clip(0), 0).max(axis=1))
    return found


def hedged(caption: Any, threshold: float) -> list[str]:
    """Return a caption's sentences, "not confident" in place of those below a threshold.

    Parameters
    ----------
    caption : Caption, or sequence of Sentence
    threshold : float
        Least confidence of a sentence that is shown, in [0, 1]; a sentence without a confidence,
        of a bundle that is not calibrated, is always shown. Of images with a novelty above 1 no
        confidence holds, so that any threshold above 0 withholds all that is said of them.

    Returns
    -------
    list of str
        As many as there are sentences.
    """
    sentences: Sequence[Any] = getattr(caption, "sentences", caption)
    unknown = threshold > 0 and is_unfamiliar(caption)
    return [
        NOT_CONFIDENT if unknown or _below(sentence.confidence, threshold) else sentence.text
        for sentence in sentences
    ]


def is_unfamiliar(caption: Any) -> bool:
    """Tell whether a caption is known to be of images unlike those of the training."""
    novelty = getattr(caption, "novelty", None)
    return novelty is not None and novelty > 1


def _below(confidence: float | None, threshold: float) -> bool:
    return confidence is not None and confidence < threshold


def sure_labels(caption: Any, threshold: float) -> dict[str, int | None]:
    """Return the findings that a caption's shown sentences name.

    What is not confident enough to be said is not confident enough to be labelled; and where a
    sentence is withheld nobody can tell that there is no finding.

    Parameters
    ----------
    caption : Caption, or sequence of Sentence
    threshold : float
        As `hedged` takes it.

    Returns
    -------
    dict of str to int or None
        As :func:`xray_captioning.metrics.labeler.label_report` returns it.
    """
    sentences: Sequence[Any] = getattr(caption, "sentences", caption)
    pairs = zip(sentences, hedged(caption, threshold))
    sure = [said for sentence, said in pairs if said == sentence.text]
    labels = label_report(" ".join(sure))
    return labels if len(sure) == len(sentences) else {**labels, "No Finding": None}
