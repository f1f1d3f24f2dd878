"""Read a pickled Keras tokenizer without running anything that is written in the pickle.

A pickle is a program for a small stack machine. ``pickle.load`` lets that program import and
call whatever it names. The machine below is a second, far smaller one: it knows the
instructions that build text, numbers, lists, tuples and dictionaries, treats the few class
names it accepts as labels and never imports or calls them, and counts its steps. So what a file
can do is bounded by what is written here, not by a list of what is forbidden.

References
----------
.. [1] Python documentation, ``pickletools``: the instructions, parsed here by ``genops``.
"""

import bz2
import io
import lzma
import os
import pickletools
import re
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

from xray_captioning.errors import DataError

MAXIMUM_BYTES = 64 * 2**20
"""Largest file, and largest content of a compressed file, that is read."""

MAXIMUM_STEPS = 3_000_000
"""Most instructions that are followed: enough for a tokenizer of 200,000 words."""

_LZMA_MEMORY = 128 * 2**20  # its strongest setting needs about half

_KERAS_TOKENIZER = re.compile(
    r"(?:keras_preprocessing|(?:keras|tf_keras|tensorflow)(?:\.\w+)*\.preprocessing)\.text\.Tokenizer"
)
_DICTIONARIES = {"collections.OrderedDict", "collections.defaultdict"}
_RECONSTRUCTOR = "copyreg._reconstructor"
_LABELS = {f"builtins.{name}" for name in ("object", "int", "long", "float", "list", "dict")}
_OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}

_NUMBERS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
_VALUES = _NUMBERS | {"UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
_BYTE_TEXT = {"STRING", "BINSTRING", "SHORT_BINSTRING"}
_CONSTANT = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, type] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
_SMALL_TUPLE = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _RefusedError(Exception):
    """What the file asked for, as the rest of a sentence that begins with its path."""


class _Name(NamedTuple):
    """The name of an accepted class or function; only ever compared."""

    text: str


class _Instance:
    """Stands for the Keras tokenizer that the pickle describes."""

    state: dict[Any, Any] | None = None


def read_tokenizer_pickle(path: str | os.PathLike[str]) -> dict[Any, Any]:
    """Read the attributes of a pickled tokenizer.

    Accepted are objects of class ``Tokenizer`` from ``keras_preprocessing.text`` and the
    ``keras`` and ``tensorflow`` spellings of that module, and plain dictionaries; pickle
    protocols 0 to 5; pickle and joblib files, the latter also compressed by zlib, gzip, bz2,
    lzma or xz. None of these packages needs to be installed and none is imported.

    Parameters
    ----------
    path : str or os.PathLike
        The file.

    Returns
    -------
    dict
        The object's attributes, or the dictionary; ordered and default dictionaries in it come
        as plain ones.

    Raises
    ------
    DataError
        When the file is missing, too large, truncated, not a tokenizer, or asks for anything
        else; the message names what was found.
    """
    try:
        return _attributes(_run(_decompress(_read(Path(path)))))
    except _RefusedError as error:
        raise DataError(f"{path}: {error}") from error
    except (ValueError, IndexError, KeyError, OverflowError, struct.error) as error:
        reason = str(error) if isinstance(error, ValueError) else "its instructions do not fit"
        raise DataError(
            f"{path}: truncated or not a pickle ({reason[:120]}); copy or download it again"
        ) from error


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise _RefusedError("no such file; give the path of a tokenizer.pkl")
    try:
        with path.open("rb") as file:
            data = file.read(MAXIMUM_BYTES + 1)
    except OSError as error:
        raise _RefusedError(f"cannot be read ({error.strerror})") from error
    return _bounded(data)


def _bounded(data: bytes) -> bytes:
    if len(data) > MAXIMUM_BYTES:
        raise _RefusedError(f"larger than {MAXIMUM_BYTES >> 20} MiB, so not a word tokenizer")
    return data


def _decompress(data: bytes) -> bytes:
    """Undo joblib's compression, told by the first bytes, without exceeding the size limit."""
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
        content: bytes = decompressor.decompress(data, MAXIMUM_BYTES + 1)
    except (zlib.error, lzma.LZMAError, OSError) as error:
        raise _RefusedError(f"damaged compressed file ({error}); download it again") from error
    return _bounded(content)


def _attributes(value: object) -> dict[Any, Any]:
    found = value.state if isinstance(value, _Instance) else value
    if not isinstance(found, dict):
        raise _RefusedError(f"holds {_kind(value)}, not a tokenizer")
    return found


def _run(data: bytes) -> object:
    machine = _Machine()
    for opcode, argument, _ in pickletools.genops(io.BytesIO(data)):
        if opcode.name == "STOP":
            break
        machine.step(opcode.name, argument)
    return machine.stack.pop()


