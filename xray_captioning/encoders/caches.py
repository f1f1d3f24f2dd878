"""Pixels and features of image files, computed once and kept on disk."""

from pathlib import Path

import numpy as np

from xray_captioning.backend import compiled
from xray_captioning.config import Config
from xray_captioning.data.datasets import Images
from xray_captioning.data.features import Array, ArrayCache
from xray_captioning.data.images import read_images
from xray_captioning.encoders import Encoder
from xray_captioning.encoders.saved import encode_images, weights_digest


def cached_pixels(images: Images, config: Config, folder: str | Path | None) -> ArrayCache:
    """Return grey pixels (size, size), uint8, of the images of studies, read where missing.

    They are kept in `folder`, the usual one where it is None.
    """
    image = config.image
    settings = {"pixels": "grey", "version": 2, "size": image.size, "resize": image.resize}
    cache = ArrayCache(folder, settings)
    cache.fill(
        _paths(images),
        lambda paths: _grey(read_images(paths, image.size, image.resize)),
        "read images",
    )
    return cache


def cached_features(
    images: Images, encoder: Encoder, config: Config, folder: str | Path | None
) -> ArrayCache:
    """Return feature maps (rows, columns, channels), encoded where missing.

    The encoder's weights are part of the name of the cache, which is kept in `folder`, the usual
    one where it is None; ``config.training.cache_dtype`` is what the maps are kept in.
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


def _grey(images: Array) -> Array:
    return np.rint(images.mean(axis=-1) * 255).astype("uint8")
