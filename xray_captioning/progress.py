"""How far work is: a bar where a terminal listens, elsewhere a line a minute."""

import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

MINUTE = 60.0  # seconds; a log has a line at least so often
_spoke = time.monotonic()  # when it got the last one


def begin() -> None:
    """Count minutes from now, as a program does that has just been started."""
    global _spoke
    _spoke = time.monotonic()


def progress(*args: Any, **kwargs: Any) -> "tqdm[Any]":
    """Return tqdm's bar on standard error, or what writes a line there every minute."""
    from tqdm import tqdm

    if sys.stderr is None:  # a process without a console
        kwargs["disable"] = True
    elif not sys.stderr.isatty():
        kwargs |= {"file": _Lines(), "mininterval": 0, "miniters": 1, "bar_format": "{l_bar}{r_bar}"}
    return tqdm(*args, **kwargs)


def say(text: str) -> None:
    """Write a line to standard error, above the bar if there is one."""
    begin()
    if sys.stderr is not None:
        from tqdm import tqdm

        tqdm.write(text, file=sys.stderr)
        sys.stderr.flush()


class _Lines:
    """Of what a bar writes, what comes a minute after the last line of all."""

    def write(self, text: str) -> None:
        line = text.strip().replace("%|| ", "%, ")
        if line and time.monotonic() - _spoke >= MINUTE:
            say(line)

    def flush(self) -> None:
        pass
