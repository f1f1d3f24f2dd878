"""Batches of what many threads ask for, computed in the one thread that owns the model."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple


class BusyError(Exception):
    """There is too much work already, or this work was not begun in time."""


class Result(NamedTuple):
    """The value computed for an item, and how long that took."""

    value: Any
    waited: float  # seconds until the item's batch began
    took: float  # seconds that the batch took


@dataclass(eq=False)
class _Job:
    key: Any
    item: Any
    future: Future[Result]
    since: float


class Capacity:
    """Counts work against a limit of work at a time."""

    def __init__(self, limit: int) -> None:
        self.limit, self.used = limit, 0
        self._lock = threading.Lock()

    @contextmanager
    def taken(self, count: int) -> Iterator[None]:
        """Count an amount of work for as long as the block runs, or raise `BusyError`."""
        with self._lock:
            if self.used + count > self.limit:
                raise BusyError
            self.used += count
        try:
            yield
        finally:
            with self._lock:
                self.used -= count


class Batcher:
    """Collects items of many threads into batches and computes those in one thread.

    A batch begins when it is full or its first item has waited long enough. It holds items of the
    oldest one's key only. What ``run`` raises reaches the threads that wait for one of its items.
    """

    def __init__(
        self,
        run: Callable[[Any, list[Any]], Sequence[Any]],  # key and items to their values, in order
        size: int,  # largest number of items in a batch
        patience: float,  # seconds that the first item of a batch waits for others
        prepare: Callable[[], None] = lambda: None,  # called first, in the same thread
    ) -> None:
        self._run, self._size, self._patience, self._prepare = run, size, patience, prepare
        self._jobs: deque[_Job] = deque()
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def compute(self, key: Any, items: Sequence[Any], deadline: float) -> list[Result]:
        """Compute items by a deadline, on the clock of `time.monotonic`, or raise `BusyError`."""
        jobs = [_Job(key, item, Future(), time.monotonic()) for item in items]
        with self._changed:
            if self._closing:
                raise BusyError
            self._jobs.extend(jobs)
            self._changed.notify_all()
        try:
            return [job.future.result(max(0.0, deadline - time.monotonic())) for job in jobs]
        except TimeoutError as error:
            raise BusyError from error
        finally:
            with self._changed:
                for job in jobs:
                    if job.future.cancel():  # it is still waiting
                        self._jobs.remove(job)

    def close(self) -> None:
        """Compute what waits already, then stop."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def _work(self) -> None:
        self._prepare()
        while batch := self._next():
            begun = time.monotonic()
            try:
                values = self._run(batch[0].key, [job.item for job in batch])
                took = time.monotonic() - begun
                for job, value in zip(batch, values, strict=True):
                    job.future.set_result(Result(value, begun - job.since, took))
            except Exception as error:
                for job in batch:
                    job.future.set_exception(error)

    def _next(self) -> list[_Job]:
        """Wait for a batch and return it; an empty one means that no more will come."""
        with self._changed:
            while not self._jobs:
                if self._closing:
                    return []
                self._changed.wait_for(lambda: self._jobs or self._closing)
                if self._jobs:  # by the end of this wait they may all have been given up
                    left = self._jobs[0].since + self._patience - time.monotonic()
                    self._changed.wait_for(self._is_full, max(0.0, left))
            key = self._jobs[0].key
            batch = [job for job in self._jobs if job.key == key][: self._size]
            for job in batch:
                self._jobs.remove(job)
                job.future.set_running_or_notify_cancel()
            return batch

    def _is_full(self) -> bool:
        return self._closing or len(self._jobs) >= self._size
