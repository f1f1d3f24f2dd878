"""Features of images as arrays in a file, for other programs and for later."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xray_captioning import __version__
from xray_captioning.backend import compiled
from xray_captioning.config import Config
from xray_captioning.data.images import Image
from xray_captioning.encoders.backbones import find_backbone
from xray_captioning.encoders.onnx_files import OnnxEncoder
from xray_captioning.encoders.saved import encode_studies, new_encoder, weights_digest, weights_of
from xray_captioning.errors import ConfigError
from xray_captioning.files import atomic_path, sha256_file


class EncodedStudies(NamedTuple):
    """Regions of studies, and what made them.

    `regions` are (studies, views, rows, columns, channels), float32; `views` are (studies, views),
    False where a study has no such image and its regions are zero.
    """

    regions: NDArray[np.float32]
    views: NDArray[np.bool_]
    about: dict[str, Any]

    def save(self, path: Path, ids: Sequence[str]) -> None:
        """Write an ``.npz`` file with the ids of the studies and, as JSON, what made it."""
        with atomic_path(path) as aside, aside.open("wb") as file:
            about = json.dumps(self.about)
            np.savez(file, regions=self.regions, views=self.views, ids=list(ids), about=about)


def encoder_config(name: str, views: int, changes: dict[str, Any] | None = None) -> Config:
    """Return a configuration in which images are what an encoder's published weights expect.

    `changes` are of its fields, by dotted name; of an ONNX file nothing is known.
    """
    image: dict[str, Any] = {"views": views}
    if not name.endswith(".onnx"):
        row = find_backbone(name)
        image |= {"size": row.size, "resize": row.resize}
        image |= {"normalisation": row.normalisation} if row.normalisation else {}
    config = Config.from_dict({"name": name, "image": image, "model": {"encoder": name}}, name)
    return config.replace(changes or {})


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
    config = encoder_config(name, views, changes)
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
    regions, mask = encode_studies(encode, config, placed)
    shape = (len(studies), views, *encoder.grid)
    about = {
        "encoder": name,
        "layer": layer,
        "weights_sha256": digest,
        "image": config.to_dict()["image"],
        "xray_captioning": __version__,
    }
    shown = mask.reshape(shape)[:, :, 0, 0]
    return EncodedStudies(regions.reshape(*shape, encoder.channels), shown, about)
