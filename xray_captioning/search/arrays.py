"""The functions that a search is written in: Keras' for tensors, NumPy's for arrays."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np


def array_namespace(tree: Any) -> Any:
    """Return ``keras.ops``, or `numpy_ops` where the first leaf of nested values is an array."""
    while isinstance(tree, (dict, list, tuple)) and tree:
        tree = next(iter(tree.values() if isinstance(tree, dict) else tree))
    if isinstance(tree, (np.ndarray, np.generic)):
        return numpy_ops
    from xray_captioning.backend import ops

    return ops


def map_structure(function: Callable[..., Any], *trees: Any) -> Any:
    """Call a function on the leaves in the same place of nested dicts, lists and tuples."""
    first = trees[0]
    if isinstance(first, dict):
        return {name: map_structure(function, *(tree[name] for tree in trees)) for name in first}
    if isinstance(first, (list, tuple)):
        parts = [map_structure(function, *part) for part in zip(*trees, strict=True)]
        return tuple(parts) if isinstance(first, tuple) else parts
    return function(*trees)


def _logsumexp(x: Any, axis: int, keepdims: bool) -> Any:
    most = x.max(axis=axis, keepdims=True)
    total = np.log(np.exp(x - most).sum(axis=axis, keepdims=True)) + most
    return total if keepdims else total.squeeze(axis)


def _top_k(x: Any, k: int) -> tuple[Any, Any]:
    order = np.argsort(-x, axis=-1, kind="stable")[..., :k]  # of equal ones the first comes first
    return np.take_along_axis(x, order, axis=-1), order


def _scatter_update(x: Any, places: Any, new: Any) -> Any:
    found = x.copy()
    found[places[:, 0]] = new
    return found


def _while_loop(going: Callable[..., Any], advance: Callable[..., Any], values: Any) -> Any:
    while going(*values):
        values = advance(*values)
    return values


_SAME = """any max min sort full zeros zeros_like logical_and logical_not logical_or maximum minimum
where broadcast_to concatenate expand_dims pad repeat reshape take take_along_axis cumsum"""

# What a search needs of ``keras.ops``, by the same names and with the same results.
numpy_ops = SimpleNamespace(
    **{name: getattr(np, name) for name in _SAME.split()},
    convert_to_tensor=np.asarray,
    convert_to_numpy=np.asarray,
    cast=lambda x, dtype: np.asarray(x).astype(dtype, copy=False),
    arange=lambda count: np.arange(count, dtype="int32"),
    argsort=lambda x: np.argsort(x, axis=-1, kind="stable"),
    sum=lambda x, axis=None: np.sum(x, axis=axis, dtype=x.dtype),
    logsumexp=_logsumexp,
    softmax=lambda x, axis: np.exp(x - _logsumexp(x, axis, True)),
    top_k=_top_k,
    scatter_update=_scatter_update,
    while_loop=_while_loop,
)
