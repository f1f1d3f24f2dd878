"""The captioner behind the API: files to pixels in the callers' threads, captions in its own."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from xray_captioning.captioner.captioner import Captioner, Prediction, predict
from xray_captioning.data.images import Pixels, arranged, decode_image
from xray_captioning.serving.requests import log, trace
from xray_captioning.serving.settings import LONGEST, Settings

COMPILED = 10  # beam sizes that are compiled before requests are taken
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
Study = list[Pixels | None]
STUDIES = (1, 2, 4, 8, 16, 32, 64)


class BusyError(Exception):
    """There is too much work already, or this work was not begun in time."""


class Result(NamedTuple):
    """The value computed for an item, and how long that took."""

    value: Any
    waited: float  # seconds until the item's batch began
    took: float  # seconds that the batch took


class _Job:
    def __init__(self, key: Any, item: Any) -> None:
        self.key, self.item, self.since = key, item, time.monotonic()
        self.future: Future[Result] = Future()


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
    """Collects items of many threads, by key, into batches and computes those in one thread."""

    # A batch begins when it is full or its first item has waited long enough. What ``run`` raises reaches the threads
    # that wait for one of its items.

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
        jobs = [_Job(key, item) for item in items]
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
                values, took = self._run(batch[0].key, [job.item for job in batch]), time.monotonic() - begun
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
                    self._changed.wait_for(lambda: self._closing or len(self._jobs) >= self._size, max(0.0, left))
            key = self._jobs[0].key
            batch = [job for job in self._jobs if job.key == key][: self._size]
            for job in batch:
                self._jobs.remove(job)
                job.future.set_running_or_notify_cancel()
            return batch


class Engine:
    """A captioner that many threads use at once."""

    def __init__(self, captioner: Captioner, settings: Settings) -> None:
        self.captioner, self.settings = captioner, settings
        self.draining = False  # set when the server stops: no more requests are accepted
        self.failed = False  # the model could not be run at all and will never be ready
        self.capacity = Capacity(settings.queue)  # counts the studies in work
        self.metrics = Metrics(lambda: self.capacity.used, lambda: self.ready)
        # A large image takes much memory while it is decoded, and more threads than cores no time.
        usable = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
        self._decoders = threading.BoundedSemaphore(len(usable(0)))
        self.warm = threading.Event()  # set when the model has been compiled
        self._batcher = Batcher(self._run, settings.batch, settings.milliseconds / 1000, self._warm_up)

    @property
    def ready(self) -> bool:
        """Whether the model has been compiled and requests are accepted."""
        return self.warm.is_set() and not self.draining

    def decode(self, files: Sequence[bytes], name: str, deadline: float, views: Sequence[str] | None = None) -> Study:
        """Return a study's pixels, placed by their views; BusyError if no decoder is free by the deadline."""
        image, most = self.captioner.config.image, self.settings.megapixels * 1e6
        pixels: dict[int | None, Pixels] = {}
        for number, data in enumerate(files, 1):
            if not self._decoders.acquire(timeout=max(0.0, deadline - time.monotonic())):
                raise BusyError
            try:
                pixels[id(data)] = decode_image(data, f"{name}image {number}", image.size, image.resize, most, LONGEST)
            finally:
                self._decoders.release()
        return [pixels.get(id(data)) for data in arranged(files, image.views, views)]

    def predict(self, studies: Sequence[Study], beam_size: int | None, deadline: float, context: Any) -> list[Result]:
        """Return a `Prediction` of each study, as the value of a `Result`; `compute` says more."""
        beam_size = beam_size or self.captioner.config.decoding.beam_size
        return self._batcher.compute(beam_size, list(zip(studies, context or repeat(None))), deadline)

    def close(self) -> None:
        """Compute what waits already, then stop."""
        self._batcher.close()

    def _run(self, beam_size: int, items: list[tuple[Study, Any]]) -> list[Prediction]:
        self.metrics.batches.observe(len(items))
        studies, context = map(list, zip(*items))
        return self._predict(beam_size, studies, context if any(context) else None)

    def _predict(self, beam_size: int, studies: list[Study], context: Any = None) -> list[Prediction]:
        return predict(self.captioner, self.captioner.features(studies, resized=True), beam_size, context)

    def _warm_up(self) -> None:
        """Compile what requests may ask for, so that no request waits for the compiler."""
        begun = time.monotonic()
        try:
            for beam_size, size in self._sizes():
                if self.draining:
                    return
                self._predict(beam_size, [self._blank() for _ in range(size)])
            self._predict(self.captioner.config.decoding.beam_size, [self._blank()[:1]])
        except Exception as error:
            log("failed", **trace(error))
            self.failed = True
            return
        self.warm.set()
        log("ready", model=str(self.captioner.identity), seconds=round(time.monotonic() - begun, 1))

    def _sizes(self) -> list[tuple[int, int]]:
        """Return pairs of beam size and batch size."""
        # All batches of the bundle's own beam size, and the largest of others, to which smaller are padded.
        own, batch = self.captioner.config.decoding.beam_size, self.settings.batch
        if not self.captioner.compiles:
            return [(own, 1)]
        others = {*range(1, min(self.settings.beam, COMPILED) + 1)} - {own}
        sizes = [*(2**i for i in range((batch - 1).bit_length())), batch]
        return [*((own, size) for size in sizes), *((other, batch) for other in others)]

    def _blank(self) -> Study:
        # Arrays of their own: the same one twice would be encoded once. Not of one value, which no image may have.
        image = self.captioner.config.image
        grey = np.linspace(0, 1, image.size, dtype=np.float32)
        return [np.tile(grey, (image.size, 1)) for _ in range(image.views)]


class Metrics:
    """What the API measures of itself, in a registry of its own."""

    # Labels are routes and statuses, never a path that a client sent, so memory is bounded.

    def __init__(self, in_work: Callable[[], int], ready: Callable[[], bool]) -> None:
        self._registry = CollectorRegistry()
        own: dict[str, Any] = {"namespace": "xray_captioning", "registry": self._registry}
        self.requests = Counter("requests", "Requests answered, by route and status.", ["route", "status"], **own)
        self.studies = Counter("studies", "Studies captioned.", **own)
        took = "Time from a request for captions to its answer."
        self.seconds = Histogram("caption_seconds", took, buckets=SECONDS, **own)
        self.batches = Histogram("batch_studies", "Studies in a batch of the model.", buckets=STUDIES, **own)
        Gauge("studies_in_work", "Studies that wait or are computed.", **own).set_function(in_work)
        Gauge("ready", "Whether requests are accepted.", **own).set_function(ready)

    def text(self) -> bytes:
        """Return all values in Prometheus' text format, without the times of creation."""
        samples = [sample for metric in self._registry.collect() for sample in metric.samples]
        names = {sample.name for sample in samples if not sample.name.endswith("_created")}
        return generate_latest(self._registry.restricted_registry(names))
