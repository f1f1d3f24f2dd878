"""Arrays of somebody else's file into the variables of a network."""

import os
import re
from collections.abc import Collection, Iterable, Mapping
from itertools import groupby, takewhile
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from xray_captioning.backend import keras
from xray_captioning.checkpoints import StoredArray, mismatches, read_arrays
from xray_captioning.checkpoints.arrays import shortened
from xray_captioning.errors import BundleError
from xray_captioning.files import read_toml

Shapes = Mapping[str, tuple[int, ...]]
Found = dict[str, StoredArray]
_PYTORCH: dict[str, str] = read_toml(__file__, "layouts.toml")["pytorch"]


def load_pytorch(
    model: Any, path: Path, what: str, left_out: str, arrays: Mapping[str, NDArray[Any]] | None = None
) -> None:
    """Fill a network whose layers have the names of PyTorch's modules in a file, or raise a BundleError."""
    # `what` names it in messages, `left_out` is a regular expression of names that it does not need.
    layers = {f"{own.name}.{_PYTORCH.get(v.name, v.name)}": (own, v) for own in model.layers for v in own.weights}
    variables = {name: variable for name, (_, variable) in layers.items()}
    skipped = re.compile(rf"(?:{left_out})|(?:.*\.)?num_batches_tracked")
    found, extra = {}, []
    for name, values in _named(arrays or read_arrays(path), next(iter(layers))).items():
        if name in layers:
            found[name] = StoredArray("", name, _turned(values, *layers[name]))
        elif not skipped.fullmatch(name):
            extra.append(StoredArray("", name, values))
    check(path, what, shapes_of(variables), found, extra)
    fill(variables, found)


def _named(arrays: Mapping[str, NDArray[Any]], first: str) -> dict[str, NDArray[Any]]:
    """Return the arrays below whatever holds the one called `first`, by their names in there."""
    owner = min((name.removesuffix(first) for name in arrays if name.endswith(first)), key=len, default="")
    inside = {n.removeprefix(owner): a for n, a in arrays.items() if n.startswith(owner)}
    # torchvision's files of 2017 name a dense layer's parts norm.1 and conv.2.
    old = r"(denselayer\d+\.(?:norm|conv))\.(\d)\."
    return {re.sub(old, r"\1\2.", name): values for name, values in inside.items()}


def _turned(values: NDArray[Any], layer: Any, variable: Any) -> NDArray[Any]:
    """Return an array with its axes as Keras has them: channels last, and inputs before outputs."""
    if values.shape == (1, *variable.shape):
        return values[0]
    if values.ndim == 4:
        return values.transpose((2, 3, 0, 1) if isinstance(layer, keras.layers.DepthwiseConv2D) else (2, 3, 1, 0))
    return values.T if isinstance(layer, keras.layers.Dense) else values


def check(path: str | os.PathLike[str], what: str, shapes: Shapes, found: Found, extra: list[StoredArray]) -> None:
    """Raise a BundleError that says which arrays are missing, misshapen or unknown; of another model, its layers."""
    clauses = mismatches(shapes, found, extra)
    if clauses and len(found) < len(shapes) / 2:
        owners = (a.layer or a.name.rpartition(".")[0] or a.name for a in (*found.values(), *extra))
        layers = list(dict.fromkeys(shortened(name, 30) for name in owners))
        listed = ", ".join(layers[:3]) + ", ..." * (len(layers) > 3)
        other = f"another model, with weights of {len(layers)} layers ({listed})"
        has = f"is not {what}, of whose {len(shapes)} arrays it has {len(found)}"
        raise BundleError(f"{path}: {has}; it seems to be {other}; give the file of {what}")
    if clauses:
        more = f", and {len(clauses) - 2} more" if len(clauses) > 2 else ""
        raise BundleError(f"{path}: does not fit {what}: {', '.join(clauses[:2])}{more}; give the file of that model")


def shapes_of(variables: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of variables, by the same names."""
    return {name: tuple(variable.shape) for name, variable in variables.items()}


def fill(variables: Mapping[str, Any], found: Mapping[str, StoredArray]) -> None:
    """Assign to each variable the array of its name."""
    for name, variable in variables.items():
        variable.assign(found[name].values)


CLASSIFIER = "chexnet_output"


def load_densenet121(
    encoder: Any, path: str | os.PathLike[str], arrays: list[StoredArray], what: str = "DenseNet121", top: Any = ()
) -> None:
    """Fill a ``chexnet`` network, and the variables of its classifier in `top`, from a Keras 2 file's arrays."""
    variables = densenet121_variables(encoder)
    found, rest = match_densenet121(arrays, variables)
    variables |= {f"{CLASSIFIER}/{variable.name}": variable for variable in top}
    classifier, rest = _classifier(rest)
    found |= classifier if top else {}
    check(path, what, shapes_of(variables), found, rest)
    fill(variables, found)


def densenet121_variables(encoder: Any) -> dict[str, Any]:
    """Return the variables of a DenseNet121 by their Keras 2 names, such as ``conv1/bn/gamma``."""
    pairs = ((re.sub("^conv1_", "conv1/", layer.name), v) for layer in encoder.backbone.layers for v in layer.weights)
    return {f"{name}/{variable.name}": variable for name, variable in pairs}


def match_densenet121(arrays: Iterable[StoredArray], names: Collection[str]) -> tuple[Found, list[StoredArray]]:
    """Return the arrays of a DenseNet121 by their whole names, which are Keras 2's, and the others."""
    # Never by the end of a name: ``bn`` would be confused with ``conv1/bn``.
    wanted = {_joined(*name.rsplit("/", 1)): name for name in names}
    found: Found = {}
    rest = []
    for _, group in groupby(arrays, key=lambda array: array.layer):
        members = list(group)
        for array, key in zip(members, _best_keys(members, wanted)):
            if key in wanted and wanted[key] not in found:
                found[wanted[key]] = array
            else:
                rest.append(array)
    return found, rest


def _best_keys(members: list[StoredArray], wanted: Collection[str]) -> list[str]:
    """Return keys of one layer's arrays under the reading of their names that most agree with."""
    # As they are, without a prefix that all share (an encoder's own name), or below that layer's name.
    owners = {array.owner for array in members}
    shared = list(takewhile(lambda parts: len(set(parts)) == 1, zip(*owners)))
    depths = range(len(shared) + 1 if len(owners) > 1 else 1)
    readings = [[_joined("/".join(a.owner[depth:]), a.leaf) for a in members] for depth in depths]
    if len(owners) == 1:
        readings.append([_joined(a.layer, a.leaf) for a in members])
    return max(readings, key=lambda keys: sum(key in wanted for key in keys))


def _joined(layer: str, leaf: str) -> str:
    # Keras 3 spells conv1/conv as conv1_conv; a reused session numbers names: conv1/conv_1.
    return re.sub(r"_\d+$", "", layer.replace("/", "_")) + f"/{leaf}"


def _classifier(rest: list[StoredArray]) -> tuple[Found, list[StoredArray]]:
    """Take the one dense layer, whatever its name, that stands on top of the network."""
    layers = {array.layer: [a for a in rest if a.layer == array.layer] for array in rest}
    dense = [name for name, members in layers.items() if {a.leaf for a in members} <= {"kernel", "bias"}]
    dense = [CLASSIFIER] if CLASSIFIER in dense else dense
    name = dense[0] if len(dense) == 1 else None
    top = {f"{CLASSIFIER}/{array.leaf}": array for array in (layers[name] if name is not None else ())}
    return top, [array for array in rest if array.layer != name]
