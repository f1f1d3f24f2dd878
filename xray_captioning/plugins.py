"""Encoders and decoders of other packages, looked for when a name is not one of this package.

A package lists each of its models in the entry-point group ``xray_captioning.encoders`` or
``xray_captioning.decoders``, with the module whose import registers it.
"""

from typing import Any, TypeVar

from xray_captioning.errors import ConfigError

Row = TypeVar("Row")
_MODULES: dict[tuple[str, str], str] = {}  # that registered a model, by kind and name


def register_model(rows: dict[str, Row], kind: str, name: str, row: Row, module: str) -> None:
    """Add a model; only the module that registered one of that name may replace it."""
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{module}: a name of {kind} is {name!r}; give a text")
    owner = _MODULES.get((kind, name), "xray_captioning")
    if name in rows and owner != module:
        raise ConfigError(f"{module}: {owner} has {kind} {name!r} already; register this one by another name")
    rows[name], _MODULES[kind, name] = row, module


def find_model(rows: dict[str, Row], kind: str, name: str) -> Row:
    """Return the model of that name; the package that brings it is imported, if it is not yet."""
    points = [] if name in rows else _entry_points(kind, name)
    packages = " and ".join(sorted(point.dist.name for point in points))
    if len(points) > 1:
        raise ConfigError(f"{packages} each have {kind} {name!r}; uninstall all but one")
    try:
        for point in points:
            point.load()
    except Exception as error:  # whatever another package's module raises
        advice = "install the package again, with what it needs"
        raise ConfigError(
            f"{kind} {name!r} of the package {packages} cannot be imported ({error}); {advice}"
        ) from error
    if name not in rows:
        where = f"{kind}s are {', '.join(model_names(rows, kind))}"
        where = f"the package {packages} lists it, but does not register it" if points else where
        raise ConfigError(f"unknown {kind} {name!r}; {where}; how one of your own is found: docs/own_models.md")
    return rows[name]


def model_names(rows: dict[str, Any], kind: str) -> list[str]:
    """Return the names of all models of a kind, importing none of them."""
    return list(dict.fromkeys([*rows, *(point.name for point in _entry_points(kind))]))


def origin_of(kind: str, name: str) -> dict[str, str]:
    """Return package and version, or else the module, of a model that is not of this package."""
    for point in _entry_points(kind, name):
        return {"package": point.dist.name, "version": point.dist.version}
    return {"module": _MODULES[kind, name]} if (kind, name) in _MODULES else {}


def _entry_points(kind: str, *name: str) -> list[Any]:
    from importlib.metadata import entry_points  # takes longer than all of this package's import

    return [point for point in entry_points(group=f"xray_captioning.{kind}s") if not name or point.name in name]
