"""Tensors of PyTorch as a file describes them, and their names in models and checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from xray_captioning.checkpoints.limits import MAXIMUM_NAMES, RefusedError, shape_of
from xray_captioning.checkpoints.unpickling import Record

MAXIMUM_DEPTH = 100  # modules within modules
MAXIMUM_VISITS = 1_000_000  # objects that are looked through for tensors

# Where programs keep the weights beside other things: PyTorch Lightning, timm, MMEngine, OpenCLIP,
# fairseq, DINO, and tutorials. The first that is there is taken.
_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "module", "net", "network")
_NO_WEIGHTS = ("optim", "lr_sched", "sched", "scaler", "callbacks", "loops", "rng", "amp")


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


def tensor(storage: Any, offset: Any, shape: Any, strides: Any, kind: str | None = None) -> Tensor:
    """Return a tensor, or refuse what is none; its kind is the storage's where none is given."""
    if not isinstance(storage, Storage) or type(offset) is not int:
        raise RefusedError("a tensor without a storage; save the state_dict by torch.save")
    sizes, steps = shape_of(shape, "a tensor"), shape_of(strides, "a tensor")
    if len(sizes) != len(steps):
        raise RefusedError("a tensor whose shape and strides differ; download it again")
    return Tensor(storage, kind or storage.kind, offset, sizes, steps)


def collected(value: Any) -> dict[str, Tensor]:
    """Return the tensors of a state dict, a checkpoint or a whole module, by dotted names.

    A module's parameters and buffers have the names that its ``state_dict`` would give them. Of a
    checkpoint only the weights are taken: not what optimisers, schedulers and the like keep.
    """
    tensors: dict[str, Tensor] = {}
    for name, tensor in _Walk().through(_weights(value), "", ()):
        if name in tensors or len(tensors) >= MAXIMUM_NAMES:
            raise RefusedError(f"has {name[:60]!r} twice, or too many tensors; refused")
        tensors[name] = tensor
    if not tensors:
        raise RefusedError("holds no tensors; give the file of the weights, or of the whole model")
    return tensors


def _weights(value: Any) -> Any:
    """Return the part of a checkpoint that is the model."""
    for _ in range(5):
        if isinstance(value, Record) or not isinstance(value, dict):
            break
        if any(isinstance(v, Tensor) for v in value.values()):
            break
        inner = [value[key] for key in _WRAPPERS if isinstance(value.get(key), dict)]
        if not inner:
            return {k: v for k, v in value.items() if not _is_left_out(k)}
        value = inner[0]
    return value


def _is_left_out(key: Any) -> bool:
    return isinstance(key, str) and key.startswith(_NO_WEIGHTS)


class _Walk:
    """Goes through objects within objects, each path without cycles, so many at most."""

    visits = 0

    def through(
        self, value: Any, name: str, above: tuple[int, ...]
    ) -> Iterator[tuple[str, Tensor]]:
        self.visits += 1
        if self.visits > MAXIMUM_VISITS or len(above) > MAXIMUM_DEPTH or len(name) > 1000:
            raise RefusedError("more objects within objects than any model has; refused")
        if isinstance(value, Tensor):
            yield name, value
        elif id(value) not in above:
            for key, part in _parts(value):
                inside = f"{name}.{key}" if name else str(key)
                yield from self.through(part, inside, (*above, id(value)))


def _parts(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield what may hold tensors, with its name within the object."""
    if isinstance(value, Record):
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
