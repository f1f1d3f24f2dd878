"""Images through an encoder: features kept on disk or in a file, and probabilities of findings."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from xray_captioning import __version__
from xray_captioning.backend import compiled
from xray_captioning.bundles.bundle import find_bundle, read_config
from xray_captioning.config import Config
from xray_captioning.data import features
from xray_captioning.data.datasets import Images
from xray_captioning.data.encoding import encode_images, encode_studies, finding_probabilities
from xray_captioning.data.feature_files import StudyFeatures
from xray_captioning.data.features import Array, ArrayCache, Regions
from xray_captioning.data.images import Image, read_images
from xray_captioning.data.studies import Studies
from xray_captioning.data.targets import study_images
from xray_captioning.encoders.encoder import Encoder
from xray_captioning.encoders.folders import adopted
from xray_captioning.encoders.onnx_files import OnnxEncoder
from xray_captioning.encoders.saved import classifier_of, is_network, new_encoder, weights_digest, weights_of
from xray_captioning.errors import ConfigError
from xray_captioning.files import sha256_file

BATCH = 32  # studies
PIXELS = ("size", "resize", "normalisation")  # of a configuration: what an encoder is shown


def cached_pixels(images: Images, config: Config, folder: str | Path | None) -> ArrayCache:
    """Return grey pixels (size, size), uint8, of `folder` or the usual one, read where missing."""
    image = config.image
    settings = {"pixels": "grey", "version": 2, "size": image.size, "resize": image.resize}

    def grey(paths: Sequence[str]) -> Array:
        pixels = read_images(paths, image.size, image.resize)
        return np.rint(pixels.mean(axis=-1).clip(0, 1) * 255).astype("uint8")

    cache = ArrayCache(folder, settings)
    cache.fill(_paths(images), grey, "read images")
    return cache


def cached_features(images: Images, encoder: Encoder, config: Config, folder: str | Path | None) -> ArrayCache:
    """Return feature maps (rows, columns, channels), kept likewise and encoded where missing.
    The encoder's weights are part of the cache's name; ``config.training.cache_dtype`` its dtype.
    """
    settings = {
        "version": 2,  # of the code that reads and encodes images
        "encoder": encoder.name_of_backbone,
        "weights": weights_digest(encoder),
        "pool": encoder.pool,
        "size": config.image.size,
        "resize": config.image.resize,
        "normalisation": config.image.normalisation,
    }
    cache = ArrayCache(folder, settings, config.training.cache_dtype)
    encode = compiled(encoder.encode, encoder)
    cache.fill(_paths(images), lambda some: encode_images(encode, config, some), "encode images")
    return cache


def _paths(images: Images) -> list[str]:
    return [path for study in images for path in study if path is not None]


def study_regions(
    studies: Studies, encoder: Encoder, config: Config, cache: str | Path | None, given: StudyFeatures | None = None
) -> Regions:
    """Return what lays out the regions of studies: given ones, or those that are kept of images."""
    if given is not None:
        places, pool = given.of(studies["study_id"]), config.model.pool
        return lambda numbers: given.read(places[numbers], pool)
    images = study_images(studies, config)
    maps = cached_features(images, encoder, config, cache)
    return features.image_regions(maps, images, config.image.views)


def classify_studies(
    encoder: Encoder, config: Config, studies: Sequence[Sequence[Image | None]]
) -> Iterator[dict[str, float]]:
    """Yield what `finding_probabilities` returns, study by study, from images in their places."""
    encode = compiled(encoder.encode, encoder)
    for start in range(0, len(studies), BATCH):
        encoded = encode_studies(encode, config, studies[start : start + BATCH])
        yield from finding_probabilities(encoder, *encoded)


@dataclass
class EncodedStudies:
    """Features of studies, which are encoded when they are asked for, and what makes them."""

    batches: Callable[[], Iterator[dict[str, Array]]]  # of arrays by name, a row a study
    about: dict[str, Any]  # JSON values

    @cached_property
    def _whole(self) -> dict[str, Array]:
        parts = list(self.batches())
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    @property
    def regions(self) -> Array:
        """Regions (studies, views, rows, columns, channels), float32."""
        return self._whole["regions"]

    @property
    def views(self) -> Array:
        """Views (studies, views), False where a study has no such image: its regions are zero."""
        return self._whole["views"]

    @property
    def outputs(self) -> dict[str, Array]:
        """What a published classifier says of each view, by name; empty without one."""
        return {n: a for n, a in self._whole.items() if n not in ("regions", "views")}


def encoder_config(name: str, views: int, changes: dict[str, Any] | None = None, weights: str | None = None) -> Config:
    """Return a configuration in which images are what an encoder's weights expect.

    These are a bundle's, or else the published ones. `changes` are of its fields, by dotted name;
    of an ONNX file nothing is known.
    """
    given = {"name": name, "image.views": views, "model.encoder": name, **(changes or {})}
    if weights is not None and not name.endswith(".onnx") and not is_network(weights):
        own = read_config(find_bundle(weights), "encoder").image
        given = {f"image.{field}": getattr(own, field) for field in PIXELS} | given
    config = Config().replace(given)
    return config if name.endswith(".onnx") else adopted(config, weights, given)


def encode_files(
    studies: Sequence[Sequence[Image | None]],
    name: str,
    weights: str | None = None,
    changes: dict[str, Any] | None = None,
    layer: str | None = None,
) -> EncodedStudies:
    """Encode the images of studies, each in their places, None where one is missing.

    `weights` are as :func:`~xray_captioning.encoders.saved.new_encoder` takes them, by default the
    published ones, if there are any; `changes` are of :func:`encoder_config`. An ONNX file has its
    own weights, and may have several values to choose one of as the `layer`.
    """
    onnx = name.endswith(".onnx")
    if (weights if onnx else layer) is not None:
        raise ConfigError(f"{name}: --layer is for ONNX files, and --weights for all others")
    views = max(len(study) for study in studies)
    config = encoder_config(name, views, changes, weights)
    encoder: Any
    if onnx:
        size = config.image.size if changes and "image.size" in changes else None
        encoder = OnnxEncoder(Path(name), size, layer)
        config = config.replace({"image.size": encoder.size})
        encode, digest = encoder.encode, sha256_file(Path(name))
    else:
        encoder = new_encoder(config, weights_of(config, weights))
        encode, digest = compiled(encoder.encode, encoder), weights_digest(encoder.backbone)
    placed = [[*study, *[None] * (views - len(study))] for study in studies]
    about: dict[str, Any] = {
        "encoder": name,
        "layer": layer,
        "weights": weights,
        "weights_sha256": digest,
        "image": {field: getattr(config.image, field) for field in PIXELS},
        "xray_captioning": __version__,
    }
    if not onnx and encoder.trained_on is not None:
        about["trained_on"] = encoder.trained_on.to_dict()

    classify, outputs = classifier_of(name, weights, encoder.channels)
    if outputs:
        about["outputs"] = outputs

    def batches() -> Iterator[dict[str, Array]]:
        for start in range(0, len(placed), BATCH):
            regions, mask = encode_studies(encode, config, placed[start : start + BATCH])
            maps = regions.reshape(len(mask), views, *encoder.grid, encoder.channels)
            shown = mask.reshape(*maps.shape[:-1])[:, :, 0, 0]
            yield {"regions": maps, "views": shown, **classify(maps)}

    return EncodedStudies(batches, about)