class _Machine:
    """Stack, marks and memo of one pickle; every instruction it knows builds inert data."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.steps = 0

    def step(self, name: str, argument: Any) -> None:
        """Follow one instruction: values here, the others by family."""
        self._spend(1)
        if name in _VALUES:
            self.stack.append(_checked(argument))
        elif name in _CONSTANT:
            self.stack.append(_CONSTANT[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _BYTE_TEXT:  # Python 2 wrote text as bytes, which genops shows as Latin-1
            self.stack.append(argument.encode("latin-1").decode("utf-8"))
        elif name in ("GLOBAL", "STACK_GLOBAL", "REDUCE", "NEWOBJ", "BUILD"):
            self._object(name, argument)
        elif "PUT" in name or "GET" in name or name == "MEMOIZE":
            self._memo(name, argument)
        elif name not in ("PROTO", "FRAME"):
            self._container(name)

    def _spend(self, steps: int) -> None:
        self.steps += steps
        if self.steps > MAXIMUM_STEPS:
            raise _RefusedError(
                f"more than {MAXIMUM_STEPS:,} pickle instructions; not followed further"
            )

    def _memo(self, name: str, argument: Any) -> None:
        if name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif "PUT" in name:
            self.memo[argument] = self.stack[-1]
        else:
            self.stack.append(self.memo[argument])

    def _container(self, name: str) -> None:
        if name == "MARK":
            self.marks.append(len(self.stack))
        elif name in _SMALL_TUPLE:
            self.stack.append(
                tuple(reversed([self.stack.pop() for _ in range(_SMALL_TUPLE[name])]))
            )
        elif name == "TUPLE":
            self.stack.append(tuple(self._since_mark()))
        elif name == "LIST":
            self.stack.append(self._since_mark())
        elif name == "DICT":
            self.stack.append(_fill({}, self._since_mark()))
        elif name == "APPEND":
            item = self.stack.pop()
            _expect(self.stack[-1], list).append(item)
        elif name == "APPENDS":
            items = self._since_mark()
            _expect(self.stack[-1], list).extend(items)
        elif name == "SETITEM":
            value, key = self.stack.pop(), self.stack.pop()
            _fill(_expect(self.stack[-1], dict), [key, value])
        elif name == "SETITEMS":
            items = self._since_mark()
            _fill(_expect(self.stack[-1], dict), items)
        else:
            raise _RefusedError(f"the pickle instruction {name}, which no tokenizer needs; refused")

    def _since_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _object(self, name: str, argument: Any) -> None:
        if name == "GLOBAL":
            self.stack.append(_accepted(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            attribute, module = self.stack.pop(), self.stack.pop()
            self.stack.append(_accepted(_expect(module, str), _expect(attribute, str)))
        elif name == "BUILD":
            state, instance = self.stack.pop(), _expect(self.stack[-1], _Instance)
            instance.state = _expect(state, dict)
        else:
            arguments, callee = _expect(self.stack.pop(), tuple), self.stack.pop()
            self.stack.append(self._made(name, callee, arguments))

    def _made(self, name: str, callee: object, arguments: tuple[Any, ...]) -> object:
        """Stand-in for what calling `callee` would have made."""
        called = callee.text if isinstance(callee, _Name) else _kind(callee)
        if name == "NEWOBJ" and _is_tokenizer(callee) and not arguments:
            return _Instance()
        if name == "REDUCE" and called == _RECONSTRUCTOR and _is_tokenizer(*arguments[:1]):
            return _Instance()
        if name == "REDUCE" and called in _DICTIONARIES and len(arguments) <= 1:
            # The one argument is a default dictionary's factory, never needed for reading, or
            # the list of pairs that Python 2 wrote.
            pairs = arguments[0] if arguments and isinstance(arguments[0], list) else []
            self._spend(len(pairs))
            return _fill({}, [item for pair in pairs for item in _pair(pair)])
        raise _RefusedError(f"the pickle wants to call {called} ({name}); refused, nothing was run")


def _accepted(module: str, attribute: str) -> _Name:
    text = f"{_OLD_MODULES.get(module, module)}.{attribute}"
    if text in _DICTIONARIES | _LABELS | {_RECONSTRUCTOR} or _KERAS_TOKENIZER.fullmatch(text):
        return _Name(text)
    raise _RefusedError(
        f"the pickle names {text[:80]!r}, which is no Keras tokenizer; refused, nothing was run"
    )


def _is_tokenizer(name: object = None) -> bool:
    return isinstance(name, _Name) and _KERAS_TOKENIZER.fullmatch(name.text) is not None


def _checked(value: object) -> object:
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise _RefusedError("an integer of more than 64 bits, which no tokenizer holds; refused")
    return value


def _fill(target: dict[Any, Any], items: list[Any]) -> dict[Any, Any]:
    if len(items) % 2:
        raise IndexError("a dictionary key without its value")
    for key, value in zip(items[::2], items[1::2], strict=True):
        # Hashing a tuple walks through it, and nested ones can be written in exponential size.
        if not isinstance(key, str | int | float | None):
            raise _RefusedError(
                f"{_kind(key)} as a dictionary key, which no tokenizer has; refused"
            )
        target[key] = value
    return target


def _pair(value: object) -> tuple[Any, ...] | list[Any]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise _RefusedError(f"{_kind(value)} where a key and its value were expected; refused")
    return value


def _expect(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise _RefusedError(
            f"{_kind(value)} where the pickle needs a {kind.__name__.strip('_')}; refused"
        )
    return value


def _kind(value: object) -> str:
    if isinstance(value, _Name):
        return value.text
    name = type(value).__name__.strip("_")
    return f"{'an' if name[0] in 'aeiouI' else 'a'} {name}"
