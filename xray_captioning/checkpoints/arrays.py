"""An array as a weights file holds it, and how such arrays fit a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class StoredArray(NamedTuple):
    """One array of a weights file."""

    layer: str  # as the file calls it
    name: str  # without ``:0``, such as ``global_attention/dense/kernel``
    values: NDArray[np.float32]

    @property
    def label(self) -> str:
        """Return what messages call it."""
        inside = self.name.startswith(f"{self.layer}/")
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
    expected: Mapping[str, tuple[int, ...]],
    found: Mapping[str, StoredArray],
    extra: Iterable[StoredArray],
) -> list[str]:
    """List the arrays that are missing, misshapen or not expected, a clause each.

    Expected shapes and arrays found go by the names of the published file; extra are the others.
    """
    clauses = []
    for name, shape in expected.items():
        if name not in found:
            clauses.append(f"{name} of shape {shape} is missing")
        elif found[name].values.shape != shape:
            stored = found[name]
            clauses.append(f"{stored.label} has shape {stored.values.shape} instead of {shape}")
    return clauses + [f"{a.label} of shape {a.values.shape} is not expected" for a in extra]
