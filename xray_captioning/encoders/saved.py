"""Where an encoder's weights come from, and bundles of encoders."""

import hashlib
import io
import os
import tempfile
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import to_builtins

from xray_captioning import files, plugins
from xray_captioning.backend import ops
from xray_captioning.bundles import bundle as bundles
from xray_captioning.checkpoints import read_arrays, read_keras2
from xray_captioning.checkpoints.hdf5 import is_hdf5, is_keras2
from xray_captioning.config import Config
from xray_captioning.data import provenance, resizing
from xray_captioning.data.images import SCHEMES
from xray_captioning.encoders import backbones, filling, torch_networks, vision_transformers
from xray_captioning.encoders.encoder import Encoder
from xray_captioning.errors import BundleError, ConfigError, in_one_line
from xray_captioning.hub.fetch import registered_name, registry

PIXELS = ("size", "resize", "normalisation")  # of a configuration: what an encoder is shown


def trained_before(encoder: Encoder | str | Path | None) -> provenance.TrainedOn | None:
    """Return what an encoder, or the bundle that holds it, was trained on, where that is known."""
    if encoder is None or isinstance(encoder, Encoder):
        return encoder and encoder.trained_on
    folder = bundles.find_bundle(encoder)
    bundles.read_bundle(folder, "encoder")
    return provenance.TrainedOn.load(folder)


def is_network(weights: str) -> bool:
    """Whether weights are published ones, random ones or a file's, and not those of a bundle."""
    if not isinstance(weights, (str, os.PathLike)):
        got = type(weights).__name__
        raise ConfigError(f"expected random, imagenet, or the path of a bundle or file of weights, got {got}")
    return weights in ("imagenet", "random") or _is_foreign(Path(weights))


def _is_foreign(path: Path) -> bool:
    """Whether it is a file, or a folder as Hugging Face saves a model, and so no bundle."""
    return path.is_file() or is_saved_model(path)


def weights_of(config: Config, weights: str | None) -> str:
    """Return the name of the weights to start from: published ones, if any, where none is given."""
    known = backbones.find_backbone(config.model.encoder, config.model.network)  # unless a name is wrong
    return weights if weights is not None else "imagenet" if known.published else "random"


def new_encoder(config: Config, weights: str, findings: Sequence[str] = ()) -> Encoder:
    """Return an encoder with weights ``random``, ``imagenet`` (the published ones), of a bundle or of a file."""
    # A file is Keras' ``.h5`` of the network without top, or as the network was published: for ``chexnet`` a Keras 2
    # file, for others PyTorch's. The classifier of `findings` always starts anew. A bundle of another network is a
    # ConfigError, such a file a BundleError.
    model, path, named = config.model, Path(weights), weights in ("random", "imagenet")
    start = weights if named else "random"
    encoder = Encoder(model.encoder, config.image.size, model.pool, findings, start, model.network)
    read = encoder.row.read
    if named:
        if weights == "imagenet":
            _warn_of_pixels(config)
    elif model.encoder == "chexnet" and is_keras2(path):
        filling.load_densenet121(encoder, path, read_keras2(path))
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
    if (held := saved.name_of_backbone) != name:
        raise ConfigError(f"{bundle}: holds the encoder {held}, but this run asks for {name}; set model.encoder={held}")
    try:
        encoder.backbone.set_weights(saved.backbone.get_weights())
    except ValueError as error:  # a Vision Transformer knows its positions
        what = f"is for images of {saved.size} px, but this run asks for {encoder.size}"
        raise ConfigError(f"{bundle}: its {name} {what}; add --set image.size={saved.size}") from error


def _warn_of_pixels(config: Config, weights: str | None = None) -> None:
    """Warn where images are not what weights were trained on; one that crops, exactly."""
    wanted = adopted(config, weights).image
    whole = wanted.resize in ("area", "linear", "nearest")
    for field in ("normalisation",) if whole else ("normalisation", "resize", "size"):
        expected, given = getattr(wanted, field), getattr(config.image, field)
        if expected != given:
            said = f"the published weights of {config.model.encoder} expect image.{field} {expected!r}"
            warnings.warn(f"{said}, but it is {given!r}; add --set image.{field}={expected}", stacklevel=3)


