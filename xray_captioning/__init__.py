"""Write the findings or impression of a chest X-ray, and measure honestly how well.

The names of ``__init__.pyi`` are imported when they are first used, so that importing the package
loads neither Keras nor TensorFlow.
"""

import importlib
from functools import cache
from typing import Any

__version__ = "0.1.0"


@cache
def _homes() -> dict[str, str | None]:
    """Return the module of each public name, None for one that is a module itself."""
    import ast
    from pathlib import Path

    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text("utf-8"))
    found = [node for node in stub.body if isinstance(node, ast.ImportFrom) and node.level]
    return {alias.name: node.module for node in found for alias in node.names}


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return list(_homes())
    if name.startswith("__") or name not in _homes():
        raise AttributeError(f"module 'xray_captioning' has no attribute {name!r}")
    home = importlib.import_module(f"xray_captioning.{_homes()[name] or name}")
    return getattr(home, name) if _homes()[name] else home


def __dir__() -> list[str]:
    return sorted({*globals(), *_homes()})
