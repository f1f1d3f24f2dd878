"""Results of a long run, kept as they come, so that a killed run goes on where it stopped.

A text file of JSON lines: a header that says what the run is, then one line a batch. A line counts
once it is on the disk with its line end; what a kill cuts short is dropped and done again.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from xray_captioning.errors import ConfigError

FORMAT = 1


class Journal:
    """An append-only file of batches.

    Parameters
    ----------
    path : Path
    header : dict
        JSON values; a journal with other ones is of another run.
    resume : bool
        Go on with the journal at `path`, if there is one.

    Attributes
    ----------
    batches : list
        What is there already, in order.

    Raises
    ------
    ConfigError
        The journal is of another run, is no journal, is there without `resume`, or is being
        written.
    """

    def __init__(self, path: Path, header: dict[str, Any], resume: bool) -> None:
        self.path, self.batches = path, list[Any]()
        if path.exists() and not resume:
            raise ConfigError(
                f"{path}: holds an unfinished run; go on with --resume, or remove it to start anew"
            )
        self._file = open(path, "a+b")  # noqa: SIM115
        try:
            self._lock()
            self._begin({"journal": FORMAT, **header})
        except BaseException:
            self.close()
            raise

    def _lock(self) -> None:
        """Refuse a journal that another process is writing, where the system can tell."""
        try:
            import fcntl
        except ImportError:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"{self.path}: another process is writing it; wait for it, or choose another --out"
            ) from None

    def _begin(self, header: dict[str, Any]) -> None:
        self._file.seek(0)
        content = self._file.read()
        lines, end = _whole_lines(content)
        if lines:
            self._check(lines[0], header)
            self.batches = lines[1:]
        elif not _line(header).startswith(content):
            self._check(None, header)
        self._file.truncate(end)
        if not lines:
            self._write(header)

    def append(self, batch: Any) -> None:
        """Keep a batch: when this returns it is on the disk.

        Parameters
        ----------
        batch : JSON value
        """
        self._write(batch)
        self.batches.append(batch)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _write(self, value: Any) -> None:
        self._file.write(_line(value))
        self._file.flush()
        os.fsync(self._file.fileno())

    def _check(self, found: Any, header: dict[str, Any]) -> None:
        if not isinstance(found, dict) or "journal" not in found:
            raise ConfigError(
                f"{self.path}: is no journal of a run; move it or choose another --out"
            )
        for name, value in header.items():
            if found.get(name) != value:
                raise ConfigError(
                    f"{self.path}: was begun with another {name}; resume with the same, or remove "
                    "it to start anew"
                )


def _line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _whole_lines(content: bytes) -> tuple[list[Any], int]:
    """Return the values of the lines that were written to their end, and where the last ends."""
    lines: list[Any] = []
    end = 0
    for line in content.splitlines(keepends=True):
        try:
            value = json.loads(line)
        except ValueError:
            break
        if not line.endswith(b"\n"):
            break
        lines.append(value)
        end += len(line)
    return lines, end
