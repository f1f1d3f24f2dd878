"""Arrays of an ``.npz`` file; those of objects, which are pickles, are refused."""

from __future__ import annotations

import io
import zipfile

import numpy as np

from xray_captioning.checkpoints.limits import Array, Budget, RefusedError, plain, result_size
from xray_captioning.checkpoints.zips import entries, entry


def read_npz(archive: zipfile.ZipFile, budget: Budget) -> dict[str, Array]:
    """Read all arrays of an archive that ``np.savez`` or ``np.savez_compressed`` wrote."""
    members, stored = entries(archive), Budget(budget.limit)
    return {
        name.removesuffix(".npy"): _array(entry(archive, members, name, stored), name, budget)
        for name in members
    }


def _array(data: bytes, name: str, budget: Budget) -> Array:
    """Return the array of an ``.npy`` file."""
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        old, new = np.lib.format.read_array_header_1_0, np.lib.format.read_array_header_2_0
        shape, columns_first, kind = (old if version == (1, 0) else new)(file)
        if kind.kind not in "fiubc":
            raise RefusedError(f"{name[:60]!r} holds {str(kind)[:40]}, not numbers; refused")
        flat = np.frombuffer(data, kind, offset=file.tell())
        values = flat.reshape(shape, order="F" if columns_first else "C")
    except ValueError as error:
        raise RefusedError(
            f"{name[:60]!r} is no array, or truncated ({str(error)[:60]}); save the file again"
        ) from error
    code = f"{kind.kind}{kind.itemsize}"
    budget.pay(values.size * result_size(code), name)
    return plain(values, code)
