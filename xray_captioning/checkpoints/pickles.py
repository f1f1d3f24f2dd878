"""Follow a pickle without importing or calling anything that it names; read a tokenizer so.

Names stay names, and objects become records of what they were made of: Python's own reader gets a table of the
instructions that are followed. No pickle can take much more time or memory than its length: there are only so many
instructions, keys are plain values whose hash takes no time, and whole numbers have 64 bits at most.
"""

import bz2
import io
import lzma
import os
import pickle
import pickletools
import re
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, ClassVar

from xray_captioning.checkpoints.arrays import RefusedError, shortened
from xray_captioning.errors import DataError, in_one_line
from xray_captioning.files import read_toml

DICTIONARIES = {"collections.OrderedDict", "collections.defaultdict"}
RECONSTRUCTORS = {"copyreg._reconstructor", "copy_reg._reconstructor"}  # the latter: Python 2
_SETS = {f"{module}.{n}" for module in ("builtins", "__builtin__") for n in ("set", "frozenset")}


@dataclass(slots=True, eq=False)
class Name:
    """A class or function that a pickle names; nothing is imported."""

    text: str


class Dictionary(dict[Any, Any]):
    """A dictionary of plain keys, or few: of nested tuples each hash is that of all below, which may take for ever."""

    def __init__(self, pairs: Iterable[Any] = ()) -> None:
        super().__init__()
        for key, value in pairs:
            self[key] = value

    def __setitem__(self, key: Any, value: Any) -> None:
        """Put a value under a key, or refuse the key."""
        parts = key if isinstance(key, tuple) else (key,)
        if len(parts) > 32 or not all(isinstance(part, _KEYS) for part in parts):
            raise RefusedError("a key that is no plain value; refused")
        super().__setitem__(key, value)


class Record(Dictionary):
    """What an object was made of: the name of its class, arguments, attributes and items."""

    def __init__(self, kind: str, arguments: tuple[Any, ...] = ()) -> None:
        super().__init__()
        self.kind, self.arguments = kind, arguments
        self.state: Any = None

    # Of itself alone: as a key it is hashed and written, whatever lies in it.
    __hash__ = object.__hash__  # type: ignore[assignment]
    __repr__ = object.__repr__

    def append(self, value: Any) -> None:  # of a subclass of list
        """Put a value under the next whole number."""
        self[len(self)] = value


class _Set(list[Any]):
    """Stands for a set; nothing is hashed."""

    add = list.append


_KEYS = (str, bytes, int, float, type(None), Name, Record)


class Unpickler(pickle._Unpickler):
    """Follows the pickles of a file by ``load()``: a RefusedError where it may not, much else where one is damaged."""

    purpose: ClassVar[str]  # what the pickle should hold, for messages, such as ``tokenizer``

    def __init__(self, file: IO[bytes], steps: int) -> None:
        super().__init__(file, encoding="utf-8")
        self.left = self.steps = steps
        self.dispatch = _CountedDispatch(self)  # type: ignore[misc]

    def load(self) -> Any:
        """Return what the next pickle describes; the file is then behind it."""
        self.memo: dict[int, Any] = {}
        return super().load()

    def persistent_load(self, key: Any) -> Any:
        """Return what stands for an object that is stored outside the pickle."""
        raise RefusedError(f"an object outside the pickle, which no {self.purpose} needs; refused")

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a class or function, or refuse it."""
        return Name(f"{module}.{name}")

    def count(self, steps: int) -> None:
        """Take so many of the steps that are left: instructions, and values that are copied."""
        self.left -= steps
        if self.left < 0:
            raise RefusedError(f"more than {self.steps:,} pickle instructions; not followed")

    def call(self, text: str, arguments: tuple[Any, ...]) -> Any:
        """Return what stands for the result of a call: a dictionary, a set, or a record of an object."""
        first = arguments[0] if arguments else None
        values = first if isinstance(first, (list, tuple)) else ()
        if text in DICTIONARIES:  # of pairs, as Python 2 wrote them, or with a factory
            self.count(len(values))
            return Dictionary(values)
        if text in _SETS:
            self.count(len(values))
            return _Set(values)
        return Record(first.text) if text in RECONSTRUCTORS and isinstance(first, Name) else Record(text, arguments)


class _CountedDispatch(dict[int, Callable[[Any], None]]):
    """Counts the instructions of an unpickler as it looks them up, and refuses those not here."""

    def __init__(self, machine: Unpickler) -> None:
        super().__init__(_ACTIONS)
        self.machine = machine

    def __getitem__(self, opcode: int) -> Callable[[Any], None]:
        self.machine.count(1)
        if opcode not in self:
            name = next(op.name for op in pickletools.opcodes if op.code == chr(opcode))
            raise RefusedError(f"the pickle instruction {name}, which no {self.machine.purpose} needs; refused")
        return super().__getitem__(opcode)


def _number(load: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return an action that refuses numbers so large that many could be keys with one hash."""

    def loaded(machine: Any) -> None:
        load(machine)
        if not -(2**63) <= machine.stack[-1] < 2**63:
            raise RefusedError(f"an integer of more than 64 bits, which no {machine.purpose} has; refused")

    return loaded


