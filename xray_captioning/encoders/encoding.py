"""Images through an encoder: features kept on disk or in a file, and probabilities of findings."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xray_captioning import __version__
from xray_captioning.backend import compiled, seeded
from xray_captioning.bundles.bundle import FEATURES, FEATURES_ONLY, find_bundle, read_config
from xray_captioning.config import Config
from xray_captioning.data import datasets, features, provenance, targets
from xray_captioning.data.datasets import Images, Inputs
from xray_captioning.data.encoding import as_array, encode_images, encode_studies, finding_probabilities
from xray_captioning.data.feature_files import Made, StudyFeatures
from xray_captioning.data.features import Array, ArrayCache, Compute, Regions
from xray_captioning.data.images import Image, read_images
from xray_captioning.data.studies import Studies
from xray_captioning.encoders import onnx_files, saved
from xray_captioning.encoders.encoder import Encoder
from xray_captioning.encoders.saved import PIXELS, adopted, is_network, new_encoder, starting_encoder, weights_digest
from xray_captioning.errors import ConfigError, DataError, XrayCaptioningError
from xray_captioning.files import sha256_file

BATCH = 32  # studies
Folder = str | Path | None  # of a cache; None is the usual one
Placed = Sequence[Sequence[Image | None]]  # the images of studies, each in its place


def cached_pixels(images: Images, config: Config, folder: Folder) -> ArrayCache:
    """Return grey pixels (size, size), uint8, of `folder` or the usual one, read where missing."""
    image = config.image
    settings = {"pixels": "grey", "version": 2, "size": image.size, "resize": image.resize}

    def grey(paths: Sequence[str]) -> Array:
        pixels = read_images(paths, image.size, image.resize, False)
        return np.rint(pixels.mean(axis=-1).clip(0, 1) * 255).astype("uint8")

    return _filled(ArrayCache(folder, settings), images, grey, "read images")


def cached_features(images: Images, encoder: Encoder, config: Config, folder: Folder, spread: Any = None) -> ArrayCache:
    """Return feature maps (rows, columns, channels), kept by the encoder's weights; `spread` is other processes."""
    cache, compute = _feature_cache(encoder, config, folder)
    return _filled(cache, images, compute, "encode images", spread)


def _feature_cache(encoder: Encoder, config: Config, folder: Folder) -> tuple[ArrayCache, Compute]:
    # The version is of the code that reads and encodes images.
    settings = {"version": 2, "encoder": encoder.name_of_backbone, "weights": weights_digest(encoder)}
    settings |= {"pool": encoder.pool, **{name: getattr(config.image, name) for name in PIXELS}}
    encode = compiled(encoder.encode, encoder)
    return ArrayCache(folder, settings, config.training.cache_dtype), lambda paths: encode_images(encode, config, paths)


def kept_inputs(
    images: Images, pixels: ArrayCache, lower: Any, config: Config, folder: Folder
) -> Callable[..., Inputs]:
    """Keep what the lower part of a network makes of images; return what makes inputs of some of them."""
    image, run = config.image, compiled(lambda x: lower(x), lower)
    settings = {"encoder": config.model.encoder, "before": config.encoder_training.trainable_from}
    settings |= {"weights": weights_digest(lower), **{name: getattr(image, name) for name in PIXELS}}

    def outputs(shown: Array) -> Array:  # of grey pixels
        return as_array(run(datasets.network_pixels(shown, None, image.normalisation)))

    cache = ArrayCache(folder, settings, config.training.cache_dtype)
    _filled(cache, images, lambda some: outputs(np.stack([pixels[path] for path in some])), "frozen layers")
    blank = outputs(np.zeros((1, image.size, image.size), "uint8"))[0]
    return lambda some: datasets.view_inputs(cache, some, image.views, lambda maps, _: maps.astype("float32"), blank)


def _filled(cache: ArrayCache, images: Images, compute: Compute, what: str, spread: Any = None) -> ArrayCache:
    cache.fill([path for study in images for path in study if path is not None], compute, what, spread)
    return cache


def study_regions(
    studies: Studies, encoder: Encoder, config: Config, cache: Folder, given: StudyFeatures | None, spread: Any = None
) -> Regions:
    """Return what lays out the regions of studies: given ones, or those that are kept of images."""
    if given is not None:
        places, pool = given.of(studies["study_id"]), config.model.pool
        return lambda numbers: given.read(places[numbers], pool)
    images = targets.study_images(studies, config)
    return features.image_regions(cached_features(images, encoder, config, cache, spread), images, config.image.views)


