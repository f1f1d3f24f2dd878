"""Probabilities of findings from an encoder's own classifier."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from xray_captioning.backend import compiled, ops
from xray_captioning.config import Config
from xray_captioning.data.features import pad_rows, power_of_two
from xray_captioning.data.images import Image
from xray_captioning.encoders.encoder import Encoder
from xray_captioning.encoders.saved import encode_studies
from xray_captioning.errors import ConfigError

BATCH = 32  # studies


def finding_probabilities(encoder: Encoder, regions: Any, mask: Any) -> list[dict[str, float]]:
    """Return the probability of each finding, in [0, 1], from features.

    Parameters
    ----------
    encoder : Encoder
    regions : array, shape (studies, regions, channels)
    mask : array, shape (studies, regions), bool
        False for regions of views a study does not have.

    Returns
    -------
    list of dict
        For each study, the encoder's findings in their order.

    Raises
    ------
    ConfigError
        The encoder classifies no findings.
    """
    if not encoder.findings:
        raise ConfigError(
            "this encoder classifies no findings; use a bundle of train-encoder, or CheXNet's"
        )
    studies = len(mask)
    padded = (pad_rows(np.asarray(x), power_of_two(studies)) for x in (regions, mask))
    probabilities = ops.convert_to_numpy(encoder.probabilities(*padded))[:studies]
    return [dict(zip(encoder.findings, map(float, row))) for row in probabilities]


def classify_studies(
    encoder: Encoder, config: Config, studies: Sequence[Sequence[Image | None]]
) -> Iterator[dict[str, float]]:
    """Yield the probability of each finding, study by study, from images in their places.

    Raises
    ------
    ConfigError
        The encoder classifies no findings.
    ImageError
        An image cannot be read.
    """
    encode = compiled(encoder.encode, encoder)
    for start in range(0, len(studies), BATCH):
        features = encode_studies(encode, config, studies[start : start + BATCH])
        yield from finding_probabilities(encoder, *features)
