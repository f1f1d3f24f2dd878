"""Where an encoder's weights come from, and bundles of encoders."""

import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xray_captioning.backend import ops
from xray_captioning.bundles.bundle import (
    FEATURES,
    FORMAT,
    PARTS,
    find_bundle,
    model_card,
    read_bundle,
    read_config,
    write_bundle,
)
from xray_captioning.checkpoints import read_arrays, read_keras2
from xray_captioning.checkpoints.hdf5 import is_hdf5, is_keras2
from xray_captioning.config import Config
from xray_captioning.data.provenance import TrainedOn
from xray_captioning.encoders.backbones import find_backbone
from xray_captioning.encoders.encoder import Encoder
from xray_captioning.encoders.filling import load_densenet121
from xray_captioning.encoders.folders import adopted, is_saved_model
from xray_captioning.encoders.torch_networks import classifier, published_file
from xray_captioning.errors import BundleError, ConfigError
from xray_captioning.hub.fetch import registered_name, registry
from xray_captioning.plugins import origin_of


def trained_before(encoder: Encoder | str | Path | None) -> TrainedOn | None:
    """Return what an encoder, or the bundle that holds it, was trained on, where that is known."""
    if encoder is None or isinstance(encoder, Encoder):
        return encoder and encoder.trained_on
    folder = find_bundle(encoder)
    read_bundle(folder, "encoder")
    return TrainedOn.load(folder)


def is_network(weights: str) -> bool:
    """Whether weights are published ones, random ones or a file's, and not those of a bundle."""
    if not isinstance(weights, (str, os.PathLike)):
        raise ConfigError(
            f"expected random, imagenet, or the path of a bundle or file of weights, got {type(weights).__name__}"
        )
    return weights in ("imagenet", "random") or _is_foreign(Path(weights))


def _is_foreign(path: Path) -> bool:
    """Whether it is a file, or a folder as Hugging Face saves a model, and so no bundle."""
    return path.is_file() or is_saved_model(path)


def weights_of(config: Config, weights: str | None) -> str:
    """Return the name of the weights to start from: published ones, if any, where none is given."""
    if weights is not None:
        return weights
    row = find_backbone(config.model.encoder, config.model.network)
    return "imagenet" if row.published else "random"


def new_encoder(config: Config, weights: str, findings: Sequence[str] = ()) -> Encoder:
    """Return an encoder that starts from random weights, published ones, a file's or a bundle's.

    `weights` are ``random``, ``imagenet`` (the published ones), a bundle, a Keras ``.h5`` file of
    the network without top, or a file as the network was published: for ``chexnet`` a Keras 2 file,
    for others PyTorch's. `findings` are outputs of the classifier, which always starts anew. A
    bundle of another network is a ConfigError, such a file a BundleError.
    """
    model, path, named = config.model, Path(weights), weights in ("random", "imagenet")
    start = weights if named else "random"
    made = (model.encoder, config.image.size, model.pool, findings, start, model.network)
    encoder = Encoder(*made)
    read = encoder.row.read
    if named:
        if weights == "imagenet":
            _warn_of_pixels(config)
    elif model.encoder == "chexnet" and is_keras2(path):
        load_densenet121(encoder, path, read_keras2(path))
    elif read is not None and _is_foreign(path) and not is_hdf5(path):
        read(encoder.backbone, path)
        _warn_of_pixels(config, weights)
    elif path.is_file():
        load_weights(encoder.backbone, path, f"the network {model.encoder}")
    else:
        _fill_from_bundle(encoder, path)
    return encoder


def _fill_from_bundle(encoder: Encoder, bundle: Path) -> None:
    saved, name = Encoder.load(bundle), encoder.name_of_backbone
    encoder.trained_on = saved.trained_on
    if saved.name_of_backbone != name:
        raise ConfigError(
            f"{bundle}: holds the encoder {saved.name_of_backbone}, but the preset asks for "
            f"{name}; choose a preset with that encoder or --set model.encoder"
        )
    try:
        encoder.backbone.set_weights(saved.backbone.get_weights())
    except ValueError as error:  # a Vision Transformer knows its positions
        raise ConfigError(
            f"{bundle}: its {name} is for images of {saved.size} px, but this run asks for "
            f"{encoder.size}; add --set image.size={saved.size}"
        ) from error


def _warn_of_pixels(config: Config, weights: str | None = None) -> None:
    """Warn where images are not what weights were trained on; one that crops, exactly."""
    row, wanted = config.model.encoder, adopted(config, weights).image
    whole = wanted.resize in ("area", "linear", "nearest")
    for field in ("normalisation",) if whole else ("normalisation", "resize", "size"):
        expected, given = getattr(wanted, field), getattr(config.image, field)
        if expected != given:
            warnings.warn(
                f"the published weights of {row} expect image.{field} {expected!r}, but it is "
                f"{given!r}; add --set image.{field}={expected}",
                stacklevel=3,
            )


