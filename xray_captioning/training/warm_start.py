"""A run that begins with a captioner: its encoder, its words and the weights of its decoder."""

import json
from pathlib import Path
from typing import Any

from xray_captioning.backend import ops
from xray_captioning.bundles.bundle import find_bundle, read_bundle
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.config import Config
from xray_captioning.decoders import CaptionModel, check_decoder
from xray_captioning.errors import ConfigError

# Of the configuration, what shapes head and decoder beside the decoder's own fields.
SHAPES = ("decoder", "head", "normalisation", "positions", "pool")


def starting_captioner(bundle: str | Path | None, encoder: Any, weights: str | None, images: bool) -> Captioner | None:
    """Load the captioner to begin with, if there is one; it has its own encoder."""
    if bundle is None:
        return None
    if encoder is not None or weights is not None:
        raise ConfigError(f"{bundle}: is where encoder and decoder start from; leave out the encoder and weights")
    folder = find_bundle(bundle)
    read_bundle(folder, "captioner", images)
    return Captioner.load(folder)


def check_start(start: Captioner, bundle: str, config: Config) -> None:
    """Refuse a captioner whose decoder is another than the configuration's, or of another shape."""
    row, _ = check_decoder(config.model)
    own = [name for name in row.fields if name not in ("dropout", "grid", "maximum_length")]
    names = [f"model.{name}" for name in (*SHAPES, *own)] + ["image.views"]
    names += ["text.maximum_length"] if "maximum_length" in row.fields else []
    asked, found = config.flat(), start.config.flat()
    for name in names:
        if asked[name] != found[name]:
            raise ConfigError(
                f"{bundle}: {name} is {found[name]!r} there, but this run asks for "
                f"{asked[name]!r}; add --set {name}={json.dumps(found[name])}"
            )


def copy_weights(start: Captioner, model: CaptionModel) -> None:
    """Copy the weights of head and decoder; words that the captioner has not keep new ones."""
    own = start.model
    for variable, given in zip(model.weights, own.weights, strict=True):
        rows, array = ops.convert_to_numpy(given), ops.convert_to_numpy(variable).copy()
        words = own.vocabulary_size, model.vocabulary_size
        if any(pair[0] != pair[1] and pair != words for pair in zip(rows.shape, array.shape)):
            raise ConfigError(
                f"the captioner to start from has {given.path} of {rows.shape}, and this run of "
                f"{array.shape}; choose a bundle of the same decoder"
            )
        array[tuple(map(slice, rows.shape))] = rows
        variable.assign(array)
