"""Weights of an ONNX model, its initialisers, without onnx or protobuf.

The package onnx brings 31 MB and protobuf, whose version must fit TensorFlow's; all that is needed
is four messages of ``onnx/onnx.proto`` and their wire format (protobuf.dev, "Encoding"). Numbers
that are too large for one message lie in files beside the model; they may lie nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xray_captioning.checkpoints.limits import Array, Budget, Bytes, RefusedError, decoded, size_of

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5  # wire types
_GRAPH = 7  # of ModelProto
_INITIALISER, _SPARSE = 5, 15  # of GraphProto
# Of TensorProto; and of its types, those that are numbers.
_DIMS, _TYPE, _FLOATS, _INT32S, _INT64S, _NAME, _RAW = 1, 2, 4, 5, 7, 8, 9
_DOUBLES, _UINT64S, _EXTERNAL, _LOCATION = 10, 11, 13, 14
_KINDS = {
    1: "f4",
    2: "u1",
    3: "i1",
    4: "u2",
    5: "i2",
    6: "i4",
    7: "i8",
    9: "b1",
    10: "f2",
    11: "f8",
    12: "u4",
    13: "u8",
    16: "bf16",
}
MAXIMUM_FIELDS = 2**22  # of one message
MAXIMUM_TYPED = 2**24  # bytes of whole numbers that are written one by one


class Field(NamedTuple):
    """One field of a message: its number, its wire type, and a whole number or bytes."""

    number: int
    wire: int
    value: Any


def is_onnx(start: bytes) -> bool:
    """Return whether a file may begin so: with the version of its format, a small number."""
    return len(start) > 2 and start[0] == 0x08 and start[1] < 32


def read_onnx(path: Path, budget: Budget) -> dict[str, Array]:
    """Read all initialisers of a model's graph."""
    if path.stat().st_size > budget.limit:
        raise RefusedError(f"larger than {budget.limit / 2**20:,.0f} MiB, the limit; refused")
    arrays: dict[str, Array] = {}
    for graph in _all(fields(memoryview(path.read_bytes())), _GRAPH):
        for field in fields(graph):
            if field.number == _SPARSE:
                raise RefusedError("sparse weights are not read; export the model with dense ones")
            if field.number == _INITIALISER:
                name, array = _tensor(_checked_bytes(field), path, budget)
                if name in arrays:
                    raise RefusedError(f"has {name[:60]!r} twice; export the model again")
                arrays[name] = array
    if not arrays:
        raise RefusedError(
            "seems to be an ONNX model without weights, or no ONNX model; download or copy it again"
        )
    return arrays


