"""Networks from one image to a feature map, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from xray_captioning.backend import keras
from xray_captioning.errors import ConfigError

layers = keras.layers


class Backbone(NamedTuple):
    """How a named encoder is built and how its regions vote for a finding.

    Attributes
    ----------
    build : callable
        ``build(size) -> keras.Model`` from (batch, size, size, 3) to (batch, rows, columns,
        channels), float32.
    pooling : {"mean", "evidence"}
        How the finding classifier joins the regions of a study: CheXNet averages features;
        the small network adds the regions' evidence (log-sum-exp of their logits), which finds
        small things much sooner than an average and gives each finding a place.
    imagenet : callable or None
        Builds the same network with Keras' ImageNet weights, which are downloaded.
    """

    build: Callable[[int], Any]
    pooling: str
    imagenet: Callable[[int], Any] | None = None


def _densenet121(size: int, weights: str | None = None) -> Any:
    return keras.applications.DenseNet121(
        include_top=False, weights=weights, input_shape=(size, size, 3)
    )


def _phantom_cnn(size: int) -> Any:
    """Four halvings, two of them with a residual block; the map has 1/16 of the image's side."""
    image = layers.Input((size, size, 3))
    x = image[..., :1]  # radiographs are grey: the three channels are the same
    x = _convolution(_convolution(x, 16, stride=2), 32, stride=2)
    for channels in (48, 96):
        x = _convolution(x, channels, stride=2)
        x = layers.ReLU()(layers.Add()([x, _convolution(x, channels, activation=False)]))
    return keras.Model(image, x, name="phantom_cnn")


def _convolution(x: Any, channels: int, stride: int = 1, activation: bool = True) -> Any:
    x = layers.Conv2D(channels, 3, stride, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.9)(x)
    return layers.ReLU()(x) if activation else x


ENCODERS = {
    "chexnet": Backbone(_densenet121, "mean", lambda size: _densenet121(size, "imagenet")),
    "phantom_cnn": Backbone(_phantom_cnn, "evidence"),
}


def find_backbone(name: str) -> Backbone:
    """Return the backbone of that name.

    Raises
    ------
    ConfigError
        There is no encoder of that name.
    """
    if name not in ENCODERS:
        raise ConfigError(f"unknown encoder {name!r}; encoders are {', '.join(ENCODERS)}")
    return ENCODERS[name]
