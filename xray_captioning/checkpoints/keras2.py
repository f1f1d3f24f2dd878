"""Read the arrays of a Keras 2 weights file, and nothing else that is in it.

Such a file lists its layers in the attribute ``layer_names``, and each layer's group lists its
arrays in ``weight_names``; a list too long for one attribute is divided over ``weight_names0``,
``weight_names1`` and so on. A file of a whole model has all that below the group ``model_weights``;
its ``model_config`` is never read, for it may hold code.

The HDF5 library can hang or crash on a damaged file (1.14 does). So another process opens the file,
with limits of time and memory, and sends back plain numbers.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import subprocess
import sys
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xray_captioning.checkpoints.arrays import StoredArray, shortened
from xray_captioning.errors import BundleError

MAXIMUM_BYTES = 2**30  # of all arrays of one file
MAXIMUM_NAMES = 20_000  # layers of a file, and arrays of a layer
MESSAGE = 280  # characters of a message after the path: names in a file may be long
CPU_SECONDS = 15  # longest time that one file is worked on; a gigabyte takes a few seconds
_WAIT_SECONDS = 300  # for a busy machine, or one that cannot limit the time a process works
_MEMORY = 6 * 2**30
_CODE = (
    "import sys; from xray_captioning.checkpoints.keras2 import send_arrays; "
    "send_arrays(*sys.argv[1:])"
)
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_BUILT_IN_FILTERS = {1, 2, 3}  # deflate, shuffle, Fletcher checksum; others are loaded as plugins
_DAMAGE = (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, MemoryError)


class _RefusedError(Exception):
    """What was found, as the rest of a sentence that begins with the file's path."""


def read_keras2(path: str | os.PathLike[str]) -> list[StoredArray]:
    """Read every array of a Keras 2 weights file, in the file's own order of layers and arrays.

    Arrays that the file lists and does not have are left out; arrays that a layer has and does not
    list come after those it lists.

    Parameters
    ----------
    path : str or os.PathLike
        HDF5, written by ``save_weights`` or ``save`` of Keras 2.

    Raises
    ------
    BundleError
        The file is missing, empty, damaged or something else; or it holds links, arrays outside
        itself, values that are no finite numbers, or more than `MAXIMUM_BYTES`.
    """
    path = Path(path)
    try:
        _check_signature(path)
        header, data = _ask_process(path)
        if "error" in header:
            raise _RefusedError(header["error"])
    except (_RefusedError, OSError) as error:
        raise BundleError(f"{path}: {shortened(str(error), MESSAGE)}") from error
    arrays, start = [], 0
    for layer, name, shape in header["arrays"]:
        values = np.frombuffer(data, np.float32, math.prod(shape), start).reshape(shape)
        arrays.append(StoredArray(layer, name, values))
        start += values.nbytes
    return arrays


def read_here(path: str | os.PathLike[str]) -> list[StoredArray]:
    """Do what `read_keras2` does in this process, which a damaged file may hang or crash."""
    import h5py

    path = Path(path)
    try:
        _check_signature(path)
        with h5py.File(path, "r") as file:
            return _arrays(_weights_group(file))
    except _RefusedError as error:
        raise BundleError(f"{path}: {shortened(str(error), MESSAGE)}") from error
    except _DAMAGE as error:
        raise BundleError(f"{path}: {_damaged(str(error))}") from error


def send_arrays(path: str, seconds: str) -> None:
    """Write to standard output what `read_here` returns: a line of JSON, then float32 numbers.

    Work for so many seconds at most, where the system can limit it.
    """
    _limit_this_process(int(seconds))
    try:
        arrays = read_here(path)
        header: dict[str, Any] = {"arrays": [(a.layer, a.name, a.values.shape) for a in arrays]}
    except BundleError as error:
        arrays, header = [], {"error": str(error).removeprefix(f"{Path(path)}: ")}
    sys.stdout.buffer.write(json.dumps(header).encode() + b"\n")
    for array in arrays:
        sys.stdout.buffer.write(array.values.tobytes())
    sys.stdout.flush()


def is_keras2(path: Path) -> bool:
    """Return whether a file is HDF5 with the attributes that Keras 2 writes."""
    import h5py

    try:
        _check_signature(path)
        with h5py.File(path, "r") as file:
            return _weights_group(file) is not None
    except (_RefusedError, *_DAMAGE):
        return False


def _check_signature(path: Path) -> None:
    if not path.is_file():
        raise _RefusedError("no such file; give the path of a Keras 2 weights file (.h5)")
    with path.open("rb") as file:
        start = file.read(len(_SIGNATURE))
    if start != _SIGNATURE:
        what = f"begins with {start!r}" if start else "is empty"
        if start[:2] == b"PK":
            what = "is a zip archive, as a .keras file or PyTorch's"
        raise _RefusedError(f"is not an HDF5 file (it {what}); download or copy it again")


def _damaged(reason: str) -> str:
    reason = " ".join(reason.split())[:120]
    return f"truncated or damaged HDF5 ({reason}); download or copy it again"


