"""Images through an encoder, whatever runs it, and probabilities of findings."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from xray_captioning.config import Config
from xray_captioning.data.features import BATCH, DECODED, Array, map_batches, pad_rows, power_of_two, stack_features
from xray_captioning.data.images import Image, normalise, read_images
from xray_captioning.data.studies import repeat_first
from xray_captioning.errors import ConfigError
from xray_captioning.search.loop import array_namespace


def as_array(found: Any) -> Array:
    """Return a tensor, or an array, as an array."""
    return np.asarray(array_namespace(found).convert_to_numpy(found))


def encode_images(encode: Any, config: Config, images: Sequence[Image], batch: int | None = None) -> Array:
    """Return features (images, rows, columns, channels), float32, a few small batches at a time."""
    # `encode` is an encoder's, compiled or not; the configuration's image part says how pixels become its input.
    # A batch of fewer images is padded to a power of two, unless a size of `batch` is given.
    image = config.image

    def maps(part: list[Image]) -> Array:
        pixels = read_images(part, image.size, image.resize, len(images) <= size)
        padded = pad_rows(normalise(pixels, image.normalisation), len(part) if batch else power_of_two(len(part)))
        return as_array(encode(padded))[: len(part)]

    size = batch or (DECODED if all(isinstance(source, np.ndarray) for source in images) else BATCH)
    return np.concatenate(list(map_batches(maps, images, size)))


def encode_studies(
    encode: Any, config: Config, studies: Sequence[Sequence[Image | None]], batch: int | None = None
) -> tuple[Array, Array]:
    """Encode the images of studies in their places, each once, None where one is missing."""
    # Returned are regions (studies, views * rows * columns, channels), float32, and their mask, bool.
    views, repeat = config.image.views, config.image.repeat_single_view
    placed: list[Sequence[Any]] = [repeat_first(study, views) if repeat else list(study) for study in studies]
    images = {_key(image): image for study in placed for image in study if image is not None}
    maps = dict(zip(images, encode_images(encode, config, list(images.values()), batch)))
    return stack_features([[maps.get(_key(image)) for image in study] for study in placed], views)


def _key(image: Any) -> str | int:
    return image if isinstance(image, str) else id(image)


def finding_probabilities(encoder: Any, regions: Any, mask: Any) -> list[dict[str, float]]:
    """Return each study's probabilities, in [0, 1], of the encoder's findings in their order."""
    # Regions are (studies, regions, channels), their mask is False for views that a study does not have.
    if not encoder.findings:
        raise ConfigError("this encoder classifies no findings; use a bundle of train-encoder, or CheXNet's")
    studies = len(mask)
    padded = (pad_rows(np.asarray(x), power_of_two(studies)) for x in (regions, mask))
    return [dict(zip(encoder.findings, map(float, row))) for row in as_array(encoder.probabilities(*padded))[:studies]]