def _called(machine: Any, keywords: bool = False) -> None:
    if keywords:
        machine.stack.pop()
    arguments, function = machine.stack.pop(), machine.stack.pop()
    if not isinstance(function, Name) or not isinstance(arguments, tuple):
        raise ValueError("a call of something that is no name")
    machine.append(machine.call(function.text, arguments))


def _described(machine: Any) -> None:
    """Give an object its attributes; a dictionary's are left out."""
    state, target = machine.stack.pop(), machine.stack[-1]
    if isinstance(target, Record):
        target.state = state
    elif not isinstance(target, dict):
        raise ValueError("attributes for what is no object")


def _dictionary(machine: Any) -> None:
    values = machine.pop_mark()
    machine.append(Dictionary(zip(values[::2], values[1::2], strict=True)))


_OWN: dict[str, Callable[[Any], None]] = {
    "EMPTY_DICT": lambda machine: machine.append(Dictionary()),
    "EMPTY_SET": lambda machine: machine.append(_Set()),
    "FROZENSET": lambda machine: machine.append(_Set(machine.pop_mark())),
    "NEWOBJ_EX": partial(_called, keywords=True),
}
_OWN |= {"DICT": _dictionary, "REDUCE": _called, "NEWOBJ": _called, "BUILD": _described}
_CODES = {op.name: ord(op.code) for op in pickletools.opcodes}
_python: dict[int, Callable[[Any], None]] = pickle._Unpickler.dispatch
_ACTIONS = {_CODES[name]: _python[_CODES[name]] for name in read_toml(__file__, "known.toml")["instructions"]}
_ACTIONS |= {_CODES[n]: _number(_python[_CODES[n]]) for n in ("INT", "LONG", "LONG1", "LONG4")}
_ACTIONS |= {_CODES[name]: action for name, action in _OWN.items()}

MAXIMUM_BYTES = 64 * 2**20  # of a file, and of the content of a compressed file
MAXIMUM_STEPS = 3_000_000  # instructions: enough for a tokenizer of 200,000 words
_LZMA_MEMORY = 128 * 2**20  # its strongest setting needs about half
_KERAS_TOKENIZER = re.compile(
    r"(?:keras_preprocessing|(?:keras|tf_keras|tensorflow)(?:\.\w+)*\.preprocessing)\.text\.Tokenizer"
)
# Arguments of calls: the factory of a default dictionary, the base class of an object.
_ARGUMENT = re.compile(r"(?:builtins|__builtin__)\.(?:object|int|long|float|list|dict)")


def read_tokenizer_pickle(path: str | os.PathLike[str]) -> dict[Any, Any]:
    """Read the attributes of a pickled Keras tokenizer, or a dictionary of them; anything else is a DataError."""
    # It may be compressed as joblib does (zlib, gzip, bz2, lzma, xz). No name is imported.
    try:
        if not os.path.isfile(path):
            raise RefusedError("no such file; give the path of a tokenizer.pkl")
        with open(path, "rb") as file:
            data = _decompress(_bounded(file.read(MAXIMUM_BYTES + 1)))
        return _attributes(_Reader(io.BytesIO(data), MAXIMUM_STEPS).load())
    except (RefusedError, OSError) as error:
        raise DataError(f"{path}: {shortened(str(error), 280)}") from error
    except Exception as error:  # whatever a damaged file makes the reader raise
        raise DataError(f"{path}: truncated or not a pickle ({in_one_line(error, 120)}); get it again") from error


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

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        known = found.text in DICTIONARIES | RECONSTRUCTORS or _ARGUMENT.fullmatch(found.text)
        if not known and not _is_tokenizer(found.text):
            raise RefusedError(f"the pickle names {found.text[:80]!r}, which is no Keras tokenizer; nothing was run")
        return found

    def call(self, text: str, arguments: tuple[Any, ...]) -> Any:
        first = (*arguments, None)[0]
        made = isinstance(first, Name) and text in RECONSTRUCTORS and _is_tokenizer(first.text)
        if not made and (_is_tokenizer(text) or text in DICTIONARIES):
            made = len(arguments) <= (text in DICTIONARIES)
        if not made:
            name = "Tokenizer" if _is_tokenizer(text) else text
            raise RefusedError(f"the pickle wants to call {name}; refused, nothing was run")
        return super().call(text, arguments)


def _is_tokenizer(text: str) -> bool:
    return _KERAS_TOKENIZER.fullmatch(text) is not None


def _attributes(value: object) -> dict[Any, Any]:
    found = value.state if isinstance(value, Record) else value
    if not isinstance(found, dict):
        raise RefusedError(f"holds {type(found).__name__.strip('_')!r:.40}, not a tokenizer with its attributes")
    if any(isinstance(part, tuple) for part in found.values()):  # nobody should walk through them
        raise RefusedError("a tuple, which no tokenizer has; refused")
    return found
