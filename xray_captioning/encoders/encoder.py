"""Images of a study in, region features and finding logits out."""

from __future__ import annotations

import contextlib
import math
import sys
import warnings
from typing import Any

from xray_captioning.backend import keras, ops
from xray_captioning.encoders.backbones import find_backbone
from xray_captioning.errors import ConfigError


class Encoder(keras.Model):
    """A backbone shared by all views, with a linear classifier of findings on top.

    Parameters
    ----------
    name_of_backbone : str
        A key of :data:`xray_captioning.encoders.ENCODERS`.
    size : int
        Height and width of the images, in pixels.
    pool : int
        Side of an average pooling over the feature map; 1 is none.
    findings : sequence of str
        Names of the classifier's outputs; may be empty.
    weights : {"random", "imagenet"}
        ``imagenet`` downloads Keras' weights; where that fails the weights are random, with a
        warning.
    **kwargs
        Of :class:`keras.Model`.

    Attributes
    ----------
    grid : tuple of int
        Rows and columns of one view's regions.
    channels : int

    References
    ----------
    .. [1] Rajpurkar et al., CheXNet, arXiv:1711.05225 (DenseNet121, global average pooling, one
       sigmoid a finding).
    """

    def __init__(
        self,
        name_of_backbone: str,
        size: int,
        pool: int = 1,
        findings: Any = (),
        weights: str = "random",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name_of_backbone, self.size, self.pool = name_of_backbone, size, pool
        self.findings = tuple(findings)
        self.pooling = find_backbone(name_of_backbone).pooling
        self.backbone = _backbone(name_of_backbone, size, weights)
        rows, columns, self.channels = self.backbone.output_shape[1:]
        if min(rows, columns) < pool:
            raise ConfigError(
                f"model.pool is {pool} but the feature map of {name_of_backbone} at {size} px is "
                f"{rows}x{columns}; choose a smaller pool or larger images"
            )
        self.grid = (rows // pool, columns // pool)
        self.pooling_layer = keras.layers.AveragePooling2D(pool, name="pool")
        self.classifier = keras.layers.Dense(
            max(len(self.findings), 1), name="classifier", dtype="float32"
        )
        self.classifier.build((None, self.channels))
        self.built = True

    def encode(self, images: Any, training: bool | None = None) -> Any:
        """Return maps (batch, rows, columns, channels) of single images.

        Parameters
        ----------
        images : tensor, shape (batch, height, width, 3), float32
            Normalised as the model's configuration says.
        training : bool, optional
        """
        return self.pooling_layer(self.backbone(images, training=training))

    def call(self, images: Any, training: bool | None = None) -> Any:
        """Return features (batch, regions, channels), regions in the order view, row, column.

        Parameters
        ----------
        images : tensor, shape (batch, views, height, width, 3), float32
        training : bool, optional
        """
        views = images.shape[1]
        maps = self.encode(ops.reshape(images, (-1, *images.shape[2:])), training=training)
        return ops.reshape(maps, (-1, views * self.grid[0] * self.grid[1], self.channels))

    def classify(self, features: Any, mask: Any) -> Any:
        """Return one logit a finding.

        Parameters
        ----------
        features : tensor, shape (batch, regions, channels)
        mask : tensor, shape (batch, regions), bool
            False for regions of views the study does not have.

        Returns
        -------
        tensor, shape (batch, findings), float32
        """
        features = ops.cast(features, "float32")
        if self.pooling == "evidence":
            logits = ops.where(ops.cast(mask, "bool")[..., None], self.classifier(features), -1e9)
            return ops.logsumexp(logits, axis=1) - math.log(features.shape[1])
        weights = ops.cast(mask, "float32")
        weights = weights / ops.maximum(ops.sum(weights, axis=1, keepdims=True), 1.0)
        return self.classifier(ops.einsum("br,brc->bc", weights, features))


class FindingModel(keras.Model):
    """An encoder in training: images and mask in, finding logits out.

    Parameters
    ----------
    encoder : Encoder
    **kwargs
        Of :class:`keras.Model`.
    """

    def __init__(self, encoder: Encoder, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.encoder = encoder
        self.built = True

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        """Return logits (batch, findings).

        Parameters
        ----------
        inputs : dict
            ``images`` (batch, views, height, width, 3) and ``mask`` (batch, views).
        training : bool, optional
        """
        features = self.encoder(inputs["images"], training=training)
        regions = self.encoder.grid[0] * self.encoder.grid[1]
        mask = ops.repeat(inputs["mask"], regions, axis=1)
        return self.encoder.classify(features, mask)


def _backbone(name: str, size: int, weights: str) -> Any:
    backbone = find_backbone(name)
    if weights == "imagenet" and backbone.imagenet is not None:
        try:
            with contextlib.redirect_stdout(sys.stderr):  # Keras announces its download
                return backbone.imagenet(size)
        except Exception as error:
            warnings.warn(
                f"ImageNet weights for {name} could not be downloaded ({error}); the encoder "
                "starts from random weights",
                stacklevel=3,
            )
    return backbone.build(size)
