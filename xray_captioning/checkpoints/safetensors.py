"""Arrays of a safetensors file: eight bytes that say how long a header is, the header, and numbers.

Reading it here is shorter than checking what the library of that name, whose NumPy part knows no
bfloat16, makes of a damaged file. The rules are those of its README, "Format": no name twice, and
numbers without holes or overlaps up to the file's end.
"""

import json
import struct
from pathlib import Path
from typing import Any

from xray_captioning.checkpoints.arrays import Array, Budget, RefusedError, decoded

MAXIMUM_HEADER = 2**25  # bytes; a name takes about a hundred
_KINDS = {"BF16": "bf16", "BOOL": "b1"} | {
    f"{letter}{8 * size}": f"{letter.lower()}{size}"
    for letter in "FIU"
    for size in (1, 2, 4, 8)
    if (letter, size) != ("F", 1)
}


def is_safetensors(start: bytes, size: int) -> bool:
    """Return whether the first nine bytes of a file of a size are those of the format."""
    return len(start) > 8 and start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] < size


def read_safetensors(path: Path, budget: Budget) -> dict[str, Array]:
    """Read all arrays of a file."""
    arrays, end = {}, 0
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > MAXIMUM_HEADER:
            raise RefusedError(f"a header of {length:,} bytes, more than any model needs; refused")
        header = parsed_json(file.read(length))
        size = path.stat().st_size - 8 - length
        header.pop("__metadata__", None)
        entries = [(*_entry(name, about), name) for name, about in header.items()]
        for first, last, kind, shape, name in sorted(entries, key=lambda entry: entry[:2]):
            if first != end or not first <= last <= size:
                raise RefusedError(
                    f"{name[:60]!r} does not lie where it should; truncated or damaged, download "
                    "or copy it again"
                )
            arrays[name] = decoded(file.read(last - first), kind, shape, budget, name)
            end = last
    if end != size:
        raise RefusedError("more bytes than its header says; damaged, download or copy it again")
    return {name: arrays[name] for name in header}


def parsed_json(data: bytes) -> dict[str, Any]:
    """Return an object of JSON in which no name stands twice, or refuse it."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise RefusedError("a header with a name twice; refused")
        return dict(pairs)

    try:
        value = json.loads(data, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise RefusedError(
            f"its header is no JSON ({str(error)[:60]}); download it again"
        ) from error
    if not isinstance(value, dict):
        raise RefusedError("its header is no JSON object; download or copy it again")
    return value


def _entry(name: str, about: Any) -> tuple[int, int, str, list[Any]]:
    """Return where an array's bytes begin and end, their kind and shape."""
    try:
        kind, shape, (first, last) = str(about["dtype"]), about["shape"], about["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise RefusedError(
            f"{name[:60]!r} has no dtype, shape or place; download it again"
        ) from error
    if kind not in _KINDS:
        raise RefusedError(
            f"{name[:60]!r} has numbers of kind {kind[:20]!r}, such as quantised ones, which are "
            "not read; save the model as float32"
        )
    if type(first) is not int or type(last) is not int or not isinstance(shape, list):
        raise RefusedError(f"{name[:60]!r} has no possible place; download or copy it again")
    return first, last, _KINDS[kind], shape
