"""Tensors out of a file that ``torch.save`` wrote, without PyTorch; of a module nothing is built.

Its zip layout holds a pickle (``data.pkl``) and the bytes of each storage (``data/KEY``); files older
than PyTorch 1.6 are some pickles and then the storages (``torch/serialization.py``, ``torch/_utils.py``).
"""

import io
import struct
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from itertools import count
from pathlib import Path
from typing import IO, Any, NamedTuple

from xray_captioning.checkpoints import arrays, pickles
from xray_captioning.checkpoints.arrays import Array, Budget, RefusedError, entries, entry, shape_of
from xray_captioning.files import read_toml

MAXIMUM_STEPS = 5_000_000  # pickle instructions: a tensor takes about forty
MAXIMUM_PICKLE = 2**26  # bytes
MAXIMUM_DEPTH = 100  # modules within modules
MAXIMUM_VISITS = 1_000_000  # objects that are looked through for tensors
LEGACY = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # a number, the first pickle of legacy files
_KNOWN = read_toml(__file__, "known.toml")["pytorch"]


class Storage(NamedTuple):
    """Numbers of one kind; a view begins after so many of those that are stored."""

    key: str
    kind: str
    first: int = 0


class Tensor(NamedTuple):
    """A view of a storage; offset and strides count numbers."""

    storage: Storage
    kind: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, kind: str | None) -> Tensor:
    """Return a tensor, of the storage's kind where none is given, or refuse what is none."""
    if not isinstance(storage, Storage) or type(offset) is not int:
        raise RefusedError("a tensor without a storage; save the state_dict by torch.save")
    sizes, steps = shape_of(shape, "a tensor"), shape_of(strides, "a tensor")
    if len(sizes) != len(steps):
        raise RefusedError("a tensor whose shape and strides differ; download it again")
    return Tensor(storage, kind or storage.kind, offset, sizes, steps)


def read_zip(archive: zipfile.ZipFile, budget: Budget) -> dict[str, Array]:
    """Read the tensors of an archive that ``torch.save`` or ``torch.jit.save`` wrote."""
    members, stored_bytes = entries(archive), Budget(budget.limit)
    root = min((n for n in members if n.endswith("data.pkl")), key=len).removesuffix("data.pkl")
    pickled, order = entry(archive, members, f"{root}data.pkl", Budget(MAXIMUM_PICKLE)), f"{root}byteorder"
    big = order in members and entry(archive, members, order, Budget(16)) == b"big"
    found = collected(_Reader(io.BytesIO(pickled), MAXIMUM_STEPS).load())

    def stored(key: str) -> bytes:
        return entry(archive, members, f"{root}data/{key}", stored_bytes)

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

        def stored(key: str) -> bytes:
            start, size = places[key]
            file.seek(start)
            return file.read(size)

        return _arrays(collected(value), stored, budget, "<")


def _places(file: IO[bytes], start: int, storages: list[Storage]) -> dict[str, tuple[int, int]]:
    """Return where the bytes of each storage begin, and how many they are."""
    end, places = file.seek(0, io.SEEK_END), {}
    for storage in storages:
        file.seek(start)
        (count,) = struct.unpack("<q", file.read(8))
        size = count * arrays.size_of(storage.kind)
        places[storage.key] = (start + 8, size)
        start += 8 + size
        if count < 0 or start > end:
            raise RefusedError("truncated PyTorch file; download or copy it again")
    return places


def _arrays(found: dict[str, Tensor], stored: Callable[[str], bytes], budget: Budget, order: str) -> dict[str, Array]:
    """Return the arrays of tensors; those that are one and the same stay so."""
    read, made = cache(stored), {}
    for name, one in found.items():
        if one not in made:
            storage, kind, offset, shape, strides = one
            view = (storage.first + offset, strides)
            made[one] = arrays.decoded(read(storage.key), kind, shape, budget, name, order, view)
    return {name: made[one] for name, one in found.items()}


