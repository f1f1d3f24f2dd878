"""Read a pickled Keras tokenizer without running anything that the pickle asks for.

``pickle.load`` imports and calls whatever a file names. `unpickling` does neither, and here all
names are refused but the few that a tokenizer needs.
"""

import bz2
import io
import lzma
import os
import re
import zlib
from pathlib import Path
from typing import Any

from xray_captioning.checkpoints.arrays import shortened
from xray_captioning.checkpoints.limits import RefusedError
from xray_captioning.checkpoints.unpickling import (
    DICTIONARIES,
    RECONSTRUCTORS,
    Name,
    Record,
    Unpickler,
)
from xray_captioning.errors import DataError

MAXIMUM_BYTES = 64 * 2**20  # of a file, and of the content of a compressed file
MAXIMUM_STEPS = 3_000_000  # instructions: enough for a tokenizer of 200,000 words
_LZMA_MEMORY = 128 * 2**20  # its strongest setting needs about half

_KERAS_TOKENIZER = re.compile(
    r"(?:keras_preprocessing|(?:keras|tf_keras|tensorflow)(?:\.\w+)*\.preprocessing)\.text\.Tokenizer"
)
# Arguments of calls: the factory of a default dictionary, the base class of an object.
_ARGUMENT = re.compile(r"(?:builtins|__builtin__)\.(?:object|int|long|float|list|dict)")


def read_tokenizer_pickle(path: str | os.PathLike[str]) -> dict[Any, Any]:
    """Read the attributes of a pickled tokenizer.

    Accepted are objects of class ``Tokenizer`` from ``keras_preprocessing.text`` and the
    ``keras`` and ``tensorflow`` spellings of that module, and plain dictionaries; pickle
    protocols 0 to 5; pickle and joblib files, the latter also compressed by zlib, gzip, bz2,
    lzma or xz. None of these packages needs to be installed and none is imported. Ordered and
    default dictionaries come as plain ones.

    Raises
    ------
    DataError
        When the file is missing, too large, truncated, not a tokenizer, or asks for anything
        else; the message names what was found.
    """
    try:
        data = _decompress(_read(Path(path)))
        return _attributes(_Reader(io.BytesIO(data), MAXIMUM_STEPS).load())
    except RefusedError as error:
        raise DataError(f"{path}: {shortened(str(error), 280)}") from error
    except Exception as error:  # whatever a damaged file makes the reader raise
        reason = " ".join(str(error).split())[:120]
        raise DataError(
            f"{path}: truncated or not a pickle ({reason}); copy or download it again"
        ) from error


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise RefusedError("no such file; give the path of a tokenizer.pkl")
    try:
        with path.open("rb") as file:
            return _bounded(file.read(MAXIMUM_BYTES + 1))
    except OSError as error:
        raise RefusedError(f"cannot be read ({error.strerror})") from error


def _bounded(data: bytes) -> bytes:
    if len(data) > MAXIMUM_BYTES:
        raise RefusedError(f"larger than {MAXIMUM_BYTES >> 20} MiB, so not a word tokenizer")
    return data


def _decompress(data: bytes) -> bytes:
    """Undo joblib's compression, known by the first bytes, up to the size limit."""
    decompressor: Any
    if data[:1] == b"\x78" or data[:2] == b"\x1f\x8b":
        decompressor = zlib.decompressobj(wbits=47)  # 47: zlib or gzip, whichever it is
    elif data[:3] == b"BZh":
        decompressor = bz2.BZ2Decompressor()
    elif data[:6] == b"\xfd7zXZ\x00" or data[:3] == b"\x5d\x00\x00":
        decompressor = lzma.LZMADecompressor(memlimit=_LZMA_MEMORY)
    else:
        return data
    try:
        return _bounded(decompressor.decompress(data, MAXIMUM_BYTES + 1))
    except (zlib.error, lzma.LZMAError, OSError) as error:
        raise RefusedError(f"damaged compressed file ({error}); download it again") from error


class _Reader(Unpickler):
    """Refuses every name but the few that a tokenizer needs, and calls but those that make one."""

    purpose = "tokenizer"

    def name(self, text: str) -> None:
        known = text in DICTIONARIES | RECONSTRUCTORS or _ARGUMENT.fullmatch(text)
        if not known and not _is_tokenizer(text):
            raise RefusedError(
                f"the pickle names {text[:80]!r}, which is no Keras tokenizer; refused, nothing "
                "was run"
            )

    def call(self, text: str, arguments: tuple[Any, ...]) -> None:
        first = arguments[0] if arguments else None
        made = isinstance(first, Name) and text in RECONSTRUCTORS and _is_tokenizer(first.text)
        if not made and (_is_tokenizer(text) or text in DICTIONARIES):
            made = len(arguments) <= (text in DICTIONARIES)
        if not made:
            name = "Tokenizer" if _is_tokenizer(text) else text
            raise RefusedError(f"the pickle wants to call {name}; refused, nothing was run")


def _is_tokenizer(text: str) -> bool:
    return _KERAS_TOKENIZER.fullmatch(text) is not None


def _attributes(value: object) -> dict[Any, Any]:
    found = value.state if isinstance(value, Record) else value
    if not isinstance(found, dict):
        kind = type(found).__name__.strip("_")
        raise RefusedError(f"holds {kind!r:.40}, not a tokenizer with its attributes")
    if any(isinstance(part, tuple) for part in found.values()):  # nobody should walk through them
        raise RefusedError("a tuple, which no tokenizer has; refused")
    return found
