"""Counts and times in the text format that Prometheus reads.

References
----------
.. [1] Prometheus, "Exposition formats", text-based format 0.0.4.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
STUDIES = (1, 2, 4, 8, 16, 32, 64)

Labels = tuple[tuple[str, str], ...]
Sample = tuple[str, Labels, float]


class Counter:
    """Counts events, by labels.

    Parameters
    ----------
    *known : tuple of pairs
        Labels that are shown before anything was counted; ``()`` is none.
    """

    kind = "counter"

    def __init__(self, *known: Labels) -> None:
        self._counts: defaultdict[Labels, float] = defaultdict(float, dict.fromkeys(known, 0.0))
        self._lock = threading.Lock()

    def add(self, amount: float = 1, **labels: str) -> None:
        """Count one event, or so many."""
        with self._lock:
            self._counts[tuple(labels.items())] += amount

    def samples(self) -> Iterator[Sample]:
        """Yield suffix of the name, labels and value of each line."""
        with self._lock:
            counts = sorted(self._counts.items())
        yield from (("", labels, count) for labels, count in counts)


class Histogram:
    """Counts values by size."""

    kind = "histogram"

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._lock = threading.Lock()

    def observe(self, value: float) -> None:
        """Count one value."""
        with self._lock:
            self._counts[bisect_left(self._bounds, value)] += 1
            self._sum += value

    def samples(self) -> Iterator[Sample]:
        """Yield suffix of the name, labels and value of each line."""
        with self._lock:
            counts, total = list(self._counts), self._sum
        for number, bound in enumerate([*map(str, self._bounds), "+Inf"], 1):
            yield "_bucket", (("le", bound),), sum(counts[:number])
        yield "_sum", (), total
        yield "_count", (), sum(counts)


class Gauge:
    """A value that is asked for when it is wanted."""

    kind = "gauge"

    def __init__(self, value: Callable[[], float]) -> None:
        self._value = value

    def samples(self) -> Iterator[Sample]:
        """Yield suffix of the name, labels and value of each line."""
        yield "", (), float(self._value())


class Metrics:
    """What the API measures of itself.

    Parameters
    ----------
    in_work : callable
        Tells how many studies are in work.
    ready : callable
        Tells whether requests are taken.
    """

    def __init__(self, in_work: Callable[[], int], ready: Callable[[], bool]) -> None:
        self.requests, self.studies = Counter(), Counter(())
        self.seconds, self.batches = Histogram(SECONDS), Histogram(STUDIES)
        self._all: dict[str, tuple[str, Counter | Histogram | Gauge]] = {
            "requests_total": ("Requests answered, by route and status.", self.requests),
            "studies_total": ("Studies captioned.", self.studies),
            "caption_seconds": ("Time from a request for captions to its answer.", self.seconds),
            "batch_studies": ("Studies in a batch of the model.", self.batches),
            "studies_in_work": ("Studies that wait or are computed.", Gauge(in_work)),
            "ready": ("Whether requests are taken.", Gauge(ready)),
        }

    def text(self) -> str:
        """Return all of it, a line a value."""
        lines = []
        for short, (meaning, metric) in self._all.items():
            name = f"xray_captioning_{short}"
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {metric.kind}"]
            for suffix, labels, value in metric.samples():
                # No label here holds a quote, a backslash or an end of line.
                inner = ",".join(f'{label}="{text}"' for label, text in labels)
                braces = f"{{{inner}}}" if inner else ""
                lines.append(f"{name}{suffix}{braces} {value:.15g}")
        return "\n".join(lines) + "\n"
