"""Wherever writing breaks off: what was there stays, half of something is never read, and it goes on."""

import errno
import importlib
import itertools
import shutil
import time
from contextlib import suppress
from itertools import product

import pytest

from tests.faults.injecting import FINE, KILLED, TOLD, count, failing, full, in_child
from tests.faults.operations import OPERATIONS

# Loaded once, before the forks whose work would load them.
for library in ("cv2", "joblib", "pandas", "pyarrow.parquet", "tqdm", "zarr"):
    with suppress(ImportError):
        importlib.import_module(library)

NUMBERS = (errno.ENOSPC, errno.EIO, errno.EACCES)


@pytest.fixture(autouse=True)
def _unsynced(monkeypatch):
    """What a process has written outlives it without that; only a power cut would show a difference."""
    monkeypatch.setattr("os.fsync", lambda handle: None)


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def look(operation, folder):
    """Return what a reader finds, None where it is told that there is nothing."""
    ended, found = in_child(lambda: operation.found(folder))
    assert ended in (FINE, TOLD), f"reading ended with something else than a line: {found}"
    return found


def emptied(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def begun(operation, folder):
    emptied(folder)
    assert in_child(lambda: operation.before(folder))[0] == FINE


def whole(operation, folder):
    """Return what is found before, and after an unbroken run with the names of its files."""
    begun(operation, folder)
    before = look(operation, folder)
    assert in_child(lambda: operation.work(folder) and None)[0] == FINE
    return before, look(operation, folder), names(folder)


def survives(operation, folder, begin, kill, expected):
    """Break one run off; return how it ended."""
    before, after, files = expected
    emptied(folder)
    begins = lambda: (operation.before(folder), begin())  # noqa: E731
    ended, said = in_child(lambda: operation.work(folder) and None, begins)
    assert ended in ((FINE, KILLED) if kill else (FINE, TOLD)), f"it ended with something else than a line: {said}"
    assert look(operation, folder) in (before, after), "something else is read than what was or will be there"
    again, found = in_child(lambda: (operation.work(folder), operation.found(folder))[1])
    assert again == FINE, f"it does not go on: {found}"
    assert found == after, "it did not end as an unbroken run"
    assert names(folder) == files, "files are left"
    return ended


@pytest.mark.parametrize("name", OPERATIONS)
def test_at_every_change(name, tmp_path):
    operation, folder = OPERATIONS[name], tmp_path / "here"
    expected = whole(operation, folder)
    begun(operation, folder)
    moments = count(lambda: operation.work(folder), folder)
    assert moments
    ends = []
    for moment, kill in product(range(moments), (True, False)):
        number = None if kill else NUMBERS[moment % len(NUMBERS)]
        try:
            ends.append(survives(operation, folder, failing(moment, folder, number), kill, expected))
        except AssertionError as error:
            raise AssertionError(f"{number or 'kill'} at change {moment} of {moments}") from error
    assert KILLED in ends


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("kill", [False, True], ids=["full", "killed"])
def test_in_the_middle_of_a_write(name, kill, tmp_path):
    operation, folder = OPERATIONS[name], tmp_path / "here"
    expected = whole(operation, folder)
    ends = []
    for size in (0, 63, 500, 3000):
        try:
            ends.append(survives(operation, folder, full(size, kill), kill, expected))
        except AssertionError as error:
            raise AssertionError(f"files of at most {size} bytes") from error
    assert (KILLED if kill else TOLD) in ends


@pytest.mark.parametrize("name", OPERATIONS)
def test_under_a_clock_that_jumps(name, tmp_path):
    operation, folder = OPERATIONS[name], tmp_path / "here"
    _, after, files = whole(operation, folder)
    begun(operation, folder)
    years = itertools.cycle((0, 3e8, -3e8, 1e3, -1e9))

    def jumping():
        real = time.time
        time.time = lambda: real() + next(years)
        time.time_ns = lambda: int(1e9 * time.time())

    ended, said = in_child(lambda: operation.work(folder) and None, jumping)
    assert ended == FINE, said
    assert (look(operation, folder), names(folder)) == (after, files)
