"""Arrays of somebody else's file into the variables of a network."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from xray_captioning.checkpoints import StoredArray, looks_like, mismatches
from xray_captioning.errors import BundleError


def check(
    path: str | os.PathLike[str],
    what: str,
    shapes: Mapping[str, tuple[int, ...]],
    found: Mapping[str, StoredArray],
    extra: Iterable[StoredArray],
) -> None:
    """Raise a BundleError that says which arrays of a file are missing, misshapen or unknown.

    Of another model it says only what that seems to be. `what` names the model in the message; the
    rest is as `mismatches` takes it.
    """
    extra = list(extra)
    clauses = mismatches(shapes, found, extra)
    if clauses and len(found) < len(shapes) / 2:
        seems = looks_like([*found.values(), *extra])
        raise BundleError(
            f"{path}: is not {what}, of whose {len(shapes)} arrays it has {len(found)}; it seems "
            f"to be another model: {seems}; give the file of {what}"
        )
    if clauses:
        more = f", and {len(clauses) - 2} more" if len(clauses) > 2 else ""
        raise BundleError(
            f"{path}: does not fit {what}: {', '.join(clauses[:2])}{more}; give the file of that "
            "model"
        )


def shapes_of(variables: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of variables, by the same names."""
    return {name: tuple(variable.shape) for name, variable in variables.items()}


def fill(variables: Mapping[str, Any], found: Mapping[str, StoredArray]) -> None:
    """Assign to each variable the array of its name."""
    for name, variable in variables.items():
        variable.assign(found[name].values)
