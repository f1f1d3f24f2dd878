"""What a harness is made of: a reader, valid inputs, and where an input becomes a file."""

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from xray_captioning.errors import XrayCaptioningError

Target = Callable[[bytes], object]


class Harness(NamedTuple):
    """A reader, and what it is known to read."""

    target: Target
    seeds: Callable[[], list[bytes]]
    cost: float = 1.0  # how much longer than others an input takes, roughly


def refused(target: Target, data: bytes) -> bool:
    """Return whether an input was refused as it should be; anything else that is raised is a fault."""
    try:
        target(data)
    except XrayCaptioningError as error:
        message = str(error)
        assert message, "an error without a word"
        assert "\n" not in message, f"more than one line: {message!r}"
        return True
    return False


@cache
def own_folder() -> Path:
    kept = tempfile.TemporaryDirectory(prefix="fuzz-")
    _held.append(kept)
    return Path(kept.name)


_held: list[Any] = []


def as_file(name: str, data: bytes) -> Path:
    path = own_folder() / name
    path.write_bytes(data)
    return path


def text(data: bytes) -> str:
    """Every input is some text, also with lone surrogates."""
    return (
        data.decode("utf-8", "surrogatepass" if b"\xed" in data[:64] else "replace")
        if _is_text(data)
        else data.decode("latin-1")
    )


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True
