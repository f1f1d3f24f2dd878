"""Follow the instructions of a pickle without importing or calling anything.

``pickle.load`` imports and calls whatever a file names. Here names stay names, and objects become
records of what they were made of. Python's `pickletools` parses the instructions, and its
documentation says what each does. No pickle can take much more time or memory than its length:
there are only so many instructions, keys are plain values whose hash takes no time, and whole
numbers have 64 bits at most.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Sequence
from typing import IO, Any

from xray_captioning.checkpoints.limits import RefusedError


class Name:
    """A class or function that a pickle names; nothing is imported."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class Record:
    """What an object was made of: the name of its class, arguments, attributes and items."""

    __slots__ = ("arguments", "items", "kind", "state")

    def __init__(self, kind: str, arguments: tuple[Any, ...] = ()) -> None:
        self.kind, self.arguments = kind, arguments
        self.state: Any = None
        self.items: dict[Any, Any] = {}  # of a subclass of dict


DICTIONARIES = {"collections.OrderedDict", "collections.defaultdict"}
_SETS = {
    f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("set", "frozenset")
}
RECONSTRUCTORS = {"copyreg._reconstructor", "copy_reg._reconstructor"}  # the latter: Python 2

Call = Callable[[str, tuple[Any, ...]], Any]


class Unpickler:
    """Follows the pickles of a file, one after the other.

    Parameters
    ----------
    steps : int
        How many instructions are followed, and values copied, at most.
    purpose : str
        What the pickle should hold, for messages, such as ``tokenizer``.
    name : callable
        Gets each ``module.name`` that a pickle names, and may refuse it.
    call : callable
        Gets name and arguments of each call that a pickle asks for, and returns what stands for the
        result. Where it returns None, dictionaries and sets are made, and a `Record` of others.
    persistent : callable, optional
        Gets the key of each object that is stored outside the pickle, and returns what stands for
        it. Without it such keys are refused.
    """

    def __init__(
        self,
        steps: int,
        purpose: str,
        name: Callable[[str], None],
        call: Call,
        persistent: Callable[[Any], Any] | None = None,
    ) -> None:
        self.left = self.steps = steps
        self.purpose, self.name, self.call, self.persistent = purpose, name, call, persistent
        self.stack: list[Any] = []
        self.memory: dict[int, Any] = {}

    def load(self, file: IO[bytes]) -> Any:
        """Return what the next pickle of a file describes; the file is then behind it.

        Raises
        ------
        RefusedError
            It asks for something, or for more, than is followed here.
        Exception
            Of many kinds, where it is damaged.
        """
        self.stack, self.memory = [], {}
        for opcode, argument, _ in pickletools.genops(file):
            self.count(1)
            if opcode.name in _ACTIONS:
                _ACTIONS[opcode.name](self, argument)
            elif opcode.name != "STOP":
                self.refuse(f"the pickle instruction {opcode.name}, which no {self.purpose} needs")
        return self.stack.pop()

    def count(self, steps: int) -> None:
        """Take so many of the steps that are left."""
        self.left -= steps
        if self.left < 0:
            raise RefusedError(f"more than {self.steps:,} pickle instructions; not followed")

    def refuse(self, what: str) -> None:
        """Raise the error that says what the pickle asked for."""
        raise RefusedError(f"{what}; refused")

    def pop(self, count: int) -> list[Any]:
        """Take the topmost values, in their order."""
        start = len(self.stack) - count
        values = self.stack[start:]
        if start < 0 or any(value is _MARK for value in values):
            raise ValueError("a value is missing")
        del self.stack[start:]
        return values

    def marked(self) -> list[Any]:
        """Take all values above the topmost mark, and the mark."""
        start = len(self.stack)
        while self.stack[start := start - 1] is not _MARK:  # below the lowest is an IndexError
            if start <= 0:
                raise ValueError("a mark is missing")
        values = self.stack[start + 1 :]
        del self.stack[start:]
        return values

    def push(self, value: Any) -> None:
        """Put a value on top."""
        self.stack.append(value)

    def number(self, value: int) -> None:
        """Put a whole number on top; larger ones could be keys that have all one hash."""
        if not -(2**63) <= value < 2**63:
            self.refuse(f"an integer of more than 64 bits, which no {self.purpose} has")
        self.push(value)

    def remember(self, place: int | None) -> None:
        """Remember the topmost value under a number, or the next one."""
        (value,) = self.pop(1)
        self.push(value)
        self.memory[len(self.memory) if place is None else place] = value

    def outside(self, argument: Any) -> None:
        """Put on top what stands for an object that is stored outside the pickle."""
        if self.persistent is None:
            self.refuse(f"the pickle instruction BINPERSID, which no {self.purpose} needs")
        else:
            self.push(self.persistent(*self.pop(1)))

    def named(self, text: str) -> None:
        """Put a name on top."""
        self.name(text)
        self.push(Name(text))

    def named_by_two(self, argument: Any) -> None:
        """Put a name on top that lies there in two texts."""
        module, name = self.pop(2)
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ValueError("a name that is no text")
        self.named(f"{module}.{name}")

    def called(self, function: Any, arguments: Any) -> None:
        """Put on top what stands for the result of a call."""
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise ValueError("a call of something that is no name")
        result = self.call(function.text, arguments)
        self.push(self.made(function.text, arguments) if result is None else result)

    def made(self, text: str, arguments: tuple[Any, ...]) -> Any:
        """Return a dictionary, a set, or a record of an object."""
        first = arguments[0] if arguments else None
        if text in DICTIONARIES:  # of pairs, as Python 2 wrote them, or with a factory
            pairs = first if isinstance(first, list) else []
            self.count(len(pairs))
            return self.filled({}, [value for pair in pairs for value in _pair(pair)])
        if text in _SETS:
            self.count(len(first) if isinstance(first, (list, tuple)) else 0)
            return self.gathered(set(), first if isinstance(first, (list, tuple)) else ())
        if text in RECONSTRUCTORS and isinstance(first, Name):
            return Record(first.text)
        return Record(text, arguments)

    def filled(self, target: Any, values: list[Any]) -> Any:
        """Put keys and values, in turns, into a dictionary, and return it."""
        items = target.items if isinstance(target, Record) else target
        if not isinstance(items, dict) or len(values) % 2:
            raise ValueError("a key without a value, or no dictionary")
        items.update(zip(map(_key, values[::2]), values[1::2], strict=True))
        return target

    def gathered(self, target: Any, values: Sequence[Any]) -> Any:
        """Put values into a set, and return it."""
        target.update(map(_key, values))
        return target

    def lengthened(self, values: list[Any]) -> None:
        """Put values at the end of the list that is topmost."""
        target = self.stack[-1]
        if isinstance(target, Record):  # of a subclass of list: told apart by whole numbers as keys
            values = [part for pair in enumerate(values, len(target.items)) for part in pair]
            self.filled(target, values)
        elif isinstance(target, list):
            target.extend(values)
        else:
            raise ValueError("no list to append to")

    def described(self, argument: Any) -> None:
        """Give the object below the top its attributes; a dictionary's are left out."""
        (state,) = self.pop(1)
        if isinstance(self.stack[-1], Record):
            self.stack[-1].state = state
        elif not isinstance(self.stack[-1], dict):
            raise ValueError("attributes for what is no object")


