"""Tensors out of a file that ``torch.save`` wrote, without PyTorch.

Its zip layout holds a pickle (``data.pkl``) and the bytes of each storage (``data/KEY``); files
older than PyTorch 1.6 are some pickles and then the storages. `unpickling` follows the pickles, so
of a whole module nothing is built and nothing runs. The layouts are those of PyTorch's
``torch/serialization.py`` and ``torch/_utils.py``.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from xray_captioning.checkpoints.limits import (
    Array,
    Budget,
    RefusedError,
    decoded,
    shape_of,
    size_of,
)
from xray_captioning.checkpoints.tensors import Storage, Tensor, collected, tensor
from xray_captioning.checkpoints.unpickling import Name, Unpickler
from xray_captioning.checkpoints.zips import entries, entry

MAXIMUM_STEPS = 5_000_000  # pickle instructions: a tensor takes about forty
MAXIMUM_PICKLE = 2**26  # bytes
LEGACY = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # a number, the first pickle of legacy files

# How numbers of torch.FloatStorage and others are stored, and those of torch.float32 and others.
_WHOLE = {"Long": "i8", "Int": "i4", "Short": "i2", "Char": "i1", "Byte": "u1", "Untyped": "u1"}
_OTHERS = {"Float": "f4", "Double": "f8", "Half": "f2", "BFloat16": "bf16", "Bool": "b1"}
_KINDS = {f"{name}Storage": kind for name, kind in (_WHOLE | _OTHERS).items()}
_KINDS |= {"bfloat16": "bf16", "bool": "b1", **{f"float{8 * n}": f"f{n}" for n in (2, 4, 8)}}
_KINDS |= {f"{name}{8 * n}": f"{name[0]}{n}" for name in ("int", "uint") for n in (1, 2, 4, 8)}
_VIEWS = {f"torch._utils._rebuild_tensor{version}" for version in ("", "_v2", "_v3")}
_PARAMETERS = {f"torch._utils._rebuild_parameter{what}" for what in ("", "_with_state")}
_SUBCLASSES = {f"torch._tensor._rebuild_from_type{version}" for version in ("", "_v2")}


def read_zip(archive: zipfile.ZipFile, budget: Budget) -> dict[str, Array]:
    """Read the tensors of an archive that ``torch.save`` or ``torch.jit.save`` wrote."""
    members, stored_bytes = entries(archive), Budget(budget.limit)
    root = min((n for n in members if n.endswith("data.pkl")), key=len).removesuffix("data.pkl")
    pickled = entry(archive, members, f"{root}data.pkl", Budget(MAXIMUM_PICKLE))
    order = f"{root}byteorder"
    big = order in members and entry(archive, members, order, Budget(16)) == b"big"
    found = collected(_Reader(io.BytesIO(pickled), MAXIMUM_STEPS).load())

    def stored(storage: Storage) -> bytes:
        return entry(archive, members, f"{root}data/{storage.key}", stored_bytes)

    return _arrays(found, stored, budget, ">" if big else "<")


def read_legacy(path: Path, budget: Budget) -> dict[str, Array]:
    """Read the tensors of a file in the layout before PyTorch 1.6."""
    with path.open("rb") as file:
        head = io.BytesIO(file.read(MAXIMUM_PICKLE))
        head.seek(head.getvalue()[:64].index(LEGACY) + len(LEGACY))
        reader = _Reader(head, MAXIMUM_STEPS)
        _version, _system, value, keys = (reader.load() for _ in range(4))
        known = reader.storages
        if not isinstance(keys, list) or not all(isinstance(k, str) and k in known for k in keys):
            raise RefusedError("storages that no tensor has; damaged, download or copy it again")
        places = _places(file, head.tell(), [known[key] for key in keys])

        def stored(storage: Storage) -> bytes:
            start, size = places[storage.key]
            file.seek(start)
            return file.read(size)

        return _arrays(collected(value), stored, budget, "<")


def _places(file: IO[bytes], start: int, storages: list[Storage]) -> dict[str, tuple[int, int]]:
    """Return where the bytes of each storage begin, and how many they are."""
    end, places = file.seek(0, io.SEEK_END), {}
    for storage in storages:
        file.seek(start)
        (count,) = struct.unpack("<q", file.read(8))
        size = count * size_of(storage.kind)
        places[storage.key] = (start + 8, size)
        start += 8 + size
        if count < 0 or start > end:
            raise RefusedError("truncated PyTorch file; download or copy it again")
    return places


def _arrays(
    found: dict[str, Tensor], stored: Callable[[Storage], bytes], budget: Budget, order: str
) -> dict[str, Array]:
    """Return the arrays of tensors; those that are one and the same stay so."""
    data: dict[str, bytes] = {}
    made: dict[Tensor, Array] = {}
    for name, one in found.items():
        if one not in made:
            storage, kind, offset, shape, strides = one
            if storage.key not in data:
                data[storage.key] = stored(storage)
            view = (storage.first + offset, strides)
            made[one] = decoded(data[storage.key], kind, shape, budget, name, order, view)
    return {name: made[one] for name, one in found.items()}


class _Reader(Unpickler):
    """Follows the pickles of a file, and notes its storages."""

    purpose = "PyTorch file"

    def __init__(self, file: IO[bytes], steps: int) -> None:
        super().__init__(file, steps)
        self.storages: dict[str, Storage] = {}

    def persistent_load(self, key: Any) -> Any:
        """Return the storage that a key names; of a module's source, the module's name."""
        kind, what, *rest = key
        if kind == "module":
            return what
        name, _location, count, *view = rest
        if kind != "storage" or not isinstance(name, str):
            raise RefusedError("an object beside its pickle that is no storage; refused")
        (first, count) = view[0][1:] if view and view[0] else (0, count)
        if not all(type(number) is int and number >= 0 for number in (first, count)):
            raise RefusedError("a storage of no possible size; download or copy it again")
        storage = Storage(name, _kind(what), first)
        self.storages.setdefault(name, storage)
        return storage

    def call(self, text: str, arguments: tuple[Any, ...]) -> Any:
        """Return the tensor that a call would make; None of others, which become records."""
        if text in _VIEWS:
            storage, offset, shape, strides = arguments[:4]
            kind = _kind(arguments[6]) if text.endswith("v3") else None
            return tensor(storage, offset, shape, strides, kind)
        if text in _PARAMETERS:
            return arguments[0]
        if text in _SUBCLASSES and isinstance(arguments[0], Name):
            return self.call(arguments[0].text, arguments[2])
        if text == "torch.Size":
            return shape_of(arguments[0], "a size")
        if text.startswith("torch._") and "._rebuild" in text:
            raise RefusedError(
                f"a tensor made by {text[:60]!r}, such as a sparse or quantised one, is not read; "
                "save the model as float32"
            )
        return None


def _kind(name: Any) -> str:
    text = name.text if isinstance(name, Name) else "no name"
    kind = _KINDS.get(text.rpartition(".")[2])
    if kind is None or not text.startswith("torch."):
        raise RefusedError(
            f"numbers of kind {text[:60]!r}, such as quantised ones, are not read; save the model "
            "as float32"
        )
    return kind