def starting_encoder(config: Config, name: Encoder | str | Path | None, weights: str | None = None) -> Encoder:
    """Return the encoder that a decoder is trained on: one that is given, a bundle's or a new one.

    `weights` are those of a new one, as :func:`new_encoder` takes them. They are a ConfigError
    beside another, or as a bundle. So are images of a bundle that are prepared otherwise than the
    configuration says.
    """
    if name is None:
        weights = weights_of(config, weights)
        if not is_network(weights):
            raise ConfigError(f"weights are {weights!r}, no file; a bundle is given as the encoder")
        return new_encoder(config, weights)
    if weights is not None:
        raise ConfigError(f"give weights ({weights}) or an encoder, which has its own; not both")
    if isinstance(name, Encoder):
        return name
    bundle = find_bundle(name)
    saved = read_config(bundle, "encoder")
    checked = [("model", "encoder"), *(("image", n) for n in ("size", "resize", "normalisation"))]
    for group, name in checked:
        asked, found = (getattr(getattr(c, group), name) for c in (config, saved))
        if asked != found:
            raise ConfigError(
                f"{bundle}: {group}.{name} is {found!r} there, but this run asks for {asked!r}; "
                f"choose a fitting preset or add --set {group}.{name}={found}"
            )
    encoder = Encoder.load(bundle)
    pool = config.model.pool
    return encoder if encoder.pool == pool else copy_encoder(encoder, pool)


def copy_encoder(encoder: Encoder, pool: int) -> Encoder:
    """Return an encoder with the same weights, none of them shared, and another pool, perhaps."""
    copied = Encoder.from_config({**encoder.get_config(), "pool": pool})
    copied.set_weights(encoder.get_weights())
    return copied


def save_encoder(folder: Path, config: Config, encoder: Encoder, about: dict[str, Any]) -> None:
    """Write a bundle that holds an encoder and its finding classifier only."""

    def write(aside: Path) -> None:
        values = describe("encoder", config, encoder, about)
        (aside / "captioner.json").write_text(json.dumps(values, indent=2) + "\n", "utf-8")
        encoder.save_weights(aside / "encoder.weights.h5")
        (aside / "README.md").write_text(model_card(values), "utf-8")
        if encoder.trained_on is not None:
            encoder.trained_on.save(aside)

    write_bundle(folder, write)


def load_weights(model: Any, path: Path, target: str = "captioner.json beside it") -> None:
    """Load Keras weights, or raise a BundleError that says which array does not fit `target`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the error says it all
            model.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        reason = _difference(model, path) or str(error).strip().splitlines()[0]
        raise BundleError(f"{path}: does not fit {target} ({reason})") from error


def _difference(model: Any, path: Path) -> str:
    """Say which array of a file has not the shape that the model would save."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_weights(Path(folder) / "own.weights.h5")
        own, found = (_shapes(p) for p in (Path(folder) / "own.weights.h5", path))
    names = [name for name in {**own, **found} if own.get(name) != found.get(name)]
    if not found or not names:
        return ""
    name = names[0]
    return (
        f"{len(names)} arrays differ, such as {name}: "
        f"expected {own.get(name, 'none')}, received {found.get(name, 'none')}"
    )


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    try:
        return {name: values.shape for name, values in read_arrays(path).items()}
    except BundleError:  # which Keras has said already
        return {}


def describe(kind: str, config: Config, encoder: Encoder, about: dict[str, Any]) -> dict[str, Any]:
    """Return what ``captioner.json`` holds."""
    parts = {part: getattr(config.model, part) for part in PARTS[kind]}
    needs = {part: origin for part in parts if (origin := origin_of(part, parts[part]))}
    if config.model.encoder == FEATURES:
        needs = {**needs, FEATURES: {"channels": encoder.channels}}
    return {
        "format": FORMAT,
        "kind": kind,
        "config": config.to_dict(),
        "findings": list(encoder.findings),
        "grid": list(encoder.grid),
        "about": about,
        **({"needs": needs} if needs else {}),
    }


def classifier_of(name: str, weights: str | None, channels: int) -> tuple[Callable[[Any], dict[str, Any]], list[str]]:
    """Return a published network's `classifier` and outputs, of others one that says nothing."""
    name = registered_name(name)
    given = None if weights in (None, "imagenet") else Path(str(weights))
    known = name in registry() and registry()[name].outputs
    if known and (given is None or _is_foreign(given)):
        found = classifier(name, given or published_file(name), channels)
        if found is not None:
            return found, list(known)
    return lambda regions: {}, []


def weights_digest(model: Any) -> str:
    """Return the SHA-256 of every weight of a model, in order."""
    digest = hashlib.sha256()
    for variable in model.weights:
        digest.update(np.ascontiguousarray(ops.convert_to_numpy(variable)).tobytes())
    return digest.hexdigest()