def check_start(config: Config, name: Encoder | str | Path | None, weights: str | None = None) -> None:
    """Refuse an encoder or weights that cannot be had, or a bundle whose images are prepared otherwise."""
    if name is None and not is_network(weights_of(config, weights)):
        raise ConfigError(f"weights are {weights!r}, no file; a bundle is given as the encoder")
    if name is not None and weights is not None:
        raise ConfigError(f"give weights ({weights}) or an encoder, which has its own; not both")
    if name is None or isinstance(name, Encoder):
        return
    bundle = bundles.find_bundle(name)
    saved = bundles.read_config(bundle, "encoder")
    for field in ("model.encoder", *(f"image.{name}" for name in PIXELS)):
        asked, found = config.flat()[field], saved.flat()[field]
        if asked != found:
            has = f"{bundle}: {field} is {found!r} there, but this run asks for {asked!r}"
            raise ConfigError(f"{has}; choose a fitting preset or add --set {field}={found}")


def starting_encoder(config: Config, name: Encoder | str | Path | None, weights: str | None = None) -> Encoder:
    """Return the encoder that a decoder is trained on: a given one, a bundle's, or a new one of `weights`."""
    check_start(config, name, weights)
    if name is None:
        return new_encoder(config, weights_of(config, weights))
    if isinstance(name, Encoder):
        return name
    encoder, pool = Encoder.load(name), config.model.pool
    return encoder if encoder.pool == pool else copy_encoder(encoder, pool)


def copy_encoder(encoder: Encoder, pool: int) -> Encoder:
    """Return an encoder with the same weights, none of them shared, and another pool, perhaps."""
    copied = Encoder.from_config({**encoder.get_config(), "pool": pool})
    copied.set_weights(encoder.get_weights())
    return copied


def save_encoder(folder: Path, config: Config, encoder: Encoder, about: dict[str, Any]) -> None:
    """Write a bundle that holds an encoder and its finding classifier only."""

    def write(aside: Path) -> None:
        bundles.write_texts(aside, describe("encoder", config, encoder, about, folder.resolve().name))
        save_weights(encoder, aside / "encoder.weights.h5")
        if encoder.trained_on is not None:
            encoder.trained_on.save(aside)

    bundles.write_bundle(folder, write)


class _Memory(io.BytesIO):
    """What Keras takes for a file of weights."""

    def __str__(self) -> str:
        return ".weights.h5"


def save_weights(model: Any, path: Path) -> None:
    """Write Keras weights. HDF5 never sees the disk: one that is full would end the whole process."""
    model.save_weights(memory := _Memory())
    path.write_bytes(memory.getbuffer())


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
        save_weights(model, same := Path(folder) / "own.weights.h5")
        try:
            own, found = ({name: a.shape for name, a in read_arrays(p).items()} for p in (same, path))
        except BundleError:  # which Keras has said already
            return ""
    if not (names := [name for name in {**own, **found} if own.get(name) != found.get(name)]) or not found:
        return ""
    expected, received = (arrays.get(names[0], "none") for arrays in (own, found))
    return f"{len(names)} arrays differ, such as {names[0]}: expected {expected}, received {received}"


def describe(kind: str, config: Config, encoder: Encoder, about: dict[str, Any], name: str) -> dict[str, Any]:
    """Return what ``captioner.json`` holds; the name is that of a bundle whose `about` has none."""
    parts = {part: getattr(config.model, part) for part in bundles.PARTS[kind]}
    needs = {part: origin for part in parts if (origin := plugins.origin_of(part, parts[part]))}
    if config.model.encoder == bundles.FEATURES:
        needs = {**needs, bundles.FEATURES: {"channels": encoder.channels}}
    values: dict[str, Any] = {"format": bundles.FORMAT, "kind": kind, "name": name, "config": config.to_dict()}
    values |= {"findings": list(encoder.findings), "grid": list(encoder.grid), "about": about}
    return {**values, "needs": needs} if needs else values


def classifier_of(name: str, weights: str | None, channels: int) -> tuple[Callable[[Any], dict[str, Any]], list[str]]:
    """Return a published network's `classifier` and outputs, of others one that says nothing."""
    name = registered_name(name)
    given = None if weights in (None, "imagenet") else Path(str(weights))
    known, found = name in registry() and registry()[name].outputs, None
    if known and (given is None or _is_foreign(given)):
        found = torch_networks.classifier(name, given or torch_networks.published_file(name), channels)
    return (found, list(known or ())) if found else (lambda regions: {}, [])


def weights_digest(model: Any) -> str:
    """Return the SHA-256 of every weight of a model, in order."""
    digest = hashlib.sha256()
    for variable in model.weights:
        digest.update(np.ascontiguousarray(ops.convert_to_numpy(variable)).tobytes())
    return digest.hexdigest()


# --- what the folder of weights says of network and images ---

_LARGEST = 4096  # px, more than any encoder sees
_FILTERS = {2: "bilinear", 3: "bicubic"}  # as Pillow numbers them


def is_saved_model(path: Path) -> bool:
    """Return whether it is a folder as Hugging Face saves a model."""
    return any((path / f).is_file() for f in ("config.json", "open_clip_config.json", "model.safetensors"))


