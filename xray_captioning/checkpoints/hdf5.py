"""Arrays out of HDF5 files, read by another process.

The HDF5 library can hang or crash on a damaged file (1.14 does). So another process opens the file,
with limits of time and memory, and sends back plain numbers. Nothing but plain arrays of numbers
that lie in the file itself is read.
"""

import contextlib
import io
import json
import math
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from xray_captioning.checkpoints.arrays import StoredArray
from xray_captioning.checkpoints.limits import (
    MAXIMUM_BYTES,
    Array,
    Budget,
    RefusedError,
    first_bytes,
    plain,
    result_size,
)
from xray_captioning.checkpoints.zips import entries, entry
from xray_captioning.errors import BundleError

CPU_SECONDS = 15  # longest time that a gigabyte of a file is worked on; it takes a few
SIGNATURE = b"\x89HDF\r\n\x1a\n"
DAMAGE = (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, MemoryError)
WEIGHTS = "model.weights.h5"  # in a .keras file
_WAIT_SECONDS = 300  # for a busy machine, or one that cannot limit the time a process works
_CODE = (
    "import sys; from xray_captioning.checkpoints.keras_files import send_arrays; "
    "send_arrays(*sys.argv[1:])"
)
_BUILT_IN_FILTERS = {1, 2, 3}  # deflate, shuffle, Fletcher checksum; others are loaded as plugins


def ask_process(path: Path, limit: int = MAXIMUM_BYTES) -> list[StoredArray]:
    """Have another process read the arrays of a file, and return them."""
    header, data = _answer(path, limit)
    if "error" in header:
        raise RefusedError(header["error"])
    arrays, start = [], 0
    for layer, name, shape, kind in header["arrays"]:
        values = np.frombuffer(data, kind, math.prod(shape), start).reshape(shape)
        arrays.append(StoredArray(layer, name, values))
        start += values.nbytes
    return arrays


def send(path: str, read: Any, seconds: str, limit: str) -> None:
    """Write to standard output what ``read(path, limit)`` returns: a line of JSON, then numbers.

    Work for so many seconds at most, where the system can limit it.
    """
    _limit_this_process(int(seconds), 4 * int(limit) + 2**31)
    try:
        arrays: list[StoredArray] = read(path, int(limit))
        about = [(a.layer, a.name, a.values.shape, a.values.dtype.str) for a in arrays]
        header: dict[str, Any] = {"arrays": about}
    except BundleError as error:
        arrays, header = [], {"error": str(error).removeprefix(f"{Path(path)}: ")}
    sys.stdout.buffer.write(json.dumps(header).encode() + b"\n")
    for array in arrays:
        sys.stdout.buffer.write(array.values.tobytes())
    sys.stdout.flush()


@contextlib.contextmanager
def opened(path: Path, limit: int = MAXIMUM_BYTES) -> Iterator[Any]:
    """Open an HDF5 file, or the one in a ``.keras`` file, in this process."""
    import h5py

    if path.is_file() and first_bytes(path, 2) == b"PK":
        with zipfile.ZipFile(path) as archive:
            source: Any = io.BytesIO(entry(archive, entries(archive), WEIGHTS, Budget(limit)))
    else:
        check_signature(path)
        source = path
    with h5py.File(source, "r") as file:
        yield file


def is_hdf5(path: Path) -> bool:
    """Return whether a path is a file that begins as HDF5."""
    return path.is_file() and first_bytes(path, len(SIGNATURE)) == SIGNATURE


def check_signature(path: Path) -> None:
    """Refuse a file that is missing or does not begin as HDF5."""
    if not path.is_file():
        raise RefusedError("no such file; give the path of a Keras weights file (.h5)")
    start = first_bytes(path, len(SIGNATURE))
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
    budget.pay(math.prod(dataset.shape) * result_size(kind), label)
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
    return plain(values.view(np.uint16) if kind == "bf16" else values, kind)


def _answer(path: Path, limit: int) -> tuple[dict[str, Any], memoryview]:
    """Return the line of JSON that another process writes of a file, and the numbers after it."""
    search = os.pathsep.join(place or "." for place in sys.path)
    environment = {**os.environ, "PYTHONPATH": search, "OPENBLAS_NUM_THREADS": "1"}
    seconds = CPU_SECONDS * (1 + path.stat().st_size // 2**30)
    line = [sys.executable, "-c", _CODE, str(path), str(seconds), str(limit)]
    try:
        done = subprocess.run(
            line, env=environment, capture_output=True, timeout=_WAIT_SECONDS, check=False
        )
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