def _ask_process(path: Path) -> tuple[dict[str, Any], memoryview]:
    """Have another process read the file; return its line of JSON and the numbers after it."""
    search = os.pathsep.join(place or "." for place in sys.path)
    environment = {**os.environ, "PYTHONPATH": search, "OPENBLAS_NUM_THREADS": "1"}
    line = [sys.executable, "-c", _CODE, str(path), str(CPU_SECONDS)]
    try:
        done = subprocess.run(
            line, env=environment, capture_output=True, timeout=_WAIT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise _RefusedError(_damaged("reading it does not end")) from error
    end = done.stdout.find(b"\n")
    if done.returncode or end < 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        reason = " ".join(last) or "reading it crashes"
        raise _RefusedError(_damaged(reason))
    return json.loads(done.stdout[:end]), memoryview(done.stdout)[end + 1 :]


def _limit_this_process(seconds: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    for kind, limit in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, _MEMORY)):
        with contextlib.suppress(ValueError, OSError):  # a system that cannot, or a lower limit
            resource.setrlimit(kind, (limit, limit))


def _weights_group(file: Any) -> Any:
    for group in (file, _follow(file, "model_weights")):
        if group is not None and {"layer_names", "layer_names0"} & set(group.attrs):
            return group
    if _follow(file, "layers") is not None:
        raise _RefusedError(
            "holds weights as Keras 3 writes them (.weights.h5), not Keras 2; save the model with "
            "Keras 2, or as .h5 with Keras 3"
        )
    raise _RefusedError(
        "holds no weights as Keras 2 writes them (no layer_names); give the .h5 file that the "
        "older project published"
    )


def _arrays(root: Any) -> list[StoredArray]:
    left, datasets = MAXIMUM_BYTES, []
    for layer in dict.fromkeys(_listed(root, "layer_names") or ()):
        group = _follow(root, layer)
        for name in _array_names(group, layer) if group is not None else ():
            dataset = _follow(group, name)
            if dataset is not None:
                left -= _checked_size(dataset, f"{layer}/{name}", left)
                datasets.append((layer, name, dataset))
    return [
        StoredArray(layer, re.sub(r":\d+$", "", name), _values(dataset, f"{layer}/{name}"))
        for layer, name, dataset in datasets
    ]


def _array_names(group: Any, layer: str) -> list[str]:
    """Names that a layer lists, in its order, and those of arrays it has beside them."""
    import h5py

    listed = _listed(group, "weight_names")
    if listed is None:
        raise _RefusedError(
            f"layer {layer} lists no weight_names, so their order is unknown; get the file again"
        )
    present: list[str] = []

    def visit(name: str, item: Any) -> bool | None:  # meets each item once and follows no link
        if isinstance(item, h5py.Dataset):
            present.append(name)
        return len(present) > MAXIMUM_NAMES or None

    group.visititems(visit)
    return list(dict.fromkeys([*listed, *present]))


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
    if items > MAXIMUM_NAMES or items * stored.dtype.itemsize > 2**26:
        raise _RefusedError(f"its {attribute} has {items:,} entries, more than any model; refused")
    if stored.dtype.kind != "S" and h5py.check_string_dtype(stored.dtype) is None:
        raise _RefusedError(f"its {attribute} is no list of names; download or copy it again")
    values = np.ravel(np.asarray(group.attrs[attribute]))
    texts = [v.decode("utf-8") if isinstance(v, bytes) else str(v) for v in values]
    for text in texts:
        if not text.isprintable() or not 0 < len(text) <= 500:
            raise _RefusedError(f"its {attribute} has a name no layer has ({text[:40]!r}); refused")
    return texts


def _follow(group: Any, path: str) -> Any:
    """Return the item at a path below a group, or None; only what lies in the file itself."""
    import h5py

    item = group
    for part in path.split("/"):
        if not isinstance(item, h5py.Group):
            return None
        link = item.get(part, getlink=True) if part else None
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            kind = type(link).__name__.removesuffix("Link").lower()
            raise _RefusedError(f"{path} is a link ({kind}), which no weights file needs; refused")
        item = item[part]
    return item


def _checked_size(dataset: Any, label: str, left: int) -> int:
    """Refuse what is no plain array of numbers in this file, before memory is taken for it."""
    import h5py

    if not isinstance(dataset, h5py.Dataset):
        raise _RefusedError(f"{label} is no array; download or copy it again")
    kind = dataset.dtype
    if kind.kind != "f" or kind.itemsize > 8 or dataset.shape is None:
        raise _RefusedError(f"{label} holds {kind}, not floating-point numbers; refused")
    size = math.prod(dataset.shape) * max(kind.itemsize, 4)
    if size > left or math.prod(dataset.chunks or (0,)) * kind.itemsize > MAXIMUM_BYTES:
        raise _RefusedError(
            f"{label} has shape {dataset.shape}, and arrays of more than {MAXIMUM_BYTES >> 20} MiB "
            "altogether are refused; no published file has so many weights"
        )
    creation = dataset.id.get_create_plist()
    filters = {creation.get_filter(i)[0] for i in range(creation.get_nfilters())}
    if dataset.external or dataset.is_virtual or not filters <= _BUILT_IN_FILTERS:
        raise _RefusedError(f"{label} is not stored plainly in this file; refused")
    needed = 1 if filters else math.prod(dataset.shape) * kind.itemsize
    if dataset.size and dataset.id.get_storage_size() < needed:
        raise _RefusedError(f"{label} of shape {dataset.shape} was never written; get it again")
    return size


def _values(dataset: Any, label: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        values = np.asarray(dataset[()], np.float32)
    if not np.isfinite(values).all():
        raise _RefusedError(f"{label} holds values that are no finite numbers; get the file again")
    return values
