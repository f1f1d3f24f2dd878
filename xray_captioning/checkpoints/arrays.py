"""An array as a weights file holds it, and how such arrays fit a model."""

import tomllib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any, NamedTuple

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
    expected: Mapping[str, tuple[int, ...]],
    found: Mapping[str, StoredArray],
    extra: Iterable[StoredArray],
) -> list[str]:
    """List the arrays that are missing, misshapen or not expected, one clause for each.

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


_LEAVES = {"recurrent_kernel": "a recurrent decoder", "embeddings": "an embedding"}


def known(table: str) -> Any:
    """Return a table of ``known.toml``, which names other people's networks and files."""
    return tomllib.loads(files(__package__).joinpath("known.toml").read_text("utf-8"))[table]


def looks_like(arrays: Iterable[StoredArray]) -> str:
    """Say in a few words which model a file seems to hold: its network, and how many layers."""
    arrays = list(arrays)
    names = "\n".join(f"{array.layer}/{array.name}" for array in arrays)
    parts = [name for part, name in known("networks").items() if part in names][:1]
    leaves = {array.leaf for array in arrays}
    parts += [word for leaf, word in _LEAVES.items() if leaf in leaves]
    layers = list(dict.fromkeys(shortened(array.layer, 30) for array in arrays))
    listed = ", ".join(layers[:3]) + (", ..." if len(layers) > 3 else "")
    plural = "s" if len(layers) > 1 else ""
    counted = f"{len(layers)} layer{plural} with weights ({listed})" if layers else "no weights"
    return f"{' and '.join(parts)}, {counted}" if parts else counted


def shortened(text: str, most: int) -> str:
    """Cut a long text in its middle, so that a message stays a line; a short one is unchanged."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2 - 2]}...{text[len(text) - most // 2 + 1 :]}"