_MARK = object()


def _key(value: Any) -> Any:
    """Return a key whose hash is that of a few plain values, or refuse it.

    A few nested tuples can keep Python busy for ever: each hash is that of all below it.
    """
    parts = value if isinstance(value, tuple) else (value,)
    if len(parts) > 32 or not all(isinstance(part, _KEYS) for part in parts):
        raise RefusedError("a key that is no plain value; refused")
    return value


def _pair(value: Any) -> Any:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise ValueError("a key without a value")
    return value


_KEYS = (str, bytes, int, float, type(None), Name, Record)


def _text(machine: Unpickler, argument: str) -> None:  # bytes of Python 2
    machine.push(argument.encode("latin-1").decode("utf-8"))


def _new(machine: Unpickler, arguments: Any) -> None:
    machine.called(*machine.pop(2))


def _new_with_keywords(machine: Unpickler, argument: Any) -> None:
    kind, arguments, _ = machine.pop(3)
    machine.called(kind, arguments)


def _constant(value: Any) -> Callable[[Unpickler, Any], None]:
    return lambda machine, argument: machine.push(value)


def _empty(kind: Callable[[], Any]) -> Callable[[Unpickler, Any], None]:
    return lambda machine, argument: machine.push(kind())


def _tuple(count: int) -> Callable[[Unpickler, Any], None]:
    return lambda machine, argument: machine.push(tuple(machine.pop(count)))


def _set_items(machine: Unpickler, values: list[Any]) -> None:
    machine.filled(machine.stack[-1], values)


def _add_items(machine: Unpickler, values: list[Any]) -> None:
    if not isinstance(machine.stack[-1], set):
        raise ValueError("no set to add to")
    machine.gathered(machine.stack[-1], values)


_ACTIONS: dict[str, Callable[[Unpickler, Any], Any]] = {
    "PROTO": lambda machine, argument: None,
    "FRAME": lambda machine, argument: None,
    "MARK": _constant(_MARK),
    "NONE": _constant(None),
    "NEWTRUE": _constant(True),
    "NEWFALSE": _constant(False),
    **dict.fromkeys(
        ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"), Unpickler.number
    ),
    **dict.fromkeys(
        (
            *("FLOAT", "BINFLOAT", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
            *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
        ),
        Unpickler.push,
    ),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), _text),
    "EMPTY_LIST": _empty(list),
    "EMPTY_DICT": _empty(dict),
    "EMPTY_SET": _empty(set),
    "EMPTY_TUPLE": _constant(()),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "TUPLE": lambda machine, argument: machine.push(tuple(machine.marked())),
    "LIST": lambda machine, argument: machine.push(machine.marked()),
    "DICT": lambda machine, argument: machine.push(machine.filled({}, machine.marked())),
    "FROZENSET": lambda machine, argument: machine.push(machine.gathered(set(), machine.marked())),
    "APPEND": lambda machine, argument: machine.lengthened(machine.pop(1)),
    "APPENDS": lambda machine, argument: machine.lengthened(machine.marked()),
    "SETITEM": lambda machine, argument: _set_items(machine, machine.pop(2)),
    "SETITEMS": lambda machine, argument: _set_items(machine, machine.marked()),
    "ADDITEMS": lambda machine, argument: _add_items(machine, machine.marked()),
    "POP": lambda machine, argument: machine.stack.pop(),
    "POP_MARK": lambda machine, argument: machine.marked(),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), Unpickler.remember),
    **dict.fromkeys(
        ("GET", "BINGET", "LONG_BINGET"),
        lambda machine, place: machine.push(machine.memory[place]),
    ),
    "GLOBAL": lambda machine, argument: machine.named(argument.replace(" ", ".", 1)),
    "STACK_GLOBAL": Unpickler.named_by_two,
    "BINPERSID": Unpickler.outside,
    "REDUCE": _new,
    "NEWOBJ": _new,
    "NEWOBJ_EX": _new_with_keywords,
    "BUILD": Unpickler.described,
}
