"""Arrays of weights files: numbers out of bytes, within a limit, and how they fit a model."""

import math
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from xray_captioning.files import BROKEN_ZIP

MAXIMUM_BYTES = 2**32  # of all arrays of one model: a billion float32 weights
MAXIMUM_NAMES = 100_000  # arrays of one model
MESSAGE = 280  # characters of a message after the path: names in a file may be long
MAXIMUM_AXES = 32  # what every NumPy allows
Array = NDArray[Any]
Bytes = bytes | bytearray | memoryview
Members = dict[str, zipfile.ZipInfo]
T = TypeVar("T")


class RefusedError(Exception):
    """What was found, as the rest of a sentence that begins with the file's path."""


class Budget:
    """Bytes and names that the arrays of a model may still take, paid for before memory is taken."""

    def __init__(self, limit: int = MAXIMUM_BYTES) -> None:
        self.limit = self.bytes = limit
        self.names = MAXIMUM_NAMES

    def pay(self, size: int, label: str) -> None:
        """Take so many bytes for one array, or refuse."""
        self.names -= 1
        if self.names < 0:
            raise RefusedError(f"has more than {MAXIMUM_NAMES:,} arrays, more than any model")
        if size > self.bytes:
            what = f"its arrays up to {label[:60]!r} take more than {self.limit / 2**20:,.0f} MiB"
            raise RefusedError(f"{what}; refused, unless a larger limit is given")
        self.bytes -= size


def first_bytes(path: Path, count: int) -> bytes:
    """Return the first so many bytes of a file, or all it has."""
    with path.open("rb") as file:
        return file.read(count)


def once(pairs: Iterable[tuple[str, T]]) -> dict[str, T]:
    """Return values by name; a name that stands twice, or more names than any model has, refuse."""
    found: dict[str, T] = {}
    for name, value in pairs:
        if name in found or len(found) >= MAXIMUM_NAMES:
            raise RefusedError(f"has {name[:60]!r} twice, or too many names; save the model again")
        found[name] = value
    return found


def shape_of(numbers: Sequence[Any], label: str) -> tuple[int, ...]:
    """Return a shape, or refuse what is none."""
    fine = isinstance(numbers, (list, tuple)) and len(numbers) <= MAXIMUM_AXES
    if not fine or not all(type(n) is int and 0 <= n < 2**63 for n in numbers):
        raise RefusedError(f"{label[:60]!r} has no possible shape; download or copy it again")
    return tuple(numbers)


def decoded(
    data: Bytes, kind: str, shape: Sequence[Any], budget: Budget, label: str, order: str = "<", view: Any = None
) -> Array:
    """Return numbers that lie in bytes one after the other, or a view: its offset and steps, in numbers, not bytes.
    A kind is NumPy's, ``f4`` or ``i8``, or ``bf16``, the upper halves of float32 numbers; 16 bits become float32.
    """
    shape = shape_of(shape, label)
    count, stored = math.prod(shape), size_of(kind)
    if view is None and len(data) != count * stored:
        what = f"{label[:60]!r} of shape {str(shape)[:60]} needs {count * stored:,} bytes, but {len(data):,} are there"
        raise RefusedError(f"{what}; truncated or damaged, download or copy it again")
    budget.pay(count * result_size(kind), label)
    numbers = np.frombuffer(data, np.dtype(order + _STORED_AS.get(kind, kind)))
    if view is None:
        return plain(numbers.reshape(shape), kind)
    return np.ascontiguousarray(plain(_viewed(numbers, shape, view, label), kind)).reshape(shape)


