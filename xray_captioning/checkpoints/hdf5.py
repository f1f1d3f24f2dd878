"""Arrays of HDF5 files of Keras 2 and 3 (``.h5``, ``.weights.h5``, ``.keras``), and nothing else.

The HDF5 library can hang or crash on a damaged file (1.14 does), so another process opens it, with limits of time and
memory, and sends back plain numbers. No link is followed, and never a model's configuration read, which may hold code.
A file of Keras 2 lists its layers in ``layer_names``, and a layer's arrays in ``weight_names`` (if long
``weight_names0``, ...), of a whole model below the group ``model_weights``; one of Keras 3 has any groups.
"""

import contextlib
import io
import json
import math
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import numpy as np

from xray_captioning.checkpoints import arrays
from xray_captioning.checkpoints.arrays import MAXIMUM_BYTES, Array, Budget, RefusedError, StoredArray, shortened
from xray_captioning.errors import BundleError

CPU_SECONDS = 15  # longest time that a gigabyte of a file is worked on; it takes a few
SIGNATURE = b"\x89HDF\r\n\x1a\n"
WEIGHTS = "model.weights.h5"  # in a .keras file
_DAMAGE = (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, MemoryError)
_WAIT_SECONDS = 300  # for a busy machine, or one that cannot limit the time a process works
_CODE = f"import sys; from {__name__} import send_arrays; send_arrays(*sys.argv[1:])"
_BUILT_IN_FILTERS = {1, 2, 3}  # deflate, shuffle, Fletcher checksum; others are loaded as plugins


