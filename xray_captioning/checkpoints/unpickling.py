"""Follow a pickle without importing or calling anything that it names.

``pickle.load`` imports and calls whatever a file names. Here names stay names, and objects become
records of what they were made of: Python's own reader, the one that is written in Python and that
joblib builds on, too, gets a table of the instructions that are followed. No pickle can take much
more time or memory than its length: there are only so many instructions, keys are plain values
whose hash takes no time, and whole numbers have 64 bits at most.
"""

import pickle
import pickletools
from collections.abc import Callable
from typing import IO, Any, ClassVar

from xray_captioning.checkpoints.limits import RefusedError

DICTIONARIES = {"collections.OrderedDict", "collections.defaultdict"}
RECONSTRUCTORS = {"copyreg._reconstructor", "copy_reg._reconstructor"}  # the latter: Python 2
_SETS = {f"{module}.{n}" for module in ("builtins", "__builtin__") for n in ("set", "frozenset")}


class Name:
    """A class or function that a pickle names; nothing is imported."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class Dictionary(dict[Any, Any]):
    """A dictionary whose keys are plain values, or few of them.

    A few nested tuples can keep Python busy for ever: each hash is that of all below it.
    """

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

    __hash__ = object.__hash__  # type: ignore[assignment]

    def append(self, value: Any) -> None:  # of a subclass of list
        """Put a value under the next whole number."""
        self[len(self)] = value

    def extend(self, values: list[Any]) -> None:
        """Put each value under the next whole number."""
        for value in values:
            self.append(value)


class _Set(list[Any]):
    """Stands for a set; nothing is hashed."""

    add = list.append


_KEYS = (str, bytes, int, float, type(None), Name, Record)


class Unpickler(pickle._Unpickler):
    """Follows the pickles of a file, one after the other: ``load()``.

    What it raises is a RefusedError where it is asked for something, or for more, than it follows,
    and of many kinds where a pickle is damaged.
    """

    purpose: ClassVar[str]  # what the pickle should hold, for messages, such as ``tokenizer``

    def __init__(self, file: IO[bytes], steps: int) -> None:
        super().__init__(file, encoding="utf-8")
        self.left = self.steps = steps
        self.dispatch = _CountedDispatch(self)  # type: ignore[misc]

    def load(self) -> Any:
        """Return what the next pickle describes; the file is then behind it."""
        self.memo: dict[int, Any] = {}
        return super().load()

    def name(self, text: str) -> None:
        """Refuse a ``module.name`` that the pickle names."""

    def call(self, text: str, arguments: tuple[Any, ...]) -> Any:
        """Return what stands for the result of a call, or None for what `made` returns."""

    def persistent_load(self, key: Any) -> Any:
        """Return what stands for an object that is stored outside the pickle."""
        raise RefusedError(f"an object outside the pickle, which no {self.purpose} needs; refused")

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a class or function."""
        self.name(f"{module}.{name}")
        return Name(f"{module}.{name}")

    def count(self, steps: int) -> None:
        """Take so many of the steps that are left: instructions, and values that are copied."""
        self.left -= steps
        if self.left < 0:
            raise RefusedError(f"more than {self.steps:,} pickle instructions; not followed")

    def made(self, text: str, arguments: tuple[Any, ...]) -> Any:
        """Return a dictionary, a set, or a record of an object."""
        first = arguments[0] if arguments else None
        values = first if isinstance(first, (list, tuple)) else ()
        if text in DICTIONARIES:  # of pairs, as Python 2 wrote them, or with a factory
            self.count(len(values))
            made = Dictionary()
            for key, value in values:
                made[key] = value
            return made
        if text in _SETS:
            self.count(len(values))
            return _Set(values)
        if text in RECONSTRUCTORS and isinstance(first, Name):
            return Record(first.text)
        return Record(text, arguments)


class _CountedDispatch(dict[int, Callable[[Any], None]]):
    """Counts the instructions of an unpickler as it looks them up, and refuses those not here."""

    def __init__(self, machine: Unpickler) -> None:
        super().__init__(_ACTIONS)
        self.machine = machine

    def __getitem__(self, opcode: int) -> Callable[[Any], None]:
        self.machine.count(1)
        if opcode not in self:
            name = next(op.name for op in pickletools.opcodes if op.code == chr(opcode))
            raise RefusedError(
                f"the pickle instruction {name}, which no {self.machine.purpose} needs; refused"
            )
        return super().__getitem__(opcode)


def _number(load: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return an action that refuses numbers so large that many could be keys with one hash."""

    def loaded(machine: Any) -> None:
        load(machine)
        if not -(2**63) <= machine.stack[-1] < 2**63:
            raise RefusedError(
                f"an integer of more than 64 bits, which no {machine.purpose} has; refused"
            )

    return loaded


def _called(machine: Any) -> None:
    arguments, function = machine.stack.pop(), machine.stack.pop()
    if not isinstance(function, Name) or not isinstance(arguments, tuple):
        raise ValueError("a call of something that is no name")
    result = machine.call(function.text, arguments)
    machine.append(machine.made(function.text, arguments) if result is None else result)


def _called_with_keywords(machine: Any) -> None:
    machine.stack.pop()
    _called(machine)


def _described(machine: Any) -> None:
    """Give an object its attributes; a dictionary's are left out."""
    state, target = machine.stack.pop(), machine.stack[-1]
    if isinstance(target, Record):
        target.state = state
    elif not isinstance(target, dict):
        raise ValueError("attributes for what is no object")


def _dictionary(machine: Any) -> None:
    values, made = machine.pop_mark(), Dictionary()
    for key, value in zip(values[::2], values[1::2], strict=True):
        made[key] = value
    machine.append(made)


_AS_PYTHON = (
    *("PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "NONE", "NEWTRUE", "NEWFALSE"),
    *("BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT", "STRING", "BINSTRING"),
    *("SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "EMPTY_LIST", "LIST", "APPEND", "APPENDS"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "SETITEM", "SETITEMS", "ADDITEMS"),
    *("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET"),
    *("GLOBAL", "STACK_GLOBAL", "BINPERSID"),
)
_OWN: dict[str, Callable[[Any], None]] = {
    "EMPTY_DICT": lambda machine: machine.append(Dictionary()),
    "DICT": _dictionary,
    "EMPTY_SET": lambda machine: machine.append(_Set()),
    "FROZENSET": lambda machine: machine.append(_Set(machine.pop_mark())),
    "REDUCE": _called,
    "NEWOBJ": _called,
    "NEWOBJ_EX": _called_with_keywords,
    "BUILD": _described,
}
_python: dict[int, Callable[[Any], None]] = pickle._Unpickler.dispatch
_ACTIONS = {
    **{(code := getattr(pickle, name)[0]): _python[code] for name in _AS_PYTHON},
    **{
        (code := getattr(pickle, name)[0]): _number(_python[code])
        for name in ("INT", "LONG", "LONG1", "LONG4")
    },
    **{getattr(pickle, name)[0]: action for name, action in _OWN.items()},
}