def classify_studies(encoder: Encoder, config: Config, studies: Placed) -> Iterator[dict[str, float]]:
    """Yield what `finding_probabilities` returns, study by study, from images in their places."""
    encode = compiled(encoder.encode, encoder)
    for start in range(0, len(studies), BATCH):
        yield from finding_probabilities(encoder, *encode_studies(encode, config, studies[start : start + BATCH]))


def batch_encoder(views: int, *asked: Any) -> Callable[[list[Any]], list[dict[str, Array]]]:
    """Return what encodes a batch of studies, with an encoder of its own: for another process."""
    encode, _ = study_encoder(views, *asked)
    return lambda studies: [encode(studies)]


def batch_maps(folder: Path, cache: Path | None) -> Callable[[list[str]], list[int]]:
    """Return what encodes images with a bundle's encoder, keeps features and counts them: for another process."""
    config, encoder = read_config(folder, "captioner"), Encoder.load(folder)
    kept, compute = _feature_cache(encoder, config, cache)
    return lambda paths: kept.write(paths, compute)


def lost_images(images: Any) -> Any:
    """Refuse images that ended every process that read them."""
    raise DataError(f"{images}: the process that read it ended twice; there may be too little memory")


def encoder_config(name: str, views: int, changes: dict[str, Any] | None = None, weights: str | None = None) -> Config:
    """Return a configuration whose images are what an encoder's weights expect; `changes` are by dotted name."""
    given = {"name": name, "image.views": views, "model.encoder": name, **(changes or {})}
    if weights is not None and not name.endswith(".onnx") and not is_network(weights):
        own = read_config(find_bundle(weights), "encoder").image
        given = {f"image.{field}": getattr(own, field) for field in PIXELS} | given
    config = Config().replace(given)
    return config if name.endswith(".onnx") else adopted(config, weights, given)


def study_encoder(
    views: int, name: str, weights: str | None = None, changes: dict[str, Any] | None = None, layer: str | None = None
) -> tuple[Callable[[Placed], dict[str, Array]], dict[str, Any]]:
    """Return what encodes a batch of studies of so many views, each in its place, and what is to be said of it."""
    # Encoded are ``regions`` (studies, views, rows, columns, channels), float32, zero where ``views`` (studies, views)
    # is False, and what a published classifier says of each view. An ONNX file has weights of its own, and perhaps
    # several values: one is the `layer`.
    onnx = name.endswith(".onnx")
    if (weights if onnx else layer) is not None:
        raise ConfigError(f"{name}: --layer is for ONNX files, and --weights for all others")
    config = encoder_config(name, views, changes, weights)
    encoder: Any
    if onnx:
        size = config.image.size if changes and "image.size" in changes else None
        encoder = onnx_files.OnnxEncoder(Path(name), size, layer)
        config = config.replace({"image.size": encoder.size})
        encode, digest = encoder.encode, sha256_file(Path(name))
    else:
        with seeded(0):  # the same random ones in every process
            encoder = new_encoder(config, saved.weights_of(config, weights))
        encode, digest = compiled(encoder.encode, encoder), weights_digest(encoder.backbone)
    about: dict[str, Any] = {"encoder": name, "layer": layer, "weights": weights, "weights_sha256": digest}
    about |= {"image": {n: getattr(config.image, n) for n in PIXELS}, "xray_captioning": __version__}
    if not onnx and encoder.trained_on is not None:
        about["trained_on"] = encoder.trained_on.to_dict()

    classify, outputs = saved.classifier_of(name, weights, encoder.channels)
    about |= {"outputs": outputs} if outputs else {}

    def encoded(studies: Placed) -> dict[str, Array]:
        regions, mask = encode_studies(encode, config, [[*study, *[None] * (views - len(study))] for study in studies])
        maps = regions.reshape(len(mask), views, *encoder.grid, encoder.channels)
        return {"regions": maps, "views": mask.reshape(*maps.shape[:-1])[:, :, 0, 0], **classify(maps)}

    return encoded, about


# --- features that were computed before: which encoder made them ---


