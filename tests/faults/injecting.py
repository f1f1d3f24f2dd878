"""A child process in which the file system fails, or the process ends, at a chosen moment.

Moments are counted by Python's audit events of opening for writing, renaming, removing and making folders; and by
size: a file that would grow beyond a limit ends in the middle of a write, whichever library writes it.
"""

import os
import pickle
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xray_captioning.errors import XrayCaptioningError

KILLED, TOLD, FINE, WRONG = 9, 3, 0, 1  # how a child ends
HANG = 60  # seconds after which it is taken to hang
EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.chmod"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def changes(event: str, arguments: tuple[object, ...], folder: str) -> bool:
    """Return whether an audit event is a change of something below a folder."""
    if event not in EVENTS or not arguments or not isinstance(arguments[0], (str, bytes, os.PathLike)):
        return False
    if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & WRITING):
        return False
    return os.fsdecode(arguments[0]).startswith(folder)


def in_child(work: Callable[[], object], begin: Callable[[], object] = int) -> tuple[int, Any]:
    """Run `work` in a fork that begins with `begin`; return how it ended, and what it returned or said.

    All that is done is done in forks, so that the process that forks has no thread and holds no library's lock.
    """
    sys.stdout.flush()
    read, write = os.pipe()
    if not (child := os.fork()):
        code, found = WRONG, None
        try:
            signal.alarm(HANG)
            # What listens may be a file, and that full, too.
            sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
            begin()
            code, found = _ended(work)
            with os.fdopen(write, "wb") as file:
                pickle.dump(found, file)
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        sent = file.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return (KILLED if os.WTERMSIG(status) == signal.SIGXFSZ else WRONG), None
    return os.WEXITSTATUS(status), pickle.loads(sent) if sent else None


def _ended(work: Callable[[], object]) -> tuple[int, object]:
    try:
        return FINE, work()
    except BaseException as error:
        named = isinstance(error, XrayCaptioningError) or (isinstance(error, OSError) and error.filename)
        one_line = named and "\n" not in str(error)
        return (TOLD, None) if one_line else (WRONG, traceback.format_exc())


def count(work: Callable[[], object], folder: Path) -> int:
    """Return how many moments there are: of a run of its own, in a child."""

    def counted() -> int:
        seen = 0

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal seen
            seen += changes(event, arguments, str(folder))

        sys.addaudithook(hook)
        work()
        return seen

    ended, seen = in_child(counted)
    assert ended == FINE
    return int(seen)


def failing(moment: int, folder: Path, error: int | None) -> Callable[[], None]:
    """Return what makes that change fail with an error number, or end the process before it where that is None."""

    def begin() -> None:
        left = moment

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if changes(event, arguments, str(folder)):
                left -= 1
                if left < 0 and error is None:
                    os._exit(KILLED)
                if left == -1:
                    raise OSError(error, os.strerror(error), os.fsdecode(arguments[0]))  # type: ignore[arg-type]

        sys.addaudithook(hook)

    return begin


def full(size: int, kill: bool) -> Callable[[], None]:
    """Return what lets no file grow beyond a size: the write fails, or the process is killed by it."""

    def begin() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if kill else signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it would take seconds to write
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    return begin
