"""The confidence of sentences (Platt, 1999), the novelty of images (Lee et al., 2018), as docs/confidence.md says."""

import io
import json
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import asdict, replace
from numpy.typing import NDArray

from xray_captioning.bundles.bundle import bundle_files
from xray_captioning.config import DecodingConfig
from xray_captioning.errors import BundleError
from xray_captioning.files import read_json
from xray_captioning.findings import NO_FINDING
from xray_captioning.metrics.labeler import label_report

NUMBERS, ARRAYS = "calibration.json", "calibration.h5"
NOT_CONFIDENT = "not confident"

Array = NDArray[Any]
Search = DecodingConfig | None
# By search, the slope and the intercept of the line from a mean log-probability to the log-odds of
# being right. A file of before says no search: its line, under None, is taken for any.
Lines = Mapping[Search, tuple[float, float]]


class UnfamiliarImageWarning(UserWarning):
    """Images are unlike those of the training, so that nothing said of them can be trusted."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was fitted to tell how far a bundle's captions can be trusted."""

    lines: Lines
    centre: Array  # mean of the pooled features of training images, (channels,) float32
    precision: Array  # inverse of their covariance, (channels, channels) float32
    radius: float  # the Mahalanobis distance at which the novelty is 1
    # JSON values: what it was fitted on, and how well it does on other studies.
    about: dict[str, Any] = field(default_factory=dict)

    def confidence(self, log_probability: float, search: Search = None) -> float | None:
        """Return the probability in [0, 1] that a sentence is right, None for a search that it was not fitted for."""
        if (line := self.lines.get(search, self.lines.get(None))) is None:
            return None
        return 1 / (1 + math.exp(-max(line[0] * log_probability + line[1], -700.0)))

    def novelty(self, pooled: Array, present: Array) -> Array:
        """Return the novelty of each study, (studies,) float64: that of its least familiar image, of `pooled_views`."""
        # It is 0 or more; above 1 are one in a hundred studies like those it was fitted on, and the less familiar.
        return np.divide(distances(pooled, present, self.centre, self.precision), self.radius)

    def calibrated(
        self, captions: Sequence[Any], pooled: Array, present: Array, search: Search = None, drawn: bool = False
    ) -> list[Any]:
        """Return captions with the confidence of their sentences and the novelty of their studies."""
        # Confidence stays None where no fit holds: of a search that it was not fitted for, of words that were sampled
        # at random (`drawn`), and of images whose novelty is above 1.
        found = []
        for caption, novelty in zip(captions, self.novelty(pooled, present).tolist()):
            sentences = caption.sentences
            if not drawn and novelty <= 1:
                known = [self.confidence(s.log_probability, search) for s in sentences]
                sentences = [s._replace(confidence=k) for s, k in zip(sentences, known)]
            found.append(caption._replace(novelty=novelty, sentences=sentences))
        return found

    def save(self, folder: Path) -> None:
        """Write ``calibration.json`` and ``calibration.h5`` into a bundle's folder."""
        import h5py

        known = [(asdict(search) if search else {}, line) for search, line in self.lines.items()]
        lines = [{**search, "slope": line[0], "intercept": line[1]} for search, line in known]
        values = {"lines": lines, "radius": self.radius, "about": self.about}
        (folder / NUMBERS).write_text(json.dumps(values, indent=2) + "\n", "utf-8")
        with h5py.File(memory := io.BytesIO(), "w") as file:  # not on a disk, as save_weights
            for name in ("centre", "precision"):
                file.create_dataset(name, data=np.asarray(getattr(self, name), "float32"))
        (folder / ARRAYS).write_bytes(memory.getbuffer())


def load_calibration(folder: Path) -> Calibration | None:
    """Return the calibration of a bundle, None where it has none."""
    if not {NUMBERS, ARRAYS} <= set(bundle_files(folder)):
        return None
    import h5py

    advice = f"calibrate anew: xray-captioning calibrate --bundle {folder}"
    try:
        with h5py.File(folder / ARRAYS) as file:
            arrays = {name: file[name][:] for name in ("centre", "precision")}
        values = read_json(folder / NUMBERS, advice)
        lines = dict(map(_line, values.get("lines") or [values]))
        if not np.isfinite([*chain(*lines.values()), radius := float(values["radius"])]).all():
            raise ValueError("a number is not finite")
        return Calibration(lines, **arrays, radius=radius, about={**values["about"]})
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{folder}/{NUMBERS}: does not fit {ARRAYS}; {advice}") from error


