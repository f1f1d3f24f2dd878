"""Requests that arrive together are computed together, by the one thread that owns the model."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple


class BusyError(Exception):
    """There is no place for more work now, or it was not begun in time."""


class Done(NamedTuple):
    """What became of an item.

    Attributes
    ----------
    value : object
        What was computed.
    waited, took : float
        Seconds until the item's batch began, and that the batch took.
    together : int
        Items of the batch.
    """

    value: Any
    waited: float
    took: float
    together: int


@dataclass(eq=False)
class _Job:
    key: Any
    item: Any
    future: Future[Done]
    since: float


class Places:
    """A number of places that work may take.

    Parameters
    ----------
    capacity : int
    """

    def __init__(self, capacity: int) -> None:
        self.capacity, self.used = capacity, 0
        self._lock = threading.Lock()

    @contextmanager
    def taken(self, count: int) -> Iterator[None]:
        """Take some places for as long as the block runs.

        Raises
        ------
        BusyError
            There are not so many.
        """
        with self._lock:
            if self.used + count > self.capacity:
                raise BusyError
            self.used += count
        try:
            yield
        finally:
            with self._lock:
                self.used -= count


class Batcher:
    """Collects items of many threads into batches and computes those in one thread.

    A batch begins when it is full or its first item has waited long enough. Only items of the same
    key go together; the oldest item's key is next, so that none waits for ever.

    Parameters
    ----------
    run : callable
        Takes a key and a list of items, returns their values in order. An exception it raises
        reaches whoever waits for one of these items, and nobody else.
    most : int
        Largest batch.
    patience : float
        Seconds that the first item of a batch waits for others.
    prepare : callable
        Called first, in the same thread.
    """

    def __init__(
        self,
        run: Callable[[Any, list[Any]], Sequence[Any]],
        most: int,
        patience: float,
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        self._run, self._most, self._patience = run, most, patience
        self._prepare = prepare
        self._jobs: deque[_Job] = deque()
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def compute(self, key: Any, items: Sequence[Any], deadline: float) -> list[Done]:
        """Compute items, together with those of other threads.

        Parameters
        ----------
        key : hashable
        items : sequence
        deadline : float
            When to give up, on the clock of `time.monotonic`. Items not begun by then never are.

        Raises
        ------
        BusyError
            It was not done by the deadline, or the batcher is closed.
        """
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
            self._drop(jobs)

    def close(self) -> None:
        """Finish what was begun or waits, then stop."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def _drop(self, jobs: list[_Job]) -> None:
        with self._changed:
            for job in jobs:
                if job.future.cancel():  # it is still waiting
                    self._jobs.remove(job)

    def _work(self) -> None:
        self._prepare()
        while batch := self._next():
            begun = time.monotonic()
            try:
                values = self._run(batch[0].key, [job.item for job in batch])
                took = time.monotonic() - begun
                for job, value in zip(batch, values, strict=True):
                    job.future.set_result(Done(value, begun - job.since, took, len(batch)))
            except Exception as error:
                for job in batch:
                    job.future.set_exception(error)

    def _next(self) -> list[_Job]:
        """Wait for a batch; an empty one says that there will be no more."""
        with self._changed:
            while not self._jobs:
                if self._closing:
                    return []
                self._changed.wait_for(lambda: self._jobs or self._closing)
                if self._jobs:  # whoever waited may have given up by the end of it
                    left = self._jobs[0].since + self._patience - time.monotonic()
                    self._changed.wait_for(self._is_full, max(0.0, left))
            key = self._jobs[0].key
            batch = [job for job in self._jobs if job.key == key][: self._most]
            for job in batch:
                self._jobs.remove(job)
                job.future.set_running_or_notify_cancel()
            return batch

    def _is_full(self) -> bool:
        return self._closing or len(self._jobs) >= self._most
