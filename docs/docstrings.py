"""What docstrings have in reST, as the Markdown that the site is made of (a Griffe extension)."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from griffe import Docstring, Extension, Object

PACKAGE = Path(__file__).resolve().parents[1] / "xray_captioning"
FIELDS = tomllib.loads((PACKAGE / "config.toml").read_text("utf-8"))  # by class what each field means
BORDER = re.compile(r" *=+( +=+)+")


class Markdown(Extension):
    """Rewrites docstrings before they are rendered."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrite one docstring; the fields of a configuration get theirs."""
        *module, owner, name = obj.path.split(".")
        if module == ["xray_captioning", "config"] and name in FIELDS.get(owner, ()):
            obj.docstring = Docstring(FIELDS[owner][name], parent=obj)
        if not obj.is_alias and obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(text: str) -> str:
    """Turn marks of sources, blocks of code, lists of terms and tables into Markdown."""
    text = re.sub(r"(\[\d+\])_", r"\1", text)
    text = re.sub(r"(?m)^ *::$", "", text)
    text = re.sub(r"(?m)::$", ":", text)
    text = re.sub(r"(?m)^( *)(``[^:\n]*``)\n\1    (?=\S)", r"\1- \2: ", text)
    lines, out = text.split("\n"), list[str]()
    while lines:
        out += _table(lines) if BORDER.fullmatch(lines[0]) else [lines.pop(0)]
    return "\n".join(out)


def _table(lines: list[str]) -> list[str]:
    """Take a table from the beginning of some lines; a line without first cell goes on in a row."""
    border = lines.pop(0)
    cuts = [match.start() for match in re.finditer("=+", border)]
    rows: list[list[str]] = []
    has_head = False
    while lines and not (lines[0] == border and (has_head or lines[1:2] in ([], [""]))):
        if (line := lines.pop(0)) == border:
            has_head = True
            continue
        cells = [line[a:b].strip().replace("|", "\\|") for a, b in zip(cuts, [*cuts[1:], None], strict=True)]
        if cells[0]:
            rows.append(cells)
        else:
            rows[-1] = [f"{one} {more}".strip() for one, more in zip(rows[-1], cells, strict=True)]
    lines[:1] = []
    rows = rows if has_head else [[""] * len(cuts), *rows]
    rows.insert(1, ["---"] * len(cuts))
    return [" " * cuts[0] + f"| {' | '.join(row)} |" for row in rows]