def _line(values: dict[str, Any]) -> tuple[Search, tuple[float, float]]:
    search = {name: values[name] for name in DecodingConfig.__struct_fields__ if name in values}
    found = msgspec.convert(search, DecodingConfig) if search else None
    return found, (float(values["slope"]), float(values["intercept"]))


def search_of(decoding: DecodingConfig, beam_size: int) -> DecodingConfig:
    """Return what tells a search from others; greedy search knows no length penalty."""
    penalty = decoding.length_penalty if beam_size > 1 else 0.0
    return replace(decoding, beam_size=int(beam_size), length_penalty=penalty)


def pooled_views(regions: Array, mask: Array, views: int) -> tuple[Array, Array]:
    """Return the mean features of each view, and whether the study has it."""
    # Regions are (studies, views * regions, channels), their means (studies, views,
    # channels) float32, and what is there (studies, views) bool.
    studies = len(mask)
    each = regions.reshape(studies, views, -1, regions.shape[-1])
    return each.mean(axis=2, dtype="float32"), mask.reshape(studies, views, -1)[..., 0]


def distances(pooled: Array, present: Array, centre: Array, precision: Array) -> Array:
    """Return the Mahalanobis distance of the most distant image of each study, (studies,) float."""
    away = (pooled - centre).astype("float64")
    return np.asarray(np.sqrt(np.where(present, (away @ precision * away).sum(axis=-1).clip(0), 0).max(axis=1)))


def hedged(caption: Any, threshold: float) -> list[str]:
    """Return a caption's sentences, with "not confident" in place of those below a threshold (docs/confidence.md).

    Parameters
    ----------
    caption : Caption, or sequence of Sentence
    threshold : float
        The least confidence of a sentence that is shown, in [0, 1]. At any threshold above 0, whatever has no
        confidence is withheld, too; but nothing of a caption by a bundle that is not calibrated (its novelty is None).
        Sentences without their caption do not say why they have none, and are never taken for such a bundle's.
    """
    calibrated = getattr(caption, "novelty", math.nan) is not None
    # What a sentence counts as that has no confidence, or one that means nothing.
    unknown = -math.inf if calibrated and threshold > 0 else math.inf
    known = [None if is_unfamiliar(caption) else s.confidence for s in _sentences(caption)]
    weak = [(unknown if confidence is None else confidence) < threshold for confidence in known]
    return [NOT_CONFIDENT if w else s.text for s, w in zip(_sentences(caption), weak)]


def _sentences(caption: Any) -> list[Any]:
    return list(getattr(caption, "sentences", caption))


def is_unfamiliar(caption: Any) -> bool:
    """Return whether a caption is known to be of images unlike the training images."""
    return bool((getattr(caption, "novelty", None) or 0) > 1)


def stated(
    caption: Any, probabilities: dict[str, float] | None = None, show_unfamiliar: bool = False
) -> tuple[Any, dict[str, float] | None]:
    """Return what may be said of a study: its caption and findings' probabilities. Every front end goes by this."""
    # Of unfamiliar images no finding has a probability, as no sentence has a confidence, and the caption is empty
    # unless it is asked for (`show_unfamiliar`).
    if not is_unfamiliar(caption):
        return caption, probabilities
    if show_unfamiliar:
        return caption._replace(regions=None), None
    nothing: dict[str, Any] = {"text": "", "words": [], "sentences": [], "alternatives": []}
    return caption._replace(**nothing, attention=None, regions=None), None


def warn_if_unfamiliar(
    novelties: Iterable[float | None], stacklevel: int = 3, consequence: str = "their sentences have no confidence"
) -> bool:
    """Warn once, with their number, of studies whose novelty is above 1; return whether any is."""
    found = [(novelty or 0) > 1 for novelty in novelties]
    if any(found):
        which = f"the images of {sum(found)} of {len(found)} studies are unlike those this model was trained on"
        said = f"{which} (novelty above 1); what it says of them means nothing, and {consequence}"
        warnings.warn(said, UnfamiliarImageWarning, stacklevel)
    return any(found)


def sure_labels(caption: Any, threshold: float) -> dict[str, int | None]:
    """Label the sentences that `hedged` shows, as :func:`~xray_captioning.label_report` does."""
    # Where one is withheld, "No Finding" is None: that sentence may have named a finding.
    sentences = _sentences(caption)
    sure = [said for sentence, said in zip(sentences, hedged(caption, threshold)) if said == sentence.text]
    labels = label_report(" ".join(sure))
    return labels if len(sure) == len(sentences) else {**labels, NO_FINDING: None}
