"""What a model says of a study: the caption it writes, and the findings its encoder sees."""

from __future__ import annotations

from itertools import repeat
from typing import NamedTuple

from xray_captioning.captioner.caption import Caption
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.decoders import Features
from xray_captioning.encoders.classification import finding_probabilities


class Prediction(NamedTuple):
    """What the model predicts for one study."""

    caption: Caption
    probabilities: dict[str, float] | None  # of findings, in [0, 1]; None without a classifier


def predict(
    captioner: Captioner, features: Features, beam_size: int | None = None
) -> list[Prediction]:
    """Return what a captioner says of studies whose features are known; nothing is warned of."""
    captions = captioner.write_captions(features, beam_size)
    classifies = bool(captioner.encoder.findings)
    found = finding_probabilities(captioner.encoder, *features) if classifies else repeat(None)
    return list(map(Prediction, captions, found))
