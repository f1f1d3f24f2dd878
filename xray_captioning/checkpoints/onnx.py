"""Weights of an ONNX model, its initialisers, without onnx or protobuf (31 MB that must fit TensorFlow's). That takes
four messages of ``onnx/onnx.proto`` and their wire format (protobuf.dev, "Encoding").
"""

from pathlib import Path
from typing import Any

import numpy as np

from xray_captioning.checkpoints.arrays import Array, Budget, Bytes, RefusedError, decoded, once, size_of

_GRAPH = 7  # of ModelProto
_INITIALISER, _SPARSE = 5, 15  # of GraphProto
# Of TensorProto; and of its types, those that are numbers.
_DIMS, _TYPE, _NAME, _RAW, _EXTERNAL, _LOCATION = 1, 2, 8, 9, 13, 14
_FLOATS, _WHOLES = (4, 10), (5, 7, 11)
_KINDS = dict(enumerate(("f4", "u1", "i1", "u2", "i2", "i4", "i8"), 1))
_KINDS |= {9: "b1", 10: "f2", 11: "f8", 12: "u4", 13: "u8", 16: "bf16"}
MAXIMUM_FIELDS = 2**22  # of one message
MAXIMUM_TYPED = 2**24  # bytes of whole numbers that are written one by one
_DAMAGED = "is no ONNX model, or truncated; download or copy it again"
# The fields of a message, whole numbers or bytes, by their numbers.
Fields = dict[int, list[Any]]


def read_onnx(path: Path, budget: Budget) -> dict[str, Array]:
    """Read all initialisers of a model's graph."""
    if path.stat().st_size > budget.limit:
        raise RefusedError(f"larger than {budget.limit / 2**20:,.0f} MiB, the limit; refused")
    graphs = [fields(m) for m in fields(memoryview(path.read_bytes())).get(_GRAPH, [])]
    if any(_SPARSE in graph for graph in graphs):
        raise RefusedError("sparse weights are not read; export the model with dense ones")
    weights = (fields(weight) for graph in graphs for weight in graph.get(_INITIALISER, []))
    if not (arrays := once(_tensor(weight, path, budget) for weight in weights)):
        raise RefusedError("an ONNX model without weights, or no ONNX model; get it again")
    return arrays


def fields(message: Any) -> Fields:
    """Return the fields of a message, or refuse what is none."""
    found: Fields = {}
    place = count = 0
    while isinstance(message, memoryview) and place < len(message):
        key, place = _varint(message, place)
        wire = key & 7  # 0 a whole number, 1 eight bytes, 2 so many as follow, 5 four
        value: Any = None
        if wire in (0, 2):
            value, place = _varint(message, place)
        size = {0: 0, 1: 8, 2: value, 5: 4}.get(wire)
        if size is None or place + size > len(message):
            raise RefusedError(_DAMAGED)
        if wire:
            value, place = message[place : place + size], place + size
        found.setdefault(key >> 3, []).append(value)
        count += 1
        if count > MAXIMUM_FIELDS:
            raise RefusedError("seems to be an ONNX model with more parts than any has; refused")
    return found


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """Return the whole number that begins at a place, seven bits a byte, and where it ends."""
    number = 0
    for i, byte in enumerate(message[place : place + 10]):
        number |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return number, place + i + 1
    raise RefusedError(_DAMAGED)


def _tensor(parts: Fields, path: Path, budget: Budget) -> tuple[str, Array]:
    name, type_ = _text(parts, _NAME), parts.get(_TYPE, [0])[-1]
    if (kind := _KINDS.get(type_) if isinstance(type_, int) else None) is None:
        what = f"numbers of ONNX type {str(type_)[:20]}, such as quantised ones"
        raise RefusedError(f"{name[:60]!r} has {what}; export the model as float32")
    if parts.get(_LOCATION, [0])[-1] == 1:
        data: Bytes = _outside(parts, path, name, budget)
    else:
        data = parts[_RAW][-1] if _RAW in parts else _typed(parts, kind)
    return name, decoded(data, kind, [n if n < 2**63 else -1 for n in _numbers(parts.get(_DIMS, []))], budget, name)


def _text(parts: Fields, number: int) -> str:
    return b"".join(map(bytes, parts.get(number, [])[-1:])).decode("utf-8", "replace")


def _numbers(repeated: list[Any]) -> list[int]:
    """Return whole numbers, which stand one a field or many in one."""
    found: list[int] = []
    for value in repeated:
        if isinstance(value, int):
            found.append(value)
            continue
        place = 0
        if len(value) > MAXIMUM_TYPED:
            raise RefusedError("too many numbers written one by one; export it with raw data")
        while place < len(value):
            number, place = _varint(value, place)
            found.append(number)
    return found


def _typed(parts: Fields, kind: str) -> bytes:
    """Return the bytes of numbers in the fields for their types; half ones are whole numbers."""
    floats = [value for number in _FLOATS for value in parts.get(number, [])]
    if any(isinstance(value, int) for value in floats):
        raise RefusedError("an array of broken numbers; download or copy it again")
    if floats:
        return b"".join(map(bytes, floats))
    size, wholes = size_of(kind), _numbers([value for number in _WHOLES for value in parts.get(number, [])])
    return (np.array(wholes, np.uint64) & np.uint64(2 ** (8 * size) - 1)).astype(f"<u{size}").tobytes()


def _outside(parts: Fields, path: Path, name: str, budget: Budget) -> bytes:
    """Return the bytes of numbers that lie in a file beside the model."""
    about = {_text(pair, 1): _text(pair, 2) for pair in map(fields, parts.get(_EXTERNAL, []))}
    file = beside(path, about.get("location", ""))
    size = file.stat().st_size
    try:
        start = int(about.get("offset") or 0)
        length = int(about.get("length") or size - start)
    except ValueError as error:
        raise RefusedError(f"{name[:60]!r} has no possible place; export it again") from error
    if not 0 <= start <= start + length <= size:
        raise RefusedError(f"{file.name[:60]!r} beside it is too short; download or copy it again")
    if length > budget.bytes:
        budget.pay(length, name)  # which refuses
    with file.open("rb") as stream:
        stream.seek(start)
        return stream.read(length)


def beside(path: Path, name: str) -> Path:
    """Return the file of a name that a file gives, which must lie in the same folder or below."""
    # Hugging Face's cache keeps links to files of one other folder; there that folder counts, too.
    place, folders = path.parent / name, {path.parent.resolve(), path.resolve().parent}
    outside = not name or ".." in Path(name).parts or "\\" in name or Path(name).is_absolute()
    if outside or not any(place.resolve().is_relative_to(folder) for folder in folders):
        raise RefusedError(f"names the file {name[:60]!r}, which is not beside it; refused")
    if not place.is_file():
        raise RefusedError(f"needs {name[:60]!r} beside it, which is missing; download that, too")
    return place