def adopted(config: Config, weights: str | Path | None = None, own: Collection[str] = ()) -> Config:
    """Return a configuration with the images, and perhaps the network, that its encoder needs."""
    # Those of the published weights, or what a folder of `weights` says; fields named in `own` stay. A folder of
    # another kind of model is a BundleError, what is not built or resized here a ConfigError.
    name, folder = config.model.encoder, Path(weights or "")
    known = registered_name(name) in registry() or not (folder / "config.json").is_file()
    row = backbones.find_backbone(name) if known else None
    values: dict[str, Any] = {}
    for field in PIXELS:
        said = getattr(row, field, usual := backbones.Backbone._field_defaults[field])
        if said != usual or (row and row.published):  # an unpublished one may say of itself
            values[f"image.{field}"] = said
    if weights is not None and is_saved_model(folder):
        try:
            values |= _said(folder, name, row)
        except (BundleError, ConfigError):
            raise
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise BundleError(f"{folder}: its JSON files are damaged ({in_one_line(error)}); get them again") from error
    return config.replace({field: value for field, value in values.items() if field not in own})


def _said(folder: Path, name: str, row: backbones.Backbone | None) -> dict[str, Any]:
    """Return fields by dotted names as the files of a folder have them."""
    paths = [folder / name for name in ("config.json", "preprocessor_config.json", "open_clip_config.json")]
    model, images, open_clip = (files.read_json(p, "save it again") if p.is_file() else {} for p in paths)
    values: dict[str, Any] = {}
    published = registry().get(registered_name(name))
    if model.get("model_type") and (published is None or published.tower):
        where = folder / "config.json"
        tower = vision_transformers.tower_of(model, where)
        own = vision_transformers.tower_of(published.tower, name) if published else None
        if own is not None and own.model_type != tower.model_type:
            raise BundleError(f"{where}: is of the kind {tower.model_type}, but {name} is {own.model_type}; give that")
        if tower != own:
            size = (model.get("vision_config") or model).get("image_size", 224)
            values |= {"model.network": to_builtins(tower), "image.size": size}
            values |= {} if row else {"image.normalisation": "signed", "image.resize": "siglip"}
    if images:
        values |= _pixels(images, folder / "preprocessor_config.json", row)
    if "mean" in (said := open_clip.get("preprocess_cfg", {})):
        values["image.normalisation"] = _scheme(said["mean"], said["std"])
    if not 1 <= values.get("image.size", 224) <= _LARGEST:
        raise ValueError(f"images of {values['image.size']} px")
    return values


def _pixels(said: Mapping[str, Any], where: Path, row: backbones.Backbone | None) -> dict[str, Any]:
    """Return how an image processor of transformers makes its square."""
    kind = str(said.get("image_processor_type") or said.get("feature_extractor_type") or "ViT")
    cut, size = said.get("do_center_crop", "CLIP" in kind or "Bit" in kind), said.get("size", 224)
    short = size.get("shortest_edge") if isinstance(size, dict) else size if cut else None
    square = said.get("crop_size", 224) if cut else size
    sides = {square} if isinstance(square, int) else {square.get("height"), square.get("width")}
    resample = said.get("resample", 2 if "ViT" in kind else 3)
    wanted = {"do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255}
    odd = [key for key, value in wanted.items() if abs(said.get(key, value) - value) > 1e-6]
    bad = len(sides) > 1 or None in sides or bool(short) != cut or (short or 0) > _LARGEST
    if odd or resample not in _FILTERS or bad:
        what = odd[0] if odd else "size" if resample in _FILTERS else "resample"
        raise ConfigError(f"{where}: its {what} is not known here; set image.size, .resize and .normalisation")
    (side,) = sides
    rule = row and resizing.rule_of(row.resize)
    library = "transformers" if kind.endswith("Fast") or rule is None else rule.library
    resize = f"{library}-{_FILTERS[resample]}" + (f"-{short}/{side}" if cut else "")
    if row is not None and rule == resizing.rule_of(resize):
        resize = row.resize
    values = {"image.size": side, "image.resize": resize}
    if not said.get("do_normalize", True):
        values["image.normalisation"] = "unit"
    elif "image_mean" in said:
        values["image.normalisation"] = _scheme(said["image_mean"], said["image_std"])
    return values


def _scheme(mean: Any, deviation: Any) -> str:
    given = tuple(tuple(float(x) for x in part) for part in (mean, deviation))
    known = [name for name, scheme in SCHEMES.items() if name != "caffe" and given == scheme]
    return known[0] if known else "/".join(",".join(f"{x:.8f}" for x in part) for part in given)