class GivenFeatures:
    """In an encoder's place where captions are written from features: it has their sizes only."""

    findings: tuple[str, ...] = ()
    weights: tuple[Any, ...] = ()

    def __init__(self, grid: Any, channels: int, trained_on: provenance.TrainedOn | None = None) -> None:
        self.grid, self.channels, self.trained_on = tuple(grid), channels, trained_on

    def encode(self, images: Any, training: bool | None = None) -> Any:
        raise ConfigError(f"this captioner was trained on features and {FEATURES_ONLY}")


def features_encoder(
    config: Config, given: StudyFeatures, encoder: Any = None, weights: str | None = None
) -> tuple[Config, Any]:
    """Return configuration and encoder of a run on features: the one they name, or that is asked for."""
    # If there is none, or the one they name cannot be had, the captioner will see no images.
    (views, rows, columns), pool = given.grid, config.model.pool
    for name in ("text.view_prefix", "training.encoder_learning_rate"):
        if config.flat()[name]:
            raise ConfigError(f"{name} needs images; leave it at its default beside features")
    pool = pool if min(rows, columns) >= pool else 1
    config = config.replace({"image.views": views, "image.repeat_single_view": False, "model.pool": pool})
    try:
        config, found = _encoder(config, given.about, encoder, weights)
    except XrayCaptioningError:
        if encoder is not None or weights is not None:
            raise
        config = config.replace({"model.encoder": FEATURES})
        found = GivenFeatures((rows // pool, columns // pool), given.channels, _record(given))
    check_fits(given, config, found)
    return config, found


def _record(given: StudyFeatures) -> provenance.TrainedOn | None:
    try:
        return provenance.TrainedOn.from_dict(given.about.trained_on) if given.about.trained_on else None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{given.source}: its `about` is damaged; write it again") from error


def _encoder(config: Config, made: Made, encoder: Any, weights: str | None) -> tuple[Config, Any]:
    """Return the encoder that was asked for or that features name, and how it sees images."""
    if encoder is None and weights is None:
        if not made.weights_sha256 or made.weights == "random":
            raise ConfigError("it is not known which weights made the features")
        bundle = made.weights is not None and not is_network(made.weights)
        encoder, weights = (made.weights, None) if bundle else (None, made.weights)
    changes: dict[str, Any] = {f"image.{name}": made.image[name] for name in PIXELS if name in made.image}
    changes |= {"model.encoder": made.encoder} if made.encoder else {}
    if isinstance(encoder, Encoder):
        changes |= {"model.encoder": encoder.name_of_backbone, "image.size": encoder.size}
    elif encoder is not None:
        own = read_config(find_bundle(encoder), "encoder")
        changes |= {f"image.{name}": getattr(own.image, name) for name in PIXELS}
        changes |= {"model.encoder": own.model.encoder, "model.network": own.model.network}
    config = config.replace(changes)
    config = adopted(config, weights, changes) if weights is not None else config
    found = starting_encoder(config, encoder, weights)
    if made.weights_sha256 not in ("", weights_digest(found.backbone)):
        raise ConfigError("the features were made with other weights than this encoder's")
    return config, found


def check_fits(given: StudyFeatures, config: Config, encoder: Any, about: Mapping[str, Any] = {}) -> None:
    """Refuse features of other sizes than an encoder's, or of another one than a bundle's `about` names."""
    (views, *sides), pool = given.grid, config.model.pool
    has = (views, *(side // pool for side in sides), given.channels)
    needs = (config.image.views, *encoder.grid, encoder.channels)
    if has != needs:
        shapes = " (views, rows, columns, channels), but ".join(" x ".join(map(str, shape)) for shape in (has, needs))
        raise ConfigError(f"{given.source}: a study is {shapes} are needed; give features of the same encoder")
    known = about.get(FEATURES, {}).get("weights_sha256"), given.about.weights_sha256
    if all(known) and known[0] != known[1]:
        what = "another encoder, or other weights, than the features that this captioner was trained on"
        raise ConfigError(f"{given.source}: is of {what}; give features of the same")


def made_by(given: StudyFeatures) -> dict[str, Any]:
    """Return what a bundle keeps of what made its features."""
    return {name: getattr(given.about, name) for name in ("encoder", "layer", "weights_sha256", "image")}
