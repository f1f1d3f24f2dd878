"""Images of a study in, region features and finding logits out."""

import math
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from xray_captioning.backend import compiled, keras, ops, registered, shapes_vary
from xray_captioning.bundles.bundle import find_bundle, read_bundle
from xray_captioning.config import Config
from xray_captioning.data.provenance import TrainedOn
from xray_captioning.encoders.backbones import Backbone, find_backbone
from xray_captioning.encoders.parts import checkpointed, lean
from xray_captioning.errors import ConfigError, MissingExtraError, in_one_line
from xray_captioning.files import downloading

# What to do where published weights cannot be had.
INSTEAD = "start from a file of weights (--weights FILE) or from nothing (--weights random)"


@registered
class Encoder(keras.Model):
    """A backbone shared by all views, with a linear classifier of findings on top (as CheXNet, arXiv:1711.05225).

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
        ``imagenet`` downloads the published weights: ImageNet's, and for ``clip`` CLIP's.
    network : dict, optional
        Of a Vision Transformer that is not as its name says, what its ``config.json`` has.

    Attributes
    ----------
    grid, channels
        Rows and columns of one view's regions, and the channels of each.
    trained_on : TrainedOn or None
        The studies it was trained on, where they are known; a decoder's tests leave them out.

    Raises
    ------
    ConfigError
        There is no such backbone, for images of this size or this pool, or no such weights, or no way to download them.
    MissingExtraError
        ``clip``, or the published weights of ``vit``, without keras-hub.
    """

    def __init__(
        self,
        name_of_backbone: str,
        size: int,
        pool: int = 1,
        findings: Any = (),
        weights: str = "random",
        network: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name_of_backbone, self.size, self.pool = name_of_backbone, size, pool
        self.findings, self.network = tuple(findings), dict(network or {})
        self.pooling = self.row.pooling
        if isinstance(findings, str):
            raise ConfigError(f"findings is {findings!r}, one text; give a list of names")
        if weights not in ("random", "imagenet"):
            raise ConfigError(f"weights are {weights!r}; give random or imagenet, or load a bundle: Encoder.load")
        self.backbone = (_new if weights == "random" else _published)(name_of_backbone, self.row, size)
        rows, columns, self.channels = self.backbone.output_shape[1:]
        if min(rows, columns) < pool:
            has = f"{rows}x{columns}; choose a smaller pool or larger images"
            raise ConfigError(f"model.pool is {pool} but the feature map of {name_of_backbone} at {size} px is {has}")
        self.grid = (rows // pool, columns // pool)
        self.pooling_layer = keras.layers.AveragePooling2D(pool, name="pool")
        self.classifier = keras.layers.Dense(max(len(self.findings), 1), name="classifier", dtype="float32")
        self.classifier.build((None, self.channels))
        self.trained_on: TrainedOn | None = None
        self.built = True

    @property
    def row(self) -> Backbone:
        return find_backbone(self.name_of_backbone, self.network)

    @classmethod
    def load(cls, name: str | Path) -> Self:
        """Load the encoder of a bundle: of its folder, or the name of a shipped one.

        Raises
        ------
        BundleError
            The bundle is missing, incomplete, altered or does not fit its own configuration.
        """
        from xray_captioning.encoders.saved import load_weights

        folder = find_bundle(name)
        about = read_bundle(folder, "encoder")
        config = Config.from_dict(about["config"], f"{folder}/captioner.json")
        model = config.model
        encoder = cls(model.encoder, config.image.size, model.pool, about["findings"], network=model.network)
        load_weights(encoder, folder / "encoder.weights.h5")
        encoder.trained_on = TrainedOn.load(folder)
        return encoder

    def get_config(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("name_of_backbone", "size", "pool", "network")}
        own |= {"findings": list(self.findings), "trained_on": self.trained_on and self.trained_on.to_dict()}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        values = dict(config)
        record = values.pop("trained_on", None)  # files of before have none
        encoder = cls(**values)
        encoder.trained_on = record and TrainedOn.from_dict(record)
        return encoder

    def encode(self, images: Any, training: bool | None = None, network: Any = None) -> Any:
        """Encode normalised images (batch, height, width, 3), by `network`, to (batch, rows, columns, channels)."""
        return self.pooling_layer((network or self.backbone)(images, training=training))

    def call(self, images: Any, training: bool | None = None, network: Any = None) -> Any:
        """Encode studies (batch, views, height, width, 3), 0 if absent: (batch, views * rows * columns, channels)."""
        views, maps = images.shape[1], self.encode(ops.reshape(images, (-1, *images.shape[2:])), training, network)
        return ops.reshape(maps, (-1, views * self.grid[0] * self.grid[1], self.channels))

    def region_mask(self, mask: Any) -> Any:
        """Return the mask (batch, views) for each region, (batch, views * rows * columns)."""
        return ops.repeat(mask, math.prod(self.grid), axis=1)

    def unfreeze_last_block(self) -> None:
        """Let the last block of the backbone be trained, and no other weight; none is a ConfigError. Batch
        normalisation keeps its statistics: others would be of few studies, and no frozen encoder's (Keras' guide to
        transfer learning).
        """
        block = self.row.last_block
        self.trainable = True  # or none of its layers could be
        self.classifier.trainable = False
        for layer in self.backbone.layers:
            layer.trainable = layer.name.startswith(block) and not isinstance(layer, keras.layers.BatchNormalization)
        if not self.backbone.trainable_variables:
            none = f"the encoder {self.name_of_backbone} has no last block to train"
            raise ConfigError(f"{none}; leave training.encoder_learning_rate at 0 or choose another encoder")

    def classify(self, features: Any, mask: Any) -> Any:
        """Return logits (batch, findings), float32, of features (batch, regions, channels), mask (batch, regions)."""
        features = ops.cast(features, "float32")
        if self.pooling == "evidence":
            return pooled_evidence(self.classifier(features), mask)
        return self.classifier(mean_region(features, mask))

    @cached_property
    def probabilities(self) -> Callable[..., Any]:
        """A compiled function of what :meth:`classify` takes: its sigmoid, in [0, 1]."""
        return compiled(lambda features, mask: ops.sigmoid(self.classify(features, mask)), self)


def mean_region(features: Any, mask: Any) -> Any:
    """Return the mean (batch, channels) of the regions (batch, regions, channels) in a mask."""
    weights = ops.cast(mask, "float32")
    weights = weights / ops.maximum(ops.sum(weights, axis=1, keepdims=True), 1.0)
    return ops.einsum("br,brc->bc", weights, features)


def pooled_evidence(logits: Any, mask: Any) -> Any:
    """Return the logarithm of the mean of exponentials (batch, findings) of logits (batch, regions, findings)."""
    # One region can show a finding. Regions that `mask` (batch, regions) leaves out count as 0.
    logits = ops.where(ops.cast(mask, "bool")[..., None], logits, -1e9)
    return ops.logsumexp(logits, axis=1) - math.log(logits.shape[1])


@registered
class FindingModel(keras.Model):
    """An encoder in training: images and mask in, logits out; an `upper` part of it gets kept outputs of the lower."""

    def __init__(
        self, encoder: Encoder, keep_statistics: bool = False, checkpointing: bool = False, upper: Any = None, **kw: Any
    ) -> None:
        super().__init__(**kw)
        self.encoder, self.keep_statistics, self.checkpointing = encoder, keep_statistics, checkpointing
        self._upper: Callable[[], Any] = lambda: upper  # not a part of the model, whose layers it has
        self._network, self.built = self._upper, True

    def get_config(self) -> dict[str, Any]:
        own = {"keep_statistics": self.keep_statistics, "checkpointing": self.checkpointing}
        return {**super().get_config(), **own, "encoder": keras.saving.serialize_keras_object(self.encoder)}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        return cls(**{**config, "encoder": keras.saving.deserialize_keras_object(config["encoder"])})

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile, and make the network that is trained: here once, and in no call of another model."""
        super().compile(*args, **kwargs)
        network, change = self._upper() or self.encoder.backbone, lean if shapes_vary(self) else lambda x: x
        network = checkpointed(network, change) if self.checkpointing else change(network)
        self._network = lambda: network

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        """Return logits (batch, findings) of images (batch, views, height, width, 3) and mask (batch, views)."""
        return self.encoder.classify(*self.seen(inputs, training))

    def seen(self, inputs: dict[str, Any], training: bool | None = None) -> tuple[Any, Any]:
        network = self._network() if training else self._upper()
        training = training and not self.keep_statistics
        features = self.encoder(inputs["images"], training=training, network=network)
        return features, self.encoder.region_mask(inputs["mask"])


def _new(name: str, row: Backbone, size: int, published: bool = False) -> Any:
    """Return what a builder, perhaps of another package, makes, if it is what encoders are."""
    try:
        model = row.build(size, published)
    except ValueError as error:
        raise ConfigError(f"{name} cannot be built for images of {size} px ({error})") from error
    shape = tuple(getattr(model, "output_shape", ()))
    if not isinstance(model, keras.Model) or len(shape) != 4 or None in shape[1:]:
        wanted = f"a keras.Model from (batch, {size}, {size}, 3) to (batch, rows, columns, channels)"
        raise ConfigError(f"encoder {name!r} built {type(model).__name__} with output {shape}; it must build {wanted}")
    return model


def _published(name: str, row: Backbone, size: int) -> Any:
    """Return a backbone with its published weights, for which nothing else is ever put in."""
    if not row.published:
        raise ConfigError(f"{name} has no published weights; {INSTEAD}")
    try:
        with downloading():
            return _new(name, row, size, published=True)
    except Exception as error:  # each of the hubs behind it has its own
        _new(name, row, size)  # what random weights would not mend is said first
        if isinstance(error, MissingExtraError):
            raise MissingExtraError(f"{error}, or {INSTEAD}") from error
        why = f"({in_one_line(error)}); connect to the network once, or {INSTEAD}"
        raise ConfigError(f"the published weights of {name} cannot be had {why}") from error
