"""The published attention captioner and CheXNet, from their Keras 2 files."""

import os
from pathlib import Path
from typing import Any

from xray_captioning.captioner.captioner import Captioner
from xray_captioning.checkpoints import StoredArray, read_keras2
from xray_captioning.config import Config
from xray_captioning.decoders import CaptionModel
from xray_captioning.decoders.model import new_model
from xray_captioning.encoders import Encoder
from xray_captioning.encoders.filling import (
    check,
    densenet121_variables,
    fill,
    load_densenet121,
    match_densenet121,
    shapes_of,
)
from xray_captioning.errors import BundleError
from xray_captioning.files import sha256_file
from xray_captioning.findings import NIH14
from xray_captioning.legacy import SOURCE, layout
from xray_captioning.text.tokenizer import Tokenizer

_ENCODER = "image_encoder/"
_IMAGE = {name: layout.ATTENTION["image"][name] for name in ("size", "resize", "normalisation")}


def load_attention_captioner(
    weights_h5: str | os.PathLike[str],
    tokenizer_pkl: str | os.PathLike[str],
    start: str | None = None,
    end: str | None = None,
) -> Captioner:
    """Read the published attention captioner; nothing in either file is executed.

    Images are prepared as in its own program (nearest neighbour, divided by 255, a single image
    shown in both views) and its words are left as they are. It writes at most 29 tokens.

    Parameters
    ----------
    weights_h5 : str or os.PathLike
        ``Encoder_Decoder_global_attention.h5`` or another file of its layout; vocabulary and
        widths are read from the shapes.
    tokenizer_pkl : str or os.PathLike
        The ``tokenizer.pkl`` published beside it, or the JSON of a Keras tokenizer.
    start, end : str, optional
        The tokenizer's words that begin and end a caption; by default they are found.

    Raises
    ------
    BundleError, DataError
        The weights are damaged, an array is missing, misshapen or not expected, the vocabularies
        are of different sizes, or the tokenizer cannot be read.
    """
    as_json = Path(tokenizer_pkl).suffix.lower() == ".json"
    read = Tokenizer.from_json if as_json else Tokenizer.from_pickle
    tokenizer = read(tokenizer_pkl, start, end)
    arrays = read_keras2(weights_h5)
    if not any(array.leaf in ("recurrent_kernel", "embeddings") for array in arrays):
        advice = "if it is CheXNet, leave out the tokenizer"
        raise BundleError(f"{weights_h5}: holds no decoder, so it is not the attention captioner; {advice}")
    found, rest = layout.place(arrays)
    sizes = layout.read_sizes(found)
    encoder = Encoder("chexnet", 224, pool=2)
    network = {_ENCODER + name: v for name, v in densenet121_variables(encoder).items()}
    images, rest = _match_encoder(rest, network)
    shapes = {**shapes_of(network), **layout.shapes_of(sizes)}
    check(weights_h5, "the attention captioner", shapes, {**images, **found}, rest)
    if tokenizer.vocabulary_size != sizes["vocabulary"]:
        raise BundleError(
            f"{tokenizer_pkl}: has {tokenizer.vocabulary_size} token ids, padding included, but "
            f"{weights_h5} was trained with {sizes['vocabulary']}; give the two files of one model"
        )
    config = _config(sizes)
    model = new_model(config, encoder, tokenizer)
    fill(network, images)
    fill(_variables(model), found)
    about = describe_import(config, weights=weights_h5, tokenizer=tokenizer_pkl)
    return Captioner(config, encoder, model, tokenizer, about)


def load_chexnet(weights_h5: str | os.PathLike[str]) -> Encoder:
    """Read CheXNet (arXiv:1711.05225): DenseNet121, global average pooling and fourteen sigmoids.

    The file is ``brucechou1983_CheXNet_Keras_0.3.0_weights.h5`` or another of its layout, trained
    on frontal images of 224 px with ImageNet's mean and deviation; one that is damaged or does not
    fit is a BundleError. The findings are ChestX-ray14's labels in the published order.
    """
    arrays = read_keras2(weights_h5)
    if any(array.leaf == "recurrent_kernel" for array in arrays):
        advice = "give its tokenizer as well (--tokenizer tokenizer.pkl)"
        raise BundleError(f"{weights_h5}: holds a captioner with its decoder, not CheXNet; {advice}")
    encoder = Encoder("chexnet", 224, findings=NIH14)
    load_densenet121(encoder, weights_h5, arrays, "CheXNet", encoder.classifier.weights)
    return encoder


def chexnet_config(normalisation: str) -> Config:
    """Return the configuration of a CheXNet bundle: one frontal view of 224 px. Its author trained
    with ``imagenet``; the published captioning project used ``unit`` with nearest neighbour.
    """
    resize = _IMAGE["resize"] if normalisation == "unit" else "area"
    image = {"size": 224, "resize": resize, "normalisation": normalisation, "views": 1}
    return Config.from_dict({"name": "chexnet", "image": image, "model": {"encoder": "chexnet", "pool": 1}})


def describe_import(config: Config, **files: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the origin of a bundle, to be stored in it: the files' names and SHA-256."""
    image = config.image
    published = {name: getattr(image, name) for name in _IMAGE} == _IMAGE
    scaled = "divided by 255" + ("" if image.normalisation == "unit" else ", then as ImageNet's")
    alone = ", a single image in every view" if image.repeat_single_view else ""
    data = {
        "preprocessing": f"{'as published: ' if published else ''}{image.size} px, "
        f"{image.resize} resizing, {scaled}{alone}",
        "measured": "nothing here",
    }
    for name, path in files.items():
        data |= {name: Path(path).name, f"{name}_sha256": sha256_file(path)}
    return {"source": SOURCE, "encoder": "weights as published", "data": data}


def _match_encoder(
    arrays: list[StoredArray], network: dict[str, Any]
) -> tuple[dict[str, StoredArray], list[StoredArray]]:
    inside = [array for array in arrays if array.layer == "image_encoder"]
    others = [array for array in arrays if array.layer != "image_encoder"]
    found, rest = match_densenet121(inside, [name.removeprefix(_ENCODER) for name in network])
    return {_ENCODER + name: array for name, array in found.items()}, rest + others


def _config(sizes: dict[str, int]) -> Config:
    model = {name: size for name, size in sizes.items() if name != "vocabulary"}
    return Config.from_dict(layout.ATTENTION | {"model": layout.ATTENTION["model"] | model})


def _variables(model: CaptionModel) -> dict[str, Any]:
    """Return the variables of head and decoder by their published names."""
    head, decoder = model.head, model.decoder
    layers = {
        "bkdense": head.project,
        "encoder_batch_norm": head.norm,
        layout.EMBEDDING: decoder.embedding,
        layout.CELL: decoder.cell.gru,
        layout.KEY: decoder.cell.key,
        layout.QUERY: decoder.cell.query,
        layout.ENERGY: decoder.cell.energy,
        layout.LOGITS: decoder.logits,
    }
    return {f"{name}/{v.name}": v for name, layer in layers.items() for v in layer.weights}
