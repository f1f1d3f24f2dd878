"""Arrays of files of Keras 2 and 3 (``.h5``, ``.weights.h5``, ``.keras``), and nothing else.

A file of Keras 2 lists its layers in the attribute ``layer_names``, and each layer's group lists
its arrays in ``weight_names``; a list too long for one attribute is divided over ``weight_names0``,
``weight_names1`` and so on. A file of a whole model has all that below the group ``model_weights``.
In a file of Keras 3 arrays lie in any groups. A model's configuration is never read, for it may
hold code.
"""

import math
import os
import re
from collections.abc import Iterator
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xray_captioning.checkpoints.arrays import StoredArray, shortened
from xray_captioning.checkpoints.hdf5 import (
    DAMAGE,
    ask_process,
    check_signature,
    checked_kind,
    damaged,
    follow,
    numbers,
    opened,
    send,
)
from xray_captioning.checkpoints.limits import (
    MAXIMUM_BYTES,
    MAXIMUM_NAMES,
    MESSAGE,
    Budget,
    RefusedError,
)
from xray_captioning.errors import BundleError

MAXIMUM_LISTED = 20_000  # layers of a file, and arrays of a layer
_OPTIMISER = "optimizer/"  # what it keeps is no weight of the model


def read_keras2(path: str | os.PathLike[str]) -> list[StoredArray]:
    """Read every array of a Keras 2 weights file, in the file's own order of layers and arrays.

    Arrays that the file lists and does not have are left out; arrays that a layer has and does not
    list come after those it lists.

    Parameters
    ----------
    path : str or os.PathLike
        HDF5, written by ``save_weights`` or ``save`` of Keras 2.

    Returns
    -------
    list of StoredArray
        All float32, whatever the file holds.

    Raises
    ------
    BundleError
        The file is missing, empty, damaged or something else; or it holds links, arrays outside
        itself, values that are no finite numbers, or too many of them.
    """
    path = Path(path)
    try:
        check_signature(path)
        arrays = ask_process(path)
        if not all(array.layer for array in arrays):
            raise RefusedError(
                "has no layer_names: it holds weights as Keras 3 writes them (.weights.h5), not "
                "Keras 2; save the model with Keras 2, or as .h5 with Keras 3"
            )
        return arrays
    except (RefusedError, OSError) as error:
        raise BundleError(f"{path}: {shortened(str(error), MESSAGE)}") from error


def is_keras2(path: Path) -> bool:
    """Return whether a file is HDF5 with the attributes that Keras 2 writes."""
    try:
        check_signature(path)
        with opened(path) as file:
            return keras2_group(file) is not None
    except (RefusedError, *DAMAGE):
        return False


def read_here(path: str | os.PathLike[str], limit: int = MAXIMUM_BYTES) -> list[StoredArray]:
    """Read the arrays of a file of Keras in this process, which a damaged file may hang or crash.

    Those of Keras 3 have no layer; their names are their paths in the file.
    """
    path = Path(path)
    try:
        with opened(path, limit) as file:
            group, budget = keras2_group(file), Budget(limit)
            return keras3_arrays(file, budget) if group is None else keras2_arrays(group, budget)
    except RefusedError as error:
        raise BundleError(f"{path}: {shortened(str(error), MESSAGE)}") from error
    except DAMAGE as error:
        raise BundleError(f"{path}: {damaged(str(error))}") from error


def send_arrays(path: str, seconds: str, limit: str) -> None:
    """Write to standard output what `read_here` returns, as `hdf5.send` says."""
    send(path, read_here, seconds, limit)


def keras2_group(file: Any) -> Any:
    """Return the group of an open file that lists layers, or None."""
    for group in (file, follow(file, "model_weights")):
        if group is not None and {"layer_names", "layer_names0"} & set(group.attrs):
            return group
    return None


def keras2_arrays(root: Any, budget: Budget) -> list[StoredArray]:
    """Return the arrays of all layers that a group lists."""
    datasets = list(_datasets(root))
    for layer, name, dataset in datasets:  # all are paid for before the first is read
        checked_kind(dataset, shortened(f"{layer}/{name}", 80), "f", budget)
    return [
        StoredArray(layer, re.sub(r":\d+$", "", name), _values(dataset, f"{layer}/{name}"))
        for layer, name, dataset in datasets
    ]


def keras3_arrays(file: Any, budget: Budget) -> list[StoredArray]:
    """Return the arrays of an open file in any groups, such as ``layers/dense/vars/0``."""
    found = {n: file[n] for n in _present(file) if not n.startswith(_OPTIMISER)}
    if not found:
        raise RefusedError("an HDF5 file without arrays; give the file of the weights")
    kinds = {
        name: checked_kind(item, shortened(name, 80), "fiub", budget)
        for name, item in found.items()
    }
    return [StoredArray("", name, numbers(item, kinds[name])) for name, item in found.items()]


def _datasets(root: Any) -> Iterator[tuple[str, str, Any]]:
    for layer in dict.fromkeys(_listed(root, "layer_names") or ()):
        group = follow(root, layer)
        for name in _array_names(group, layer) if group is not None else ():
            dataset = follow(group, name)
            if dataset is not None:
                yield layer, name, dataset


def _array_names(group: Any, layer: str) -> list[str]:
    """Names that a layer lists, in its order, and those of arrays it has beside them."""
    listed = _listed(group, "weight_names")
    if listed is None:
        raise RefusedError(
            f"layer {layer} lists no weight_names, so their order is unknown; get the file again"
        )
    return list(dict.fromkeys([*listed, *_present(group)]))


def _present(group: Any) -> list[str]:
    """Return the names of the arrays in a group and below, each once; no link is followed."""
    import h5py

    present: list[str] = []

    def visit(name: str, item: Any) -> bool | None:
        if isinstance(item, h5py.Dataset):
            present.append(name)
        return len(present) > MAXIMUM_NAMES or None

    group.visititems(visit)
    return present


def _listed(group: Any, attribute: str) -> list[str] | None:
    """Names in an attribute, or in its numbered parts; None where there is neither."""
    if attribute in group.attrs:
        return _texts(group, attribute)
    numbered = (f"{attribute}{i}" for i in count())
    parts = list(takewhile(lambda name: name in group.attrs, numbered))
    return [text for part in parts for text in _texts(group, part)] if parts else None


def _texts(group: Any, attribute: str) -> list[str]:
    import h5py

    stored = group.attrs.get_id(attribute)
    items = math.prod(stored.shape or (0,))
    if not items:  # Keras writes no names as an empty array of numbers
        return []
    if items > MAXIMUM_LISTED or items * stored.dtype.itemsize > 2**26:
        raise RefusedError(f"its {attribute} has {items:,} entries, more than any model; refused")
    if stored.dtype.kind != "S" and h5py.check_string_dtype(stored.dtype) is None:
        raise RefusedError(f"its {attribute} is no list of names; download or copy it again")
    values = np.ravel(np.asarray(group.attrs[attribute]))
    texts = [v.decode("utf-8") if isinstance(v, bytes) else str(v) for v in values]
    for text in texts:
        if not text.isprintable() or not 0 < len(text) <= 500:
            raise RefusedError(f"its {attribute} has a name no layer has ({text[:40]!r}); refused")
    return texts


def _values(dataset: Any, label: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        values = np.asarray(dataset[()], np.float32)
    if not np.isfinite(values).all():
        raise RefusedError(f"{label} holds values that are no finite numbers; get the file again")
    return values