class _Reader(pickles.Unpickler):
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
        first, count = view[0][1:] if view and view[0] else (0, count)
        if not all(type(number) is int and number >= 0 for number in (first, count)):
            raise RefusedError("a storage of no possible size; download or copy it again")
        storage = Storage(name, _kind(what), first)
        self.storages.setdefault(name, storage)
        return storage

    def call(self, text: str, arguments: tuple[Any, ...]) -> Any:
        """Return the tensor that a call would make; others become records."""
        if text in _KNOWN["views"]:
            storage, offset, shape, strides = arguments[:4]
            return _tensor(storage, offset, shape, strides, _kind(arguments[6]) if text.endswith("v3") else None)
        if text in _KNOWN["parameters"]:
            return arguments[0]
        if text in _KNOWN["subclasses"] and isinstance(arguments[0], pickles.Name):
            return self.call(arguments[0].text, arguments[2])
        if text == "torch.Size":
            return shape_of(arguments[0], "a size")
        if text.startswith("torch._") and "._rebuild" in text:
            raise RefusedError(f"{text[:60]!r} makes a tensor that is sparse, quantised or so; save it as float32")
        return super().call(text, arguments)


def _kind(name: Any) -> str:
    text = name.text if isinstance(name, pickles.Name) else "no name"
    kind = _KNOWN["kinds"].get(text.rpartition(".")[2])
    if kind is None or not text.startswith("torch."):
        raise RefusedError(f"numbers of kind {text[:60]!r}, such as quantised ones; save the model as float32")
    return kind


def collected(value: Any) -> dict[str, Tensor]:
    """Return the tensors of a state dict, a checkpoint (without its optimiser's) or a module, as in its state dict."""
    if not (tensors := arrays.once(_walked(_weights(value), "", (), count(1)))):
        raise RefusedError("holds no tensors; give the file of the weights, or of the whole model")
    return tensors


def _weights(value: Any) -> Any:
    """Return the part of a checkpoint that is the model."""
    for _ in range(5):
        holder = isinstance(value, dict) and not isinstance(value, pickles.Record)
        if not holder or any(isinstance(v, Tensor) for v in value.values()):
            break
        if not (inner := [value[key] for key in _KNOWN["wrappers"] if isinstance(value.get(key), dict)]):
            return {k: v for k, v in value.items() if not str(k).startswith(tuple(_KNOWN["no_weights"]))}
        value = inner[0]
    return value


def _walked(value: Any, name: str, above: tuple[int, ...], visits: Iterator[int]) -> Iterator[tuple[str, Tensor]]:
    """Go through objects within objects, each path without cycles, so many visits at most."""
    if next(visits) > MAXIMUM_VISITS or len(above) > MAXIMUM_DEPTH or len(name) > 1000:
        raise RefusedError("more objects within objects than any model has; refused")
    if isinstance(value, Tensor):
        yield name, value
    elif id(value) not in above:
        for key, part in _parts(value):
            yield from _walked(part, f"{name}.{key}" if name else str(key), (*above, id(value)), visits)


def _parts(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield what may hold tensors, with its name within the object."""
    if isinstance(value, pickles.Record):
        state = value.state[0] if isinstance(value.state, tuple) and value.state else value.state
        state = state if isinstance(state, dict) else {}
        yield from _parts(_members(state) if "_parameters" in state else {**value, **state})
    elif isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, (list, tuple)):
        yield from enumerate(value)


def _members(state: dict[Any, Any]) -> dict[Any, Any]:
    """Return a module's parameters, buffers and modules; some buffers are in no state dict."""
    passing = state.get("_non_persistent_buffers_set") or ()
    buffers = {k: v for k, v in (state.get("_buffers") or {}).items() if k not in passing}
    return {**(state.get("_parameters") or {}), **buffers, **(state.get("_modules") or {})}
