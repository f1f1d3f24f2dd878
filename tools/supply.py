"""What the two images are built of: pins with hashes, and the table of licences.

    python -m pip install uv pip-licenses
    python tools/supply.py            # both again: constraints/*.txt with the newest versions, docs/licences.md
    python tools/supply.py licences   # the table alone, of the environment this runs in

The list of components of an environment in CycloneDX's JSON, which is not kept here, is made by
``cyclonedx-py environment --output-format JSON`` of the package cyclonedx-bom.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PINS = {"image": ["setup.cfg", "--extra", "dicom", "--extra", "serve"], "runtime": ["requirements-runtime.txt"]}
BUILDING = "setuptools>=77\nwheel\n"  # what builds the package itself, which an image does not download unpinned
HEAD = """# Licences

What the two images install, with the licence that each package states of itself. `python tools/supply.py licences`
makes this table; a name in the last column is the file of `constraints/` that pins the package.

| package | licence | image |
|---|---|---|
"""


def main() -> None:
    """Write what was asked for."""
    if sys.argv[1:] != ["licences"]:
        for name, sources in PINS.items():
            pin(ROOT / "constraints" / f"{name}.txt", sources)
    write_licences(ROOT / "docs" / "licences.md")


def pin(path: Path, sources: list[str]) -> None:
    """Write the newest versions that fit, for Python 3.11 and later, with the hashes of all their files."""
    line = ["uv", "pip", "compile", "--universal", "--python-version", "3.11", "--generate-hashes", "--no-annotate"]
    line += ["--no-header", "--quiet", "--upgrade", "--no-emit-index-url", "--no-emit-find-links", *sources, "-"]
    done = subprocess.run(line, cwd=ROOT, input=BUILDING, capture_output=True, text=True, check=True)
    path.write_text(
        f"# Made by tools/supply.py; pip install --require-hashes -r constraints/{path.name}\n{done.stdout}"
    )


def pinned(name: str) -> set[str]:
    """Return the packages that a file of constraints names."""
    text = (ROOT / "constraints" / f"{name}.txt").read_text("utf-8")
    return set(re.findall(r"^([a-z0-9][a-z0-9._-]*)==", text, re.MULTILINE))


def write_licences(path: Path) -> None:
    """Write the table, of packages that are installed here; of others the licence is not said."""
    line = ["pip-licenses", "--from=mixed", "--format=json", "--with-system", f"--python={sys.executable}"]
    found = json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout)
    said = {re.sub("[-_.]+", "-", one["Name"].lower()): one["License"] for one in found}
    images = {name: pinned(name) for name in PINS}
    rows = sorted(set.union(*images.values()))
    lines = [f"| {n} | {licence(said.get(n))} | {', '.join(i for i in images if n in images[i])} |\n" for n in rows]
    path.write_text(HEAD + "".join(lines), "utf-8")


def licence(text: str | None) -> str:
    """Return what a package says of its licence, of a whole text the first line."""
    first = (
        (text or "installed on other systems or Pythons only").strip().splitlines()[0].replace("UNKNOWN", "not said")
    )
    return first.replace("|", "/").replace(";", ",")[:80]


if __name__ == "__main__":
    main()
