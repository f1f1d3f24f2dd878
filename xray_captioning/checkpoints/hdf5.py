"""Arrays of HDF5 files of Keras 2 and 3 (``.h5``, ``.weights.h5``, ``.keras``), and nothing else.

The HDF5 library can hang or crash on a damaged file (1.14 does). So another process opens the file,
with limits of time and memory, and sends back plain numbers. Nothing but plain arrays of numbers
that lie in the file itself is read; never a model's configuration, which may hold code.

A file of Keras 2 lists its layers in the attribute ``layer_names``, and each layer's group lists
its arrays in ``weight_names``; a list too long for one attribute is divided over ``weight_names0``,
``weight_names1`` and so on. A file of a whole model has all that below the group ``model_weights``.
In a file of Keras 3 arrays lie in any groups.
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
from xray_captioning.checkpoints.arrays import Array, Budget, RefusedError, StoredArray, shortened
from xray_captioning.errors import BundleError

CPU_SECONDS = 15  # longest time that a gigabyte of a file is worked on; it takes a few
SIGNATURE = b"\x89HDF\r\n\x1a\n"
DAMAGE = (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, MemoryError)
WEIGHTS = "model.weights.h5"  # in a .keras file
_WAIT_SECONDS = 300  # for a busy machine, or one that cannot limit the time a process works
_CODE = f"import sys; from {__name__} import send_arrays; send_arrays(*sys.argv[1:])"
_MAXIMUM_LISTED = 20_000  # layers of a file, and arrays of a layer
_BUILT_IN_FILTERS = {1, 2, 3}  # deflate, shuffle, Fletcher checksum; others are loaded as plugins


def ask_process(path: Path, limit: int = arrays.MAXIMUM_BYTES) -> list[StoredArray]:
    """Have another process read the arrays of a file, and return them."""
    header, data = _answer(path, limit)
    if "error" in header:
        raise RefusedError(header["error"])
    found, start = [], 0
    for layer, name, shape, kind in header["arrays"]:
        values = np.frombuffer(data, kind, math.prod(shape), start).reshape(shape)
        found.append(StoredArray(layer, name, values))
        start += values.nbytes
    return found


def send_arrays(path: str, seconds: str, limit: str) -> None:
    """Write to standard output what `read_here` returns: a line of JSON, then the numbers.
    Work for so many seconds at most, where the system can limit it.
    """
    _limit_this_process(int(seconds), 4 * int(limit) + 2**31)
    try:
        found = read_here(path, int(limit))
        about = [(a.layer, a.name, a.values.shape, a.values.dtype.str) for a in found]
        header: dict[str, Any] = {"arrays": about}
    except BundleError as error:
        found, header = [], {"error": str(error).removeprefix(f"{Path(path)}: ")}
    sys.stdout.buffer.write(json.dumps(header).encode() + b"\n")
    for array in found:
        sys.stdout.buffer.write(array.values.tobytes())
    sys.stdout.flush()


@contextlib.contextmanager
def opened(path: Path, limit: int = arrays.MAXIMUM_BYTES) -> Iterator[Any]:
    """Open an HDF5 file, or the one in a ``.keras`` file, in this process."""
    import h5py

    if path.is_file() and arrays.first_bytes(path, 2) == b"PK":
        with zipfile.ZipFile(path) as archive:
            members = arrays.entries(archive)
            source: Any = io.BytesIO(arrays.entry(archive, members, WEIGHTS, Budget(limit)))
    else:
        check_signature(path)
        source = path
    with h5py.File(source, "r") as file:
        yield file


def is_hdf5(path: Path) -> bool:
    """Return whether a path is a file that begins as HDF5."""
    return path.is_file() and arrays.first_bytes(path, len(SIGNATURE)) == SIGNATURE


def check_signature(path: Path) -> None:
    """Refuse a file that is missing or does not begin as HDF5."""
    if not path.is_file():
        raise RefusedError("no such file; give the path of a Keras weights file (.h5)")
    start = arrays.first_bytes(path, len(SIGNATURE))
    if start != SIGNATURE:
        what = f"begins with {start!r}" if start else "is empty"
        if start[:2] == b"PK":
            what = "is a zip archive, as a .keras file or PyTorch's"
        raise RefusedError(f"is not an HDF5 file (it {what}); download or copy it again")


def damaged(reason: str) -> str:
    """Return the message for a file that the library cannot read."""
    reason = " ".join(reason.split())[:120]
    return f"truncated or damaged HDF5 ({reason}); download or copy it again"


def follow(group: Any, path: str) -> Any:
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
            raise RefusedError(f"{path} is a link ({kind}), which no weights file needs; refused")
        item = item[part]
    return item


def checked_kind(dataset: Any, label: str, kinds: str, budget: Budget) -> str:
    """Return how a dataset's numbers are stored, such as ``f4``.
    What is no plain array in this file, or of none of the kinds (``f`` for floating-point, ``i``
    ...), is refused before memory is taken for it.
    """
    import h5py

    if not isinstance(dataset, h5py.Dataset):
        raise RefusedError(f"{label} is no array; download or copy it again")
    stored = dataset.dtype
    kind = f"{stored.kind}{stored.itemsize}"
    if kinds != "f" and kind == "V2" and dataset.attrs.get("dtype") == "bfloat16":
        kind = "bf16"  # as Keras 3 writes it
    elif stored.kind not in kinds or stored.itemsize > 8 or dataset.shape is None:
        what = "floating-point numbers" if kinds == "f" else "numbers"
        raise RefusedError(f"{label} holds {str(stored)[:40]}, not {what}; refused")
    chunk = math.prod(dataset.chunks or (0,)) * stored.itemsize
    if chunk > budget.limit:
        raise RefusedError(f"{label} has pieces of more than {budget.limit >> 20:,} MiB; refused")
    budget.pay(math.prod(dataset.shape) * arrays.result_size(kind), label)
    _check_storage(dataset, label)
    return kind


def _check_storage(dataset: Any, label: str) -> None:
    creation = dataset.id.get_create_plist()
    filters = {creation.get_filter(i)[0] for i in range(creation.get_nfilters())}
    if dataset.external or dataset.is_virtual or not filters <= _BUILT_IN_FILTERS:
        raise RefusedError(f"{label} is not stored plainly in this file; refused")
    needed = 1 if filters else math.prod(dataset.shape) * dataset.dtype.itemsize
    if dataset.size and dataset.id.get_storage_size() < needed:
        raise RefusedError(f"{label} of shape {dataset.shape} was never written; get it again")


def numbers(dataset: Any, kind: str) -> Array:
    """Return the numbers of a checked dataset."""
    values = np.asarray(dataset[()])
    return arrays.plain(values.view(np.uint16) if kind == "bf16" else values, kind)


def _answer(path: Path, limit: int) -> tuple[dict[str, Any], memoryview]:
    """Return the line of JSON that another process writes of a file, and the numbers after it."""
    search = os.pathsep.join(place or "." for place in sys.path)
    environment = {**os.environ, "PYTHONPATH": search, "OPENBLAS_NUM_THREADS": "1"}
    seconds = CPU_SECONDS * (1 + path.stat().st_size // 2**30)
    line = [sys.executable, "-c", _CODE, str(path), str(seconds), str(limit)]
    try:
        done = subprocess.run(line, env=environment, capture_output=True, timeout=_WAIT_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise RefusedError(damaged("reading it does not end")) from error
    end = done.stdout.find(b"\n")
    if done.returncode or end < 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise RefusedError(damaged(" ".join(last) or "reading it crashes"))
    return json.loads(done.stdout[:end]), memoryview(done.stdout)[end + 1 :]


def _limit_this_process(seconds: int, memory: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    for kind, limit in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, memory)):
        with contextlib.suppress(ValueError, OSError):  # a system that cannot, or a lower limit
            resource.setrlimit(kind, (limit, limit))


def read_keras2(path: str | os.PathLike[str]) -> list[StoredArray]:
    """Read every array of a Keras 2 weights file as float32, in its order of layers and arrays.

    Arrays that the file lists and does not have are left out; arrays that a layer has and does not
    list come after those it lists. A file that is damaged or something else, or that holds links,
    arrays outside itself or numbers that are not finite, is a BundleError.
    """
    path = Path(path)
    try:
        check_signature(path)
        found = ask_process(path)
        if not all(array.layer for array in found):
            raise RefusedError(
                "has no layer_names: it holds weights as Keras 3 writes them (.weights.h5), not "
                "Keras 2; save the model with Keras 2, or as .h5 with Keras 3"
            )
        return found
    except (RefusedError, OSError) as error:
        raise BundleError(f"{path}: {shortened(str(error), arrays.MESSAGE)}") from error


def is_keras2(path: Path) -> bool:
    """Return whether a file is HDF5 with the attributes that Keras 2 writes."""
    try:
        check_signature(path)
        with opened(path) as file:
            return keras2_group(file) is not None
    except (RefusedError, *DAMAGE):
        return False


def read_here(path: str | os.PathLike[str], limit: int = arrays.MAXIMUM_BYTES) -> list[StoredArray]:
    """Read the arrays of a file of Keras in this process, which a damaged file may hang or crash.
    Those of Keras 3 have no layer; their names are their paths in the file.
    """
    path = Path(path)
    try:
        with opened(path, limit) as file:
            group, budget = keras2_group(file), Budget(limit)
            return keras3_arrays(file, budget) if group is None else keras2_arrays(group, budget)
    except RefusedError as error:
        raise BundleError(f"{path}: {shortened(str(error), arrays.MESSAGE)}") from error
    except DAMAGE as error:
        raise BundleError(f"{path}: {damaged(str(error))}") from error


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
    found = {n: file[n] for n in _present(file) if not n.startswith("optimizer/")}
    if not found:
        raise RefusedError("an HDF5 file without arrays; give the file of the weights")
    kinds = {name: checked_kind(item, shortened(name, 80), "fiub", budget) for name, item in found.items()}
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
        raise RefusedError(f"layer {layer} lists no weight_names, so their order is unknown; get the file again")
    return list(dict.fromkeys([*listed, *_present(group)]))


def _present(group: Any) -> list[str]:
    """Return the names of the arrays in a group and below, each once; no link is followed."""
    import h5py

    present: list[str] = []

    def visit(name: str, item: Any) -> bool | None:
        if isinstance(item, h5py.Dataset):
            present.append(name)
        return len(present) > arrays.MAXIMUM_NAMES or None

    group.visititems(visit)
    return present


def _listed(group: Any, attribute: str) -> list[str] | None:
    """Names in an attribute, or in its numbered parts; None where there is neither."""
    numbered = (f"{attribute}{i}" for i in count())
    whole = [attribute] if attribute in group.attrs else []
    parts = whole or list(takewhile(lambda name: name in group.attrs, numbered))
    return [text for part in parts for text in _texts(group, part)] if parts else None


def _texts(group: Any, attribute: str) -> list[str]:
    import h5py

    stored = group.attrs.get_id(attribute)
    items = math.prod(stored.shape or (0,))
    if not items:  # Keras writes no names as an empty array of numbers
        return []
    if items > _MAXIMUM_LISTED or items * stored.dtype.itemsize > 2**26:
        raise RefusedError(f"its {attribute} has {items:,} entries, more than any model; refused")
    if stored.dtype.kind != "S" and h5py.check_string_dtype(stored.dtype) is None:
        raise RefusedError(f"its {attribute} is no list of names; download or copy it again")
    values = np.ravel(np.asarray(group.attrs[attribute]))
    texts = [v.decode("utf-8") if isinstance(v, bytes) else str(v) for v in values]
    for text in texts:
        if not text.isprintable() or not 0 < len(text) <= 500:
            raise RefusedError(f"its {attribute} has a name no layer has ({text[:40]!r}); refused")
    return texts


def _values(dataset: Any, label: str) -> Array:
    with np.errstate(over="ignore"):
        values = np.asarray(dataset[()], np.float32)
    if not np.isfinite(values).all():
        raise RefusedError(f"{label} holds values that are no finite numbers; get the file again")
    return values
