"""Arrays of the files that Keras 2 and 3 write: ``.h5``, ``.weights.h5``, ``.keras``.

Of a ``.keras`` file only the weights in it are opened: its configuration may hold code.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from xray_captioning.checkpoints.arrays import StoredArray, shortened
from xray_captioning.checkpoints.hdf5 import (
    DAMAGE,
    as_bundle_error,
    checked_kind,
    numbers,
    opened,
    send,
)
from xray_captioning.checkpoints.keras2 import keras2_arrays, keras2_group
from xray_captioning.checkpoints.limits import (
    MAXIMUM_BYTES,
    MAXIMUM_NAMES,
    Budget,
    RefusedError,
)

_OPTIMISER = "optimizer/"  # what it keeps is no weight of the model


def read_here(path: str | os.PathLike[str], limit: int = MAXIMUM_BYTES) -> list[StoredArray]:
    """Read the arrays of a file of Keras in this process, which a damaged file may hang or crash.

    Those of Keras 3 have no layer; their names are their paths in the file.
    """
    path = Path(path)
    try:
        with opened(path, limit) as file:
            group, budget = keras2_group(file), Budget(limit)
            return keras3_arrays(file, budget) if group is None else keras2_arrays(group, budget)
    except (RefusedError, *DAMAGE) as error:
        raise as_bundle_error(path, error) from error


def send_arrays(path: str, seconds: str, limit: str) -> None:
    """Write to standard output what `read_here` returns, as `hdf5.send` says."""
    send(path, read_here, seconds, limit)


def keras3_arrays(file: Any, budget: Budget) -> list[StoredArray]:
    """Return the arrays of an open file in any groups, such as ``layers/dense/vars/0``."""
    import h5py

    found: dict[str, Any] = {}

    def visit(name: str, item: Any) -> bool | None:  # meets each item once and follows no link
        if isinstance(item, h5py.Dataset) and not name.startswith(_OPTIMISER):
            found[name] = item
        return len(found) > MAXIMUM_NAMES or None

    file.visititems(visit)
    if not found:
        raise RefusedError("an HDF5 file without arrays; give the file of the weights")
    kinds = {
        name: checked_kind(item, shortened(name, 80), "fiub", budget)
        for name, item in found.items()
    }
    return [StoredArray("", name, numbers(item, kinds[name])) for name, item in found.items()]
