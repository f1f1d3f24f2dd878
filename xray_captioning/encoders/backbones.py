"""Networks from one image to a feature map, by name."""

from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from xray_captioning.backend import keras
from xray_captioning.encoders import torch_networks as published
from xray_captioning.encoders import vision_transformers
from xray_captioning.errors import ConfigError
from xray_captioning.files import read_toml
from xray_captioning.hub.fetch import registered_name, registry
from xray_captioning.plugins import find_model, register_model

layers = keras.layers


class Backbone(NamedTuple):
    """How a named encoder is built (``build`` as :func:`register_encoder` takes it), and what its users must know."""

    # Regions are joined for the finding classifier by their mean, as CheXNet does, or by adding their evidence
    # (log-sum-exp of their logits), which finds small things much sooner and gives each finding a place.

    build: Callable[[int, bool], Any]
    pooling: str  # "mean" or "evidence"
    last_block: tuple[str, ...]  # beginnings of the names of its layers, which may be fine-tuned
    normalisation: str | None = None  # of data.images.normalise, for the published weights
    read: Callable[[Any, Path], None] | None = None  # fills it from a file as it was published
    size: int = 224  # of the images it was trained on, in pixels
    resize: str = "area"  # of data.images.read_images

    @property
    def published(self) -> bool:
        return self.normalisation is not None


def _application(name: str, size: int, published: bool) -> Any:
    """Build a network of `keras.applications`, whose weights are ImageNet's."""
    network, weights = getattr(keras.applications, name), "imagenet" if published else None
    options = {"include_preprocessing": False} if name.startswith("Efficient") else {}
    return network(include_top=False, weights=weights, input_shape=(size, size, 3), **options)


def _phantom_cnn(size: int, published: bool) -> Any:
    """Four halvings, two of them with a residual block; the map has 1/16 of the image's side."""
    image = layers.Input((size, size, 3))
    x = image[..., :1]  # radiographs are grey: the three channels are the same
    x = _convolution(_convolution(x, 16, "stem1", stride=2), 32, "stem2", stride=2)
    for channels, block in ((48, "block1"), (96, "block2")):
        x = _convolution(x, channels, f"{block}_1", stride=2)
        x = layers.ReLU()(layers.Add()([x, _convolution(x, channels, f"{block}_2", activation=False)]))
    return keras.Model(image, x, name="phantom_cnn")


def _vit_tiny(size: int, published: bool) -> Any:
    """Transformer blocks over a few convolutions (arXiv:2010.11929, "hybrid architecture"; arXiv:2106.14881)."""
    # From some thousand images a Transformer does not learn to see edges.
    image = layers.Input((size, size, 3))
    x = image[..., :1]
    for number, channels in enumerate((16, 32, 64, 128), 1):
        x = _convolution(x, channels, f"stem{number}", stride=2)
    return keras.Model(image, vision_transformers.transformed(x, blocks=2, heads=4), name="vit_tiny")


def _convolution(x: Any, channels: int, name: str, stride: int = 1, activation: bool = True) -> Any:
    x = layers.Conv2D(channels, 3, stride, padding="same", use_bias=False, name=f"{name}_convolution")(x)
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return layers.ReLU()(x) if activation else x


_builder = cache(partial)  # one a network: rows of the same are equal
ENCODERS = {
    name: Backbone(_builder(_application, one["network"]), "mean", tuple(one["last_block"]), one["normalisation"])
    for name, one in read_toml(__file__, "layouts.toml")["applications"].items()
}
# A last block is the last Transformer block or another, with what follows it.
ENCODERS |= {
    "efficientnet_lite0": Backbone(
        published.efficientnet_lite0, "mean", ("blocks.15.", "conv_head", "bn1"), "lite", published.load_lite0
    ),
    "vit": Backbone(vision_transformers.vit, "mean", ("block12_", "norm"), "signed"),
    "vit_tiny": Backbone(_vit_tiny, "evidence", ("block2_", "norm")),
    "clip": Backbone(vision_transformers.clip, "mean", ("encoder_block_11", "layer_norm"), "clip"),
    "phantom_cnn": Backbone(_phantom_cnn, "evidence", ("block2_",)),
}


for _name, _one in registry().items():
    if _one.tower:
        _block: tuple[str, ...] = vision_transformers.last_block(vision_transformers.tower_of(_one.tower, _name))
    elif _one.network in published.NETWORKS:
        _block = published.NETWORKS[_one.network].last_block
    else:
        continue
    _build, _load = partial(published.build, _name), partial(published.load, _name)
    ENCODERS[_name] = Backbone(_build, "mean", _block, _one.normalisation, _load, _one.size, _one.resize)


def find_backbone(name: str, network: Mapping[str, Any] | None = None) -> Backbone:
    """Return the backbone of that name, or of a network (``model.network``), or a ConfigError."""
    if network:
        tower = vision_transformers.tower_of(network, f"model.network of {name}")
        last, read = vision_transformers.last_block(tower), partial(vision_transformers.load_tower, tower, what=name)
        return Backbone(lambda size, published: vision_transformers.build_tower(tower, size), "mean", last, read=read)
    return find_model(ENCODERS, "encoder", registered_name(name))


def register_encoder(
    name: str,
    build: Callable[[int, bool], Any],
    *,
    normalisation: str | None = None,
    size: int = 224,
    resize: str = "area",
    pooling: str = "mean",
    last_block: tuple[str, ...] = (),
    read: Callable[[Any, Path], None] | None = None,
) -> None:
    """Make an encoder of one's own known by a name; docs/own_models.md has an example.

    Parameters
    ----------
    name : str
        What ``model.encoder`` and ``--encoder`` call it.
    build : callable
        ``build(size, published)`` returns a built keras.Model from images (batch, size, size, 3), float32, to (batch,
        rows, columns, channels), float32; ``published``, with its published weights, only where a `normalisation` is.
    normalisation, size, resize
        The images that the published weights expect, as fields of :class:`~xray_captioning.config.ImageConfig`.
    pooling : {"mean", "evidence"}
        How a study's regions are joined to classify findings.
    last_block : tuple of str
        Beginnings of the names of its layers that may be fine-tuned.
    read : callable, optional
        ``read(model, path)`` fills the model from a file or folder of weights (``--weights``).

    Raises
    ------
    ConfigError
        Another encoder has this name, or there is no such pooling.
    """
    if isinstance(build, keras.Model) or not callable(build) or isinstance(last_block, str):
        raise ConfigError(f"encoder {name!r}: `build` is a function that makes a network, `last_block` a tuple")
    if pooling not in ("mean", "evidence"):
        raise ConfigError(f"encoder {name!r}: pooling is {pooling!r}; choose mean or evidence")
    row = Backbone(build, pooling, tuple(last_block), normalisation, read, size, resize)
    register_model(ENCODERS, "encoder", name, row, build.__module__)
