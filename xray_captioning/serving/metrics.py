"""Counts and times that Prometheus collects from the API."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
STUDIES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """What the API measures of itself, in a registry of its own.

    Labels are routes and statuses, never a path that a client sent, so memory is bounded.

    Parameters
    ----------
    in_work : callable
        Returns how many studies wait or are computed.
    ready : callable
        Returns whether requests are accepted.
    """

    def __init__(self, in_work: Callable[[], int], ready: Callable[[], bool]) -> None:
        self._registry = own = CollectorRegistry()
        named = "xray_captioning_{}".format
        self.requests = Counter(
            named("requests"),
            "Requests answered, by route and status.",
            ["route", "status"],
            registry=own,
        )
        self.studies = Counter(named("studies"), "Studies captioned.", registry=own)
        self.seconds = Histogram(
            named("caption_seconds"),
            "Time from a request for captions to its answer.",
            buckets=SECONDS,
            registry=own,
        )
        self.batches = Histogram(
            named("batch_studies"),
            "Studies in a batch of the model.",
            buckets=STUDIES,
            registry=own,
        )
        waiting = Gauge(
            named("studies_in_work"), "Studies that wait or are computed.", registry=own
        )
        waiting.set_function(in_work)
        Gauge(named("ready"), "Whether requests are accepted.", registry=own).set_function(ready)

    def text(self) -> bytes:
        """Return all values in Prometheus' text format, without the times of creation."""
        samples = [sample for metric in self._registry.collect() for sample in metric.samples]
        names = {sample.name for sample in samples if not sample.name.endswith("_created")}
        return generate_latest(self._registry.restricted_registry(names))
