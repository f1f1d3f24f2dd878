"""Read a pickled Keras tokenizer without running anything that the pickle asks for.

``pickle.load`` imports and calls whatever a file names. Here a file is read twice. First its
instructions are listed, none of them followed: all are refused but those that build text, numbers,
lists, dictionaries and objects, and there may only be so many. Then Python's own unpickler follows
them, but gets an inert stand-in for each of the few accepted names and an error for any other, so
that nothing is imported and nothing of the file's choice is called (Python's documentation of
``pickle``, "Restricting Globals").
"""

import bz2
import io
import lzma
import os
import pickle
import pickletools
import re
import zlib
from pathlib import Path
from typing import Any

from xray_captioning.errors import DataError

MAXIMUM_BYTES = 64 * 2**20  # of a file, and of the content of a compressed file
MAXIMUM_STEPS = 3_000_000  # instructions: enough for a tokenizer of 200,000 words
_LZMA_MEMORY = 128 * 2**20  # its strongest setting needs about half

_KERAS_TOKENIZER = re.compile(
    r"(?:keras_preprocessing|(?:keras|tf_keras|tensorflow)(?:\.\w+)*\.preprocessing)\.text\.Tokenizer"
)
_DICTIONARIES = {"collections.OrderedDict", "collections.defaultdict"}
_RECONSTRUCTORS = {"copyreg._reconstructor", "copy_reg._reconstructor"}  # the latter: Python 2
# Arguments of those: the factory of a default dictionary, the base class of an object.
_ARGUMENT = re.compile(r"(?:builtins|__builtin__)\.(?:object|int|long|float|list|dict)")

_TUPLES = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}
_REMEMBER = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_CALLS = {"REDUCE", "NEWOBJ"}
_INSTRUCTIONS = (
    *(_TUPLES | _REMEMBER | _CALLS),
    *("PROTO", "FRAME", "STOP", "MARK", "GET", "BINGET", "LONG_BINGET"),
    *("NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2"),
    *("LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_TUPLE"),
    *("EMPTY_DICT", "DICT", "SETITEM", "SETITEMS"),
    *("GLOBAL", "STACK_GLOBAL", "BUILD"),
)


class _RefusedError(Exception):
    """What the file asked for, as the rest of a sentence that begins with its path."""


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
        _check_instructions(data)
        return _attributes(_Unpickler(io.BytesIO(data), encoding="utf-8").load())
    except _RefusedError as error:
        raise DataError(f"{path}: {str(error)[:280]}") from error
    except Exception as error:  # whatever a damaged file makes the two readers raise
        reason = " ".join(str(error).split())[:120]
        raise DataError(
            f"{path}: truncated or not a pickle ({reason}); copy or download it again"
        ) from error


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise _RefusedError("no such file; give the path of a tokenizer.pkl")
    try:
        with path.open("rb") as file:
            return _bounded(file.read(MAXIMUM_BYTES + 1))
    except OSError as error:
        raise _RefusedError(f"cannot be read ({error.strerror})") from error


def _bounded(data: bytes) -> bytes:
    if len(data) > MAXIMUM_BYTES:
        raise _RefusedError(f"larger than {MAXIMUM_BYTES >> 20} MiB, so not a word tokenizer")
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
        raise _RefusedError(f"damaged compressed file ({error}); download it again") from error


def _check_instructions(data: bytes) -> None:
    """List the instructions of a pickle, and refuse what no tokenizer needs or can cost much."""
    tuple_is_open = False
    for number, (opcode, argument, _) in enumerate(pickletools.genops(data), 1):
        name = opcode.name
        if number > MAXIMUM_STEPS:
            raise _RefusedError(f"more than {MAXIMUM_STEPS:,} pickle instructions; not followed")
        if name not in _INSTRUCTIONS:
            raise _RefusedError(f"the pickle instruction {name}, which no tokenizer needs; refused")
        if isinstance(argument, int) and not -(2**63) <= argument < 2**63:
            raise _RefusedError("an integer of more than 64 bits, which no tokenizer has; refused")
        # The unpickler makes a list as long as the highest place that a file asks for.
        if name in _REMEMBER and (argument or 0) > number:
            raise _RefusedError(f"memory place {argument}, which no tokenizer needs; refused")
        # As a dictionary's key, a few nested tuples can keep Python busy for ever.
        if tuple_is_open and name not in _CALLS | _REMEMBER:
            raise _RefusedError("a tuple that is no argument, which no tokenizer has; refused")
        tuple_is_open = name in _TUPLES or (tuple_is_open and name in _REMEMBER)


class _Unpickler(pickle.Unpickler):
    """Python's unpickler, for which no module exists."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for an accepted name."""
        text = f"{module}.{name}"
        if _KERAS_TOKENIZER.fullmatch(text):
            return _Tokenizer
        if text in _DICTIONARIES | _RECONSTRUCTORS or _ARGUMENT.fullmatch(text):
            return _Name(text)
        raise _RefusedError(
            f"the pickle names {text[:80]!r}, which is no Keras tokenizer; refused, nothing was run"
        )


class _Tokenizer:
    """Stands for the Keras tokenizer that the pickle describes."""

    state: object = None

    def __new__(cls, *arguments: object) -> "_Tokenizer":
        """Refuse arguments: Keras' pickles create the object without any."""
        if arguments:
            raise _RefusedError("the pickle wants to call Tokenizer; refused, nothing was run")
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Take the attributes as they are, instead of setting them."""
        self.state = state


class _Name:
    """Stands for a class or function that a pickle may name besides the tokenizer."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __call__(self, *arguments: Any) -> object:
        """Return what stands for the result of calling it."""
        if self.text in _RECONSTRUCTORS and arguments[:1] == (_Tokenizer,):
            return _Tokenizer()
        if self.text not in _DICTIONARIES or len(arguments) > 1:
            raise _RefusedError(f"the pickle wants to call {self.text}; refused, nothing was run")
        # The argument is a default dictionary's factory, or the pairs that Python 2 wrote.
        pairs = arguments[0] if arguments and isinstance(arguments[0], list) else []
        made = dict(pairs)
        pairs.clear()  # or a short file could have a long list copied again and again
        return made


def _attributes(value: object) -> dict[Any, Any]:
    found = value.state if isinstance(value, _Tokenizer) else value
    if not isinstance(found, dict):
        kind = type(found).__name__.strip("_")
        raise _RefusedError(f"holds {kind!r:.40}, not a tokenizer with its attributes")
    return found