def read_keras2(path: str | os.PathLike[str]) -> list[StoredArray]:
    """Read every array of a Keras 2 weights file as float32, in its order; those that a layer does not list come last.
    What is damaged or something else, or has arrays outside itself or numbers that are not finite, is a BundleError.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise RefusedError("no such file; give the path of a Keras weights file (.h5)")
        if (start := arrays.first_bytes(path, len(SIGNATURE))) != SIGNATURE:
            begins = f"begins with {start!r}" if start else "is empty"
            what = "is a zip archive, as a .keras file" if start[:2] == b"PK" else begins
            raise RefusedError(f"is not an HDF5 file (it {what}); download or copy it again")
        found = ask_process(path)
        if not all(array.layer for array in found):
            raise RefusedError("has no layer_names: it is as Keras 3 writes them; save the model as .h5")
        with np.errstate(over="ignore"):
            found = [array._replace(values=array.values.astype(np.float32, copy=False)) for array in found]
        if odd := [array.label for array in found if not np.isfinite(array.values).all()]:
            raise RefusedError(f"{odd[0]} holds values that are no finite numbers; get the file again")
        return found
    except (RefusedError, OSError) as error:
        raise BundleError(f"{path}: {shortened(str(error), arrays.MESSAGE)}") from error


def ask_process(path: Path, limit: int = MAXIMUM_BYTES) -> list[StoredArray]:
    """Have another process read the arrays of a file; those of Keras 3 have no layer."""
    header, data = _answer(path, limit)
    if "error" in header:
        raise RefusedError(header["error"])
    found, start = [], 0
    for layer, name, shape, kind in header["arrays"]:
        values = np.frombuffer(data, kind, math.prod(shape), start).reshape(shape)
        found.append(StoredArray(layer, name, values))
        start += values.nbytes
    return found


def _answer(path: Path, limit: int) -> tuple[dict[str, Any], memoryview]:
    """Return the line of JSON that another process writes of a file, and the numbers after it."""
    places = os.pathsep.join(place or "." for place in sys.path)
    environment = {**os.environ, "PYTHONPATH": places, "OPENBLAS_NUM_THREADS": "1"}
    line = [sys.executable, "-c", _CODE, str(path), str(CPU_SECONDS * (1 + path.stat().st_size // 2**30)), str(limit)]
    try:
        done = subprocess.run(line, env=environment, capture_output=True, timeout=_WAIT_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise _damaged("reading it does not end") from error
    end = done.stdout.find(b"\n")
    if done.returncode or end < 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise _damaged(" ".join(last) or "reading it crashes")
    return json.loads(done.stdout[:end]), memoryview(done.stdout)[end + 1 :]


def send_arrays(path: str, seconds: str, limit: str) -> None:
    """Write to standard output what `read_here` returns: a line of JSON, then the numbers."""
    _limit_this_process(int(seconds), 4 * int(limit) + 2**31)
    found: list[StoredArray] = []
    try:
        found = read_here(Path(path), int(limit))
        header: Any = {"arrays": [(a.layer, a.name, a.values.shape, a.values.dtype.str) for a in found]}
    except RefusedError as error:
        header = {"error": str(error)}
    sys.stdout.buffer.write(json.dumps(header).encode() + b"\n")
    for array in found:
        sys.stdout.buffer.write(array.values.tobytes())
    sys.stdout.flush()


def _limit_this_process(seconds: int, memory: int) -> None:
    with contextlib.suppress(ImportError):  # Windows
        import resource

        for kind, limit in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, memory)):
            with contextlib.suppress(ValueError, OSError):  # a system that cannot, or a lower limit
                resource.setrlimit(kind, (limit, limit))


def _damaged(reason: str) -> RefusedError:
    return RefusedError(f"truncated or damaged HDF5 ({' '.join(reason.split())[:120]}); download or copy it again")


def is_hdf5(path: Path) -> bool:
    """Return whether a path is a file that begins as HDF5."""
    return path.is_file() and arrays.first_bytes(path, len(SIGNATURE)) == SIGNATURE


def is_keras2(path: Path) -> bool:
    """Return whether a file is HDF5 with the attributes that Keras 2 writes."""
    import h5py

    with contextlib.suppress(*_DAMAGE), h5py.File(path, "r") as file:
        groups = (file, file.get("model_weights", file))
        return any({"layer_names", "layer_names0"} & set(group.attrs) for group in groups)
    return False


def read_here(path: Path, limit: int = MAXIMUM_BYTES) -> list[StoredArray]:
    """Read the arrays of a file of Keras in this process, which a damaged file may hang or crash."""
    import h5py

    budget = Budget(limit)
    source: Any = path
    try:
        if arrays.first_bytes(path, 2) == b"PK":
            with zipfile.ZipFile(path) as archive:
                source = io.BytesIO(arrays.entry(archive, arrays.entries(archive), WEIGHTS, Budget(limit)))
        with h5py.File(source, "r") as file:
            # All are paid for before the first is read.
            found = [(*one, _checked_kind(*one, budget)) for one in _datasets(file)]
            return [StoredArray(layer, re.sub(r":\d+$", "", n), _numbers(*rest)) for layer, n, *rest in found]
    except _DAMAGE as error:
        raise _damaged(str(error)) from error


def _datasets(file: Any) -> list[tuple[str, str, Any]]:
    """Return layer, name and dataset of each array."""
    import h5py

    items = _items(file)
    found = [("", name, item) for name, item in items.items() if not name.startswith("optimizer/")]
    for group in (items.get("model_weights"), file):  # the file's own list comes first
        if group is not None and (layers := _listed(group, "layer_names")) is not None:
            found = list(_of_layers(_items(group), layers))
    if not (found := [one for one in found if isinstance(one[2], h5py.Dataset)]):
        raise RefusedError("an HDF5 file without arrays; give the file of the weights")
    return found


def _of_layers(groups: dict[str, Any], layers: list[str]) -> Iterator[tuple[str, str, Any]]:
    """Yield what each layer lists, in its order, and what it has beside that."""
    for layer in (layer for layer in dict.fromkeys(layers) if layer in groups):
        listed, items = _listed(groups[layer], "weight_names"), _items(groups[layer])
        if listed is None:
            raise RefusedError(f"layer {layer} lists no weight_names, so their order is unknown; get the file again")
        yield from ((layer, name, items[name]) for name in dict.fromkeys([*listed, *items]) if name in items)


def _items(group: Any) -> dict[str, Any]:
    """Return groups and arrays in a group and below by their paths, each once; follow no link."""
    items: dict[str, Any] = {}

    def visit(name: str, item: Any) -> bool | None:
        items[name] = item
        return len(items) > 2 * arrays.MAXIMUM_NAMES or None

    group.visititems(visit)
    return items


def _listed(group: Any, attribute: str) -> list[str] | None:
    """Names in an attribute, or in its numbered parts; None where there is neither."""
    numbered = (f"{attribute}{i}" for i in count())
    whole = [attribute] if attribute in group.attrs else []
    parts = whole or list(takewhile(lambda name: name in group.attrs, numbered))
    values = [value for part in parts for value in np.ravel(group.attrs[part]).tolist()]
    texts = [value.decode("utf-8") if isinstance(value, bytes) else value for value in values]
    for text in texts:
        if not isinstance(text, str) or not text.isprintable() or not 0 < len(text) <= 500:
            raise RefusedError(f"its {attribute} has a name no layer has ({text!r:.40}); refused")
    return texts if parts else None


def _checked_kind(layer: str, name: str, dataset: Any, budget: Budget) -> str:
    """Return how numbers are stored, such as ``f4``; refuse what is no plain array before it is read."""
    label, stored = shortened(f"{layer}/{name}".lstrip("/"), 80), dataset.dtype
    kind = f"{stored.kind}{stored.itemsize}"
    if kind == "V2" and dataset.attrs.get("dtype") == "bfloat16":
        kind = "bf16"  # as Keras 3 writes it
    elif stored.kind not in "fiub" or stored.itemsize > 8 or dataset.shape is None:
        raise RefusedError(f"{label} holds {str(stored)[:40]}, not numbers; refused")
    if math.prod(dataset.chunks or (0,)) * stored.itemsize > budget.limit:
        raise RefusedError(f"{label} has pieces of more than {budget.limit >> 20:,} MiB; refused")
    budget.pay(math.prod(dataset.shape) * arrays.result_size(kind), label)
    creation = dataset.id.get_create_plist()
    filters = {creation.get_filter(i)[0] for i in range(creation.get_nfilters())}
    if dataset.external or dataset.is_virtual or not filters <= _BUILT_IN_FILTERS:
        raise RefusedError(f"{label} is not stored plainly in this file; refused")
    if dataset.size and dataset.id.get_storage_size() < (1 if filters else math.prod(dataset.shape) * stored.itemsize):
        raise RefusedError(f"{label} of shape {dataset.shape} was never written; get it again")
    return kind


def _numbers(dataset: Any, kind: str) -> Array:
    values = np.asarray(dataset[()])
    return arrays.plain(values.view(np.uint16) if kind == "bf16" else values, kind)
