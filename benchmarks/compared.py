"""Look up every name of other libraries in docs/compared.md, in the versions that are installed.

    pip install keras-hub==0.32.0 jax transformers==5.24.0 RadEval==2.2.1 torchxrayvision==1.5.7
    python benchmarks/compared.py

Prints the versions and the names that are not there, and then exits with 1. Nothing is downloaded or built.
"""

from __future__ import annotations

import importlib
import re
import sys
from importlib.metadata import version
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "compared.md"
PEERS = {"keras_hub": "keras-hub", "transformers": "transformers", "radeval": "RadEval",
         "torchxrayvision": "torchxrayvision"}  # fmt: skip
NAME = re.compile(rf"`((?:{'|'.join(PEERS)})(?:\.\w+)+)`")


def resolves(name: str) -> bool:
    """Say whether a dotted name is a module, or in one or in a class of one."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def main() -> int:
    """Return 0 if all names are there."""
    text = PAGE.read_text("utf-8")
    names = sorted(set(NAME.findall(text)))
    for package, distribution in PEERS.items():
        print(distribution, version(distribution), sum(name.startswith(package) for name in names), "names")
    older = [name for name in PEERS.values() if f"{name} {version(name)}" not in text.partition("\n## ")[0]]
    missing = [name for name in names if not resolves(name)]
    print("other versions than the page's:", older or "none", "\nnot there:", missing or "none")
    return bool(missing or older)


if __name__ == "__main__":
    sys.exit(main())
