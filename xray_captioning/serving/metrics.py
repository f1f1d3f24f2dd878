"""Counts and times that Prometheus collects from the API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
STUDIES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """What the API measures of itself, in a registry of its own.

    Labels are routes and statuses, never a path that a client sent, so memory is bounded.
    ``in_work`` returns how many studies wait or are computed, ``ready`` whether requests are
    accepted.
    """

    def __init__(self, in_work: Callable[[], int], ready: Callable[[], bool]) -> None:
        self._registry = CollectorRegistry()
        own: dict[str, Any] = {"namespace": "xray_captioning", "registry": self._registry}
        answered = "Requests answered, by route and status."
        self.requests = Counter("requests", answered, ["route", "status"], **own)
        self.studies = Counter("studies", "Studies captioned.", **own)
        took = "Time from a request for captions to its answer."
        self.seconds = Histogram("caption_seconds", took, buckets=SECONDS, **own)
        together = "Studies in a batch of the model."
        self.batches = Histogram("batch_studies", together, buckets=STUDIES, **own)
        waiting = Gauge("studies_in_work", "Studies that wait or are computed.", **own)
        waiting.set_function(in_work)
        Gauge("ready", "Whether requests are accepted.", **own).set_function(ready)

    def text(self) -> bytes:
        """Return all values in Prometheus' text format, without the times of creation."""
        samples = [sample for metric in self._registry.collect() for sample in metric.samples]
        names = {sample.name for sample in samples if not sample.name.endswith("_created")}
        return generate_latest(self._registry.restricted_registry(names))