def _viewed(numbers: Array, shape: tuple[int, ...], view: tuple[int, Sequence[Any]], label: str) -> Array:
    """Return a view of numbers, which may be more than it needs; nothing outside them."""
    offset, strides = view
    if not math.prod(shape):
        return np.empty(shape, numbers.dtype)
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if not 0 <= offset <= last < len(numbers):
        raise RefusedError(f"{label[:60]!r} of shape {str(shape)[:60]} lies outside its storage; download it again")
    steps = [step * numbers.itemsize * (n > 1) for n, step in zip(shape, strides, strict=True)]
    return np.lib.stride_tricks.as_strided(numbers[offset:], shape, steps, writeable=False)


_STORED_AS = {"bf16": "u2", "b1": "u1"}


def plain(numbers: Array, kind: str) -> Array:
    """Return stored numbers in the machine's own order of bytes; of 16 bits as float32."""
    if kind == "bf16":
        return (numbers.astype(np.uint32) << 16).view(np.float32)
    if kind == "b1":
        return numbers != 0
    wanted = np.dtype(np.float32) if kind == "f2" else numbers.dtype.newbyteorder("=")
    return numbers.astype(wanted, copy=False)


def result_size(kind: str) -> int:
    """Return how many bytes one number takes in the array that it is read into."""
    return 4 if kind in ("f2", "bf16") else size_of(kind)


def size_of(kind: str) -> int:
    """Return how many bytes one stored number takes."""
    return np.dtype(_STORED_AS.get(kind, kind)).itemsize


def entries(archive: zipfile.ZipFile) -> Members:
    """Return the members of an archive by name, or refuse one that no program writes."""
    return once((info.filename, info) for info in archive.infolist())


def entry(archive: zipfile.ZipFile, members: Members, name: str, budget: Budget) -> bytes:
    """Return a member's bytes, or refuse one that is damaged or larger than the budget."""
    if (info := members.get(name)) is None:
        raise RefusedError(f"has no {name[:60]!r} inside; truncated, download or copy it again")
    if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise RefusedError(f"its {name[:60]!r} is encrypted or packed in a rare way; save it again")
    budget.pay(info.file_size, name)
    try:
        data = archive.read(info)
    except (*BROKEN_ZIP, OSError) as error:
        raise RefusedError(f"damaged zip archive ({str(error)[:80]}); download it again") from error
    if len(data) != info.file_size:
        raise RefusedError(f"its {name[:60]!r} is cut off; download or copy it again")
    return data


class StoredArray(NamedTuple):
    """One array of a weights file."""

    layer: str  # as the file calls it
    name: str  # without ``:0``, such as ``global_attention/dense/kernel``
    values: NDArray[np.float32]

    @property
    def label(self) -> str:
        """Return what messages call it."""
        return shortened(self.whole_name, 60)

    @property
    def whole_name(self) -> str:
        """Return the name of its layer, where its own does not begin so, and its own."""
        inside = not self.layer or self.name.startswith(f"{self.layer}/")
        return self.name if inside else f"{self.layer}/{self.name}"

    @property
    def owner(self) -> tuple[str, ...]:
        """Return the path of the inner layer it belongs to: ``global_attention``, ``dense``."""
        return tuple(self.name.split("/")[:-1])

    @property
    def leaf(self) -> str:
        """Return its name within that layer, such as ``kernel``."""
        return self.name.split("/")[-1]


def mismatches(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, StoredArray], extra: Iterable[StoredArray]
) -> list[str]:
    """List arrays that are missing, misshapen or, as `extra`, not expected, a clause each, by their published names."""
    clauses = []
    for name, shape in expected.items():
        if name not in found:
            clauses.append(f"{name} of shape {shape} is missing")
        elif (has := found[name].values.shape) != shape:
            clauses.append(f"{found[name].label} has shape {has} instead of {shape}")
    return clauses + [f"{a.label} of shape {a.values.shape} is not expected" for a in extra]


def shortened(text: str, most: int) -> str:
    """Cut a long text in its middle, so that a message stays a line; a short one is unchanged."""
    return text if len(text) <= most else f"{text[: most // 2 - 2]}...{text[len(text) - most // 2 + 1 :]}"
