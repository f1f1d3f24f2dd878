"""Numbers out of bytes, within a limit, and the one way to refuse a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAXIMUM_BYTES = 2**32  # of all arrays of one model: a billion float32 weights
MAXIMUM_NAMES = 100_000  # arrays of one model
MESSAGE = 280  # characters of a message after the path: names in a file may be long
MAXIMUM_AXES = 32  # what every NumPy allows

Array = NDArray[Any]
Bytes = bytes | bytearray | memoryview


class RefusedError(Exception):
    """What was found, as the rest of a sentence that begins with the file's path."""


class Budget:
    """Bytes and names that the arrays of a model may still take.

    Everything is paid for before memory is taken, so that a file cannot declare more than is there.
    """

    def __init__(self, limit: int = MAXIMUM_BYTES) -> None:
        self.limit = self.bytes = limit
        self.names = MAXIMUM_NAMES

    def pay(self, size: int, label: str) -> None:
        """Take so many bytes for one array, or refuse."""
        self.names -= 1
        if self.names < 0:
            raise RefusedError(f"has more than {MAXIMUM_NAMES:,} arrays, more than any model")
        if size > self.bytes:
            raise RefusedError(
                f"its arrays up to {label[:60]!r} take more than {self.limit / 2**20:,.0f} MiB; "
                "refused, unless a larger limit is given"
            )
        self.bytes -= size


def first_bytes(path: Path, count: int) -> bytes:
    """Return the first so many bytes of a file, or all it has."""
    with path.open("rb") as file:
        return file.read(count)


def shape_of(numbers: Sequence[Any], label: str) -> tuple[int, ...]:
    """Return a shape, or refuse what is none."""
    fine = isinstance(numbers, (list, tuple)) and len(numbers) <= MAXIMUM_AXES
    if not fine or not all(type(n) is int and 0 <= n < 2**63 for n in numbers):
        raise RefusedError(f"{label[:60]!r} has no possible shape; download or copy it again")
    return tuple(numbers)


def decoded(
    data: Bytes, kind: str, shape: Sequence[Any], budget: Budget, label: str, order: str = "<"
) -> Array:
    """Return numbers that lie in bytes one after the other.

    Parameters
    ----------
    data : bytes
        Exactly as many as the shape needs.
    kind : str
        ``f4``, ``i8``, ``u1``, ``c8`` ... as NumPy calls them; ``b1`` truth values; ``bf16``, whose
        numbers are the upper halves of float32 ones.
    order : {'<', '>'}
        Of the bytes of one number.

    Returns
    -------
    array
        Both kinds of 16 bits become float32; other kinds stay. It may be read-only.

    Raises
    ------
    RefusedError
        The shape and the bytes do not fit, or the budget is spent.
    """
    shape = shape_of(shape, label)
    count, stored = math.prod(shape), size_of(kind)
    if len(data) != count * stored:
        raise RefusedError(
            f"{label[:60]!r} of shape {str(shape)[:60]} needs {count * stored:,} bytes, but "
            f"{len(data):,} are there; truncated or damaged, download or copy it again"
        )
    budget.pay(count * result_size(kind), label)
    return plain(np.frombuffer(data, _numpy(kind, order)).reshape(shape), kind)


def plain(numbers: Array, kind: str) -> Array:
    """Return stored numbers in the machine's own order of bytes; of 16 bits as float32."""
    if kind == "bf16":
        return (numbers.astype(np.uint32) << 16).view(np.float32)
    if kind == "b1":
        return numbers != 0
    wanted = np.dtype(np.float32) if kind == "f2" else numbers.dtype.newbyteorder("=")
    return numbers.astype(wanted, copy=False)


_HALVES = {"f2", "bf16"}
_STORED_AS = {"bf16": "u2", "b1": "u1"}


def _numpy(kind: str, order: str) -> np.dtype[Any]:
    return np.dtype(order + _STORED_AS.get(kind, kind))


def result_size(kind: str) -> int:
    """Return how many bytes one number takes in the array that it is read into."""
    return 4 if kind in _HALVES else size_of(kind)


def size_of(kind: str) -> int:
    """Return how many bytes one stored number takes."""
    return np.dtype(_STORED_AS.get(kind, kind)).itemsize


def strided(
    data: Bytes,
    kind: str,
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    budget: Budget,
    label: str,
    order: str = "<",
) -> Array:
    """Return the view of a storage that a tensor is, as an array of its own.

    `offset` and `strides` count numbers, not bytes. The storage may hold more than the view needs;
    other arguments, and what is returned and refused, are as for `decoded`.
    """
    stored = np.frombuffer(data, _numpy(kind, order))
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if math.prod(shape) and not 0 <= offset <= last < len(stored):
        raise RefusedError(
            f"{label[:60]!r} of shape {str(shape)[:60]} lies outside its storage; truncated or "
            "damaged, download or copy it again"
        )
    size = math.prod(shape) * result_size(kind)
    budget.pay(size, label)
    if not size:
        return plain(np.empty(shape, stored.dtype), kind)
    steps = [step * stored.itemsize * (n > 1) for n, step in zip(shape, strides, strict=True)]
    view = np.lib.stride_tricks.as_strided(stored[offset:], shape, steps, writeable=False)
    return np.ascontiguousarray(plain(view, kind)).reshape(shape)
