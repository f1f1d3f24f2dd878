"""DenseNet121 from a Keras 2 weights file, such as the one CheXNet was published in."""

import os
import re
from collections.abc import Collection, Iterable
from itertools import groupby, takewhile
from typing import Any

from xray_captioning.checkpoints import StoredArray, read_keras2
from xray_captioning.encoders.encoder import Encoder
from xray_captioning.encoders.filling import check, fill, shapes_of
from xray_captioning.errors import BundleError
from xray_captioning.findings import NIH14

CLASSIFIER = "chexnet_output"


def load_chexnet(weights_h5: str | os.PathLike[str]) -> Encoder:
    """Read CheXNet (arXiv:1711.05225): DenseNet121, global average pooling and fourteen sigmoids.

    The file is ``brucechou1983_CheXNet_Keras_0.3.0_weights.h5`` or another of its layout, trained
    on frontal images of 224 px with ImageNet's mean and deviation; one that is damaged or does not
    fit is a BundleError. The findings are ChestX-ray14's labels in the published order.
    """
    arrays = read_keras2(weights_h5)
    if any(array.leaf == "recurrent_kernel" for array in arrays):
        raise BundleError(
            f"{weights_h5}: holds a captioner with its decoder, not CheXNet; give its tokenizer "
            "as well (--tokenizer tokenizer.pkl)"
        )
    encoder = Encoder("chexnet", 224, findings=NIH14)
    _load(encoder, weights_h5, arrays, "CheXNet", encoder.classifier.weights)
    return encoder


def load_densenet121(encoder: Encoder, weights_h5: str | os.PathLike[str]) -> None:
    """Fill the network of a ``chexnet`` encoder, whatever classifier the file has.

    The file is CheXNet's, or DenseNet121 with or without its top as Keras 2 published it; one that
    is damaged or does not fit is a BundleError.
    """
    _load(encoder, weights_h5, read_keras2(weights_h5), "DenseNet121", [])


def _load(encoder: Encoder, path: Any, arrays: list[StoredArray], what: str, top: Any) -> None:
    """Fill the network, and those of its classifier's variables that are asked for."""
    variables = densenet121_variables(encoder)
    found, rest = match_densenet121(arrays, variables)
    variables |= {f"{CLASSIFIER}/{variable.name}": variable for variable in top}
    classifier, rest = _classifier(rest)
    found |= classifier if top else {}
    check(path, what, shapes_of(variables), found, rest)
    fill(variables, found)


def densenet121_variables(encoder: Encoder) -> dict[str, Any]:
    """Return the variables of a DenseNet121 by their Keras 2 names, such as ``conv1/bn/gamma``."""
    return {
        f"{re.sub('^conv1_', 'conv1/', layer.name)}/{variable.name}": variable
        for layer in encoder.backbone.layers
        for variable in layer.weights
    }


def match_densenet121(
    arrays: Iterable[StoredArray], names: Collection[str]
) -> tuple[dict[str, StoredArray], list[StoredArray]]:
    """Find the arrays of a DenseNet121 by their whole names, which are Keras 2's.
    Never by the end of a name: ``bn`` would be confused with ``conv1/bn``. Returned are arrays by
    those names, and the others.
    """
    wanted = {_joined(*name.rsplit("/", 1)): name for name in names}
    found: dict[str, StoredArray] = {}
    rest = []
    for _, group in groupby(arrays, key=lambda array: array.layer):
        members = list(group)
        for array, key in zip(members, _best_keys(members, wanted)):
            name = wanted.get(key)
            if name is None or name in found:
                rest.append(array)
            else:
                found[name] = array
    return found, rest


def _best_keys(members: list[StoredArray], wanted: Collection[str]) -> list[str]:
    """Keys of one layer's arrays under the reading of their names that most arrays agree with.
    Read are the names as they are; without a prefix that all share, where it is one (an
    encoder's own name); and, where the arrays are those of a single layer, that layer's name.
    """
    owners = {array.owner for array in members}
    shared = list(takewhile(lambda parts: len(set(parts)) == 1, zip(*owners)))
    readings = [
        [_joined("/".join(a.owner[depth:]), a.leaf) for a in members]
        for depth in range(len(shared) + 1 if len(owners) > 1 else 1)
    ]
    if len(owners) == 1:
        readings.append([_joined(a.layer, a.leaf) for a in members])
    return max(readings, key=lambda keys: sum(key in wanted for key in keys))


def _joined(layer: str, leaf: str) -> str:
    # Keras 3 spells conv1/conv as conv1_conv; a reused session numbers names: conv1/conv_1.
    return re.sub(r"_\d+$", "", layer.replace("/", "_")) + f"/{leaf}"


def _classifier(rest: list[StoredArray]) -> tuple[dict[str, StoredArray], list[StoredArray]]:
    """Take the one dense layer, whatever its name, that stands on top of the network."""
    layers = {array.layer: [a for a in rest if a.layer == array.layer] for array in rest}
    dense = [name for name, members in layers.items() if {a.leaf for a in members} <= {"kernel", "bias"}]
    if CLASSIFIER in dense:
        dense = [CLASSIFIER]
    if len(dense) != 1:
        return {}, rest
    top = {f"{CLASSIFIER}/{array.leaf}": array for array in layers[dense[0]]}
    return top, [array for array in rest if array.layer != dense[0]]
