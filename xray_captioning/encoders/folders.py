"""How an encoder's network and images must be: as it was published, or as its folder says."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from xray_captioning.config import Config
from xray_captioning.data.images import SCHEMES
from xray_captioning.data.resizing import rule_of
from xray_captioning.encoders.backbones import Backbone, find_backbone
from xray_captioning.encoders.vision_transformers import tower_of
from xray_captioning.errors import BundleError, ConfigError
from xray_captioning.files import read_json
from xray_captioning.hub.fetch import registered_name, registry

_SAVED = ("config.json", "open_clip_config.json", "model.safetensors")
_LARGEST = 4096  # px, more than any encoder sees
_FILTERS = {2: "bilinear", 3: "bicubic"}  # as Pillow numbers them


def is_saved_model(path: Path) -> bool:
    """Return whether it is a folder as Hugging Face saves a model."""
    return any((path / name).is_file() for name in _SAVED)


def adopted(config: Config, weights: str | Path | None = None, own: Collection[str] = ()) -> Config:
    """Return a configuration with the images, and perhaps the network, that its encoder needs.

    They are those of the published weights, or what a folder of `weights` says; fields named in
    `own` stay. A folder of another kind of model than the name's is a BundleError, what is not
    built or resized here a ConfigError.
    """
    name, folder = config.model.encoder, Path(weights or "")
    known = registered_name(name) in registry() or not (folder / "config.json").is_file()
    row = find_backbone(name) if known else None
    values: dict[str, Any] = {}
    for field in ("size", "resize", "normalisation"):
        said = getattr(row, field, usual := Backbone._field_defaults[field])
        if said != usual or (row and row.published):  # an unpublished one may say of itself
            values[f"image.{field}"] = said
    if weights is not None and is_saved_model(folder):
        try:
            values |= _said(folder, name, row)
        except (BundleError, ConfigError):
            raise
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            reason = " ".join(str(error).split())[:100]
            raise BundleError(f"{folder}: its JSON files are damaged ({reason}); get them again") from error
    return config.replace({field: value for field, value in values.items() if field not in own})


def _said(folder: Path, name: str, row: Backbone | None) -> dict[str, Any]:
    """Return fields by dotted names as the files of a folder have them."""
    model, images, open_clip = (
        read_json(folder / file, "save it again") if (folder / file).is_file() else {}
        for file in ("config.json", "preprocessor_config.json", "open_clip_config.json")
    )
    values: dict[str, Any] = {}
    published = registry().get(registered_name(name))
    if model.get("model_type") and (published is None or published.tower):
        where = folder / "config.json"
        tower = tower_of(model, where)
        own = tower_of(published.tower, name) if published else None
        if own is not None and own.model_type != tower.model_type:
            raise BundleError(
                f"{where}: is of the kind {tower.model_type}, but {name} is {own.model_type}; give "
                "the folder of that model"
            )
        if tower != own:
            values["model.network"] = to_builtins(tower)
            vision = model.get("vision_config") or model
            values["image.size"] = vision.get("image_size", 224)
            values |= {} if row else {"image.normalisation": "signed", "image.resize": "siglip"}
    if images:
        values |= _pixels(images, folder / "preprocessor_config.json", row)
    if "mean" in (said := open_clip.get("preprocess_cfg", {})):
        values["image.normalisation"] = _scheme(said["mean"], said["std"])
    if not 1 <= values.get("image.size", 224) <= _LARGEST:
        raise ValueError(f"images of {values['image.size']} px")
    return values


def _pixels(said: Mapping[str, Any], where: Path, row: Backbone | None) -> dict[str, Any]:
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
        raise ConfigError(
            f"{where}: its {what} makes images in a way that is not known here; set image.size, "
            "image.resize and image.normalisation, and take the file away"
        )
    (side,) = sides
    rule = row and rule_of(row.resize)
    library = "transformers" if kind.endswith("Fast") or rule is None else rule.library
    resize = f"{library}-{_FILTERS[resample]}" + (f"-{short}/{side}" if cut else "")
    if row is not None and rule == rule_of(resize):
        resize = row.resize
    values = {"image.size": side, "image.resize": resize}
    if said.get("do_normalize", True) and "image_mean" in said:
        values["image.normalisation"] = _scheme(said["image_mean"], said["image_std"])
    return values if said.get("do_normalize", True) else values | {"image.normalisation": "unit"}


def _scheme(mean: Any, deviation: Any) -> str:
    """Return the name of a scaling, or the numbers as a name."""
    given = tuple(tuple(float(x) for x in part) for part in (mean, deviation))
    for name, known in SCHEMES.items():
        if name != "caffe" and given == known:
            return name
    return "/".join(",".join(f"{x:.8f}" for x in part) for part in given)
