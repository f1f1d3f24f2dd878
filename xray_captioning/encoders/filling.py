"""Arrays of somebody else's file into the variables of a network."""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from xray_captioning.backend import keras
from xray_captioning.checkpoints import StoredArray, looks_like, mismatches, read_arrays
from xray_captioning.errors import BundleError

# What PyTorch calls the arrays of a layer.
_PYTORCH = {"kernel": "weight", "gamma": "weight", "beta": "bias"}
_PYTORCH |= {"moving_mean": "running_mean", "moving_variance": "running_var"}
_PYTORCH |= {"class_token": "cls_token", "positions": "position_embeddings"}
_PYTORCH |= {"registers": "register_tokens"}


def load_pytorch(
    model: Any,
    path: Path,
    what: str,
    left_out: str,
    name_of: Callable[[str], str] = str,
    arrays: Mapping[str, NDArray[Any]] | None = None,
) -> None:
    """Fill a network whose layers have the names that PyTorch's modules have in a file.

    `what` names the network in messages, `left_out` is a regular expression of names that it does
    not need, such as its classifier's, and `name_of` gives a layer's name in the file. `arrays` are
    the file's, where they have been read. A file that cannot be read, or is not of this network,
    is a BundleError.
    """
    layers = {
        f"{name_of(layer.name)}.{_PYTORCH.get(variable.name, variable.name)}": (layer, variable)
        for layer in model.layers
        for variable in layer.weights
    }
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
    owners = [name.removesuffix(first) for name in arrays if name.endswith(first)]
    owner = min(owners, key=len, default="")
    inside = {n.removeprefix(owner): a for n, a in arrays.items() if n.startswith(owner)}
    # torchvision's files of 2017 name a dense layer's parts norm.1 and conv.2.
    old = r"(denselayer\d+\.(?:norm|conv))\.(\d)\."
    return {re.sub(old, r"\1\2.", name): values for name, values in inside.items()}


def _turned(values: NDArray[Any], layer: Any, variable: Any) -> NDArray[Any]:
    """Return an array with its axes as Keras has them: channels last, and inputs before outputs."""
    if values.shape == (1, *variable.shape):
        return values[0]
    if values.ndim == 4:
        each_channel = isinstance(layer, keras.layers.DepthwiseConv2D)
        return values.transpose((2, 3, 0, 1) if each_channel else (2, 3, 1, 0))
    return values.T if isinstance(layer, keras.layers.Dense) else values


def check(
    path: str | os.PathLike[str],
    what: str,
    shapes: Mapping[str, tuple[int, ...]],
    found: Mapping[str, StoredArray],
    extra: Iterable[StoredArray],
) -> None:
    """Raise a BundleError that says which arrays of a file are missing, misshapen or unknown.
    Of another model it says only what that seems to be. `what` names the model in the message; the
    rest is as `mismatches` takes it.
    """
    extra = list(extra)
    clauses = mismatches(shapes, found, extra)
    if clauses and len(found) < len(shapes) / 2:
        seems = looks_like([*found.values(), *extra])
        raise BundleError(
            f"{path}: is not {what}, of whose {len(shapes)} arrays it has {len(found)}; it seems "
            f"to be another model: {seems}; give the file of {what}"
        )
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
