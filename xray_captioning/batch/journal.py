"""The rows of an unfinished run, from which it continues after it was killed.

A file of JSON lines that one process writes. The first line says which run it is, each further one
is a study's row. A file that a run cannot continue from is refused with a ConfigError.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from xray_captioning.batch.caption_table import COLUMNS, Row, json_line
from xray_captioning.errors import ConfigError

FORMAT = 3


@contextmanager
def open_journal(path: Path, resume: bool) -> Iterator[BinaryIO]:
    """Open the journal of an unfinished run, or of a new one, for this process alone."""
    if path.exists() and not resume:
        raise ConfigError(
            f"{path}: holds an unfinished run; go on with --resume, or remove it to start anew"
        )
    with open(path, "a+b") as file:
        _lock(file)
        yield file


def begin(file: BinaryIO, run: dict[str, Any], names: Sequence[str], batch_size: int) -> int:
    """Return how many studies are done, and drop what a kill left half-written.

    `run` holds JSON values that say which run this is, and `names` are all its studies in order: a
    journal of another run, or with rows of other studies, is refused. A batch is done as a whole,
    because the last digits of a study's numbers depend on the other studies of its batch.
    """
    run = {"format": FORMAT, **run}
    file.seek(0)
    first = file.readline()
    if not first.endswith(b"\n") and json_line(run).startswith(first):  # new, or killed at once
        file.truncate(0)
        append(file, [run])
        return 0
    _check_run(file.name, first, run)
    ends = [len(first)]
    for row in read_rows(file):
        name = names[len(ends) - 1 : len(ends)]
        if not isinstance(row, dict) or tuple(row) != COLUMNS or [row["study"]] != name:
            raise ConfigError(f"{file.name}: is damaged; remove it to start anew")
        ends.append(file.tell())
    done = len(ends) - 1
    if done < len(names):
        done -= done % batch_size
    file.truncate(ends[done])
    return done


def append(file: BinaryIO, values: Iterable[Any]) -> None:
    """Add a line for each JSON value: when this returns they are on the disk."""
    file.write(b"".join(map(json_line, values)))
    file.flush()
    os.fsync(file.fileno())


def read_rows(file: BinaryIO) -> Iterator[Row]:
    """Yield the rows, up to a line that a kill cut short."""
    file.seek(0)
    file.readline()  # it says which run this is
    while (line := file.readline()).endswith(b"\n"):
        try:
            row = json.loads(line)
        except ValueError:
            return
        yield row


def _lock(file: BinaryIO) -> None:
    """Refuse a file that another process is writing, where the system can tell."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(
            f"{file.name}: another process is writing it; wait for it, or choose another --out"
        ) from None


def _check_run(path: str, first: bytes, run: dict[str, Any]) -> None:
    try:
        found = json.loads(first)
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.keys() != run.keys():
        raise ConfigError(f"{path}: is no journal of a run; move it or choose another --out")
    for name, value in run.items():
        if found[name] != value:
            raise ConfigError(
                f"{path}: was begun with another {name}; resume with the same, or remove it to "
                "start anew"
            )