def fields(message: memoryview) -> Iterator[Field]:
    """Yield the fields of a message in their order, or refuse what is none."""
    place = count = 0
    while place < len(message):
        count += 1
        if count > MAXIMUM_FIELDS:
            raise RefusedError("seems to be an ONNX model with more parts than any has; refused")
        key, place = _varint(message, place)
        wire = key & 7
        value: Any
        if wire == _VARINT:
            value, place = _varint(message, place)
        elif wire in (_EIGHT, _BYTES, _FOUR):
            size = {_EIGHT: 8, _FOUR: 4}.get(wire)
            if size is None:
                size, place = _varint(message, place)
            value, place = message[place : place + size], place + size
        if wire not in (_VARINT, _EIGHT, _BYTES, _FOUR) or place > len(message):
            raise RefusedError("is no ONNX model, or truncated; download or copy it again")
        yield Field(key >> 3, wire, value)


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """Return the whole number that begins at a place, seven bits a byte, and where it ends."""
    number = 0
    for shift in range(0, 70, 7):
        if place + shift // 7 >= len(message):
            break
        byte = message[place + shift // 7]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, place + shift // 7 + 1
    raise RefusedError("is no ONNX model, or truncated; download or copy it again")


def _checked_bytes(field: Field) -> memoryview:
    if field.wire != _BYTES:
        raise RefusedError("is no ONNX model, or damaged; download or copy it again")
    return field.value


def _all(message: Iterator[Field], number: int) -> list[memoryview]:
    return [_checked_bytes(field) for field in message if field.number == number]


def _tensor(message: memoryview, path: Path, budget: Budget) -> tuple[str, Array]:
    """Return a TensorProto's name and numbers."""
    parts: dict[int, list[Field]] = {}
    for field in fields(message):
        parts.setdefault(field.number, []).append(field)
    name = b"".join(bytes(_checked_bytes(f)) for f in parts.get(_NAME, [])).decode(
        "utf-8", "replace"
    )
    type_ = _whole(parts, _TYPE, name)
    if type_ not in _KINDS:
        raise RefusedError(
            f"{name[:60]!r} has numbers of ONNX type {type_}, such as quantised ones, which are "
            "not read; export the model as float32"
        )
    shape = [n if n < 2**63 else -1 for n in _numbers(parts.get(_DIMS, []))]
    if _whole(parts, _LOCATION, name) == 1:
        data: Bytes = _outside(parts, path, name, budget)
    elif _RAW in parts:
        data = _checked_bytes(parts[_RAW][-1])
    else:
        data = _typed(parts, _KINDS[type_])
    return name, decoded(data, _KINDS[type_], shape, budget, name)


def _whole(parts: dict[int, list[Field]], number: int, name: str) -> int:
    values = [field.value for field in parts.get(number, [])]
    if values and not isinstance(values[-1], int):
        raise RefusedError(f"{name[:60]!r} is damaged; download or copy it again")
    return values[-1] if values else 0


def _numbers(repeated: list[Field]) -> list[int]:
    """Return whole numbers, which stand one a field or many in one."""
    found: list[int] = []
    for field in repeated:
        if field.wire == _VARINT:
            found.append(field.value)
            continue
        packed, place = _checked_bytes(field), 0
        if len(packed) > MAXIMUM_TYPED:
            raise RefusedError("too many numbers written one by one; export it with raw data")
        while place < len(packed):
            number, place = _varint(packed, place)
            found.append(number)
    return found


def _typed(parts: dict[int, list[Field]], kind: str) -> bytes:
    """Return the bytes of numbers in the fields for their types; half ones are whole numbers."""
    for number in (_FLOATS, _DOUBLES):
        if number in parts:
            if any(field.wire == _VARINT for field in parts[number]):
                raise RefusedError("an array of broken numbers; download or copy it again")
            return b"".join(bytes(field.value) for field in parts[number])
    for number in (_INT32S, _INT64S, _UINT64S):
        if number in parts:
            bits = 8 * size_of(kind)
            values = np.array(_numbers(parts[number]), np.uint64) & np.uint64(2**bits - 1)
            return values.astype(f"<u{bits // 8}").tobytes()
    return b""


def _outside(parts: dict[int, list[Field]], path: Path, name: str, budget: Budget) -> bytes:
    """Return the bytes of numbers that lie in a file beside the model."""
    about = {}
    for message in _all(iter(parts.get(_EXTERNAL, [])), _EXTERNAL):
        pair = {f.number: bytes(_checked_bytes(f)).decode("utf-8") for f in fields(message)}
        about[pair.get(1, "")] = pair.get(2, "")
    file = beside(path, about.get("location", ""))
    size = file.stat().st_size
    try:
        start = int(about.get("offset") or 0)
        length = int(about.get("length") or size - start)
    except ValueError as error:
        raise RefusedError(
            f"{name[:60]!r} has no possible place; export the model again"
        ) from error
    if not 0 <= start <= start + length <= size:
        raise RefusedError(f"{file.name[:60]!r} beside it is too short; download or copy it again")
    if length > budget.bytes:
        budget.pay(length, name)  # which refuses
    with file.open("rb") as stream:
        stream.seek(start)
        return stream.read(length)


def beside(path: Path, name: str) -> Path:
    """Return the file of a name that a file gives, which must lie in the same folder or below.

    Hugging Face's cache keeps links to files of one other folder; there that folder counts, too.
    """
    place = path.parent / name
    folders = {path.parent.resolve(), path.resolve().parent}
    outside = not name or ".." in Path(name).parts or "\\" in name or Path(name).is_absolute()
    if outside or not any(place.resolve().is_relative_to(folder) for folder in folders):
        raise RefusedError(f"names the file {name[:60]!r}, which is not beside it; refused")
    if not place.is_file():
        raise RefusedError(f"needs {name[:60]!r} beside it, which is missing; download that, too")
    return place
