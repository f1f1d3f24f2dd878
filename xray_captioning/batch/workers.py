"""Batches of work on several processes of this machine, or of a cluster, through Ray (extra `scale`). Ray's own
tasks are used and not Ray Data: results are needed in the order of the batches, because a row's place in a table
says which study it is of, and Ray Data gives blocks as they finish.
"""

import hashlib
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from xray_captioning.errors import ConfigError, XrayCaptioningError, in_one_line, require
from xray_captioning.files import unset_environment

AHEAD = 2  # batches that are sent for each worker: while one is worked on the next one is there
THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
RETRIES = 1  # a batch whose worker dies is sent once more, then in halves
Answer = Callable[[list[Any]], list[Any]]  # of a batch
Make = Callable[[], Answer]
_held: dict[str, Answer] = {}  # what this worker has made


@contextmanager
def ray_workers(workers: int | None = None, address: str | None = None) -> Iterator[Any]:
    """Start Ray with so many workers (else one a processor, or a GPU), or join a cluster; yield `map_ordered`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report its use to its makers
    ray = require("ray", "--engine ray", "scale")
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Where Ray is started here the threads of the processor are shared out, unless somebody says how many.
    threads = "1" if address else str(max(1, processors // (workers or processors)))
    told = {name: os.environ.get(name, threads) for name in THREADS}
    asked: dict[str, Any] = {"num_cpus": workers or processors, "include_dashboard": False}
    if address:
        more = {name: os.environ[name] for name in ("TF_ENABLE_ONEDNN_OPTS",) if name in os.environ}
        asked = {"address": address, "runtime_env": {"env_vars": told | more}}
    try:
        if address:  # where nobody answers Ray would try for a quarter of an hour
            host, _, port = address.removeprefix("ray://").rpartition(":")
            socket.create_connection((host, int(port)), timeout=5).close()
        with unset_environment({} if address else told):  # its processes have this: sooner than by Ray's means
            ray.init(log_to_driver=False, logging_level="ERROR", **asked)
    except (OSError, ValueError, RuntimeError) as error:
        advice = "give HOST:PORT of its head" if address else "look at the space in /tmp and /dev/shm"
        said = f"no Ray there ({in_one_line(error, 200)}); {advice}"
        raise ConfigError(f"--address {address or 'local'}: {said}") from error
    try:
        there = ray.cluster_resources()
        count = workers or int(there.get("GPU") or there["CPU"])
        work = ray.remote(num_cpus=1, num_gpus=1 if there.get("GPU", 0) >= count else 0, max_retries=RETRIES)(_work)
        yield partial(map_ordered, ray, work, count)
    finally:
        ray.shutdown()


def map_ordered(
    ray: Any, work: Any, workers: int, make: Make, batches: Iterable[list[Any]], lost: Callable[[Any], Any]
) -> Iterator[list[Any]]:
    """Yield what ``make()``, called once in each worker, says of each batch, in order; or raises."""
    # A batch whose workers die is sent again in halves; what then ends them again is `lost`.
    # The same `make`, as of another partition, is not called again.
    made, token = ray.put(make), hashlib.sha256(ray.cloudpickle.dumps(make)).hexdigest()
    sent: deque[tuple[list[Any], Any]] = deque()

    def answer(batch: list[Any], found: Any) -> list[Any]:
        try:
            return list(ray.get(found))
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, XrayCaptioningError):
                raise error.cause from None
            raise
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError):
            if len(batch) == 1:
                return [lost(batch[0])]
            half = len(batch) // 2
            parts = [(part, work.remote(token, made, part)) for part in (batch[:half], batch[half:])]
            return [result for part in parts for result in answer(*part)]

    for batch in batches:
        sent.append((batch, work.remote(token, made, batch)))
        if len(sent) >= AHEAD * workers:
            yield answer(*sent.popleft())
    while sent:
        yield answer(*sent.popleft())


def _work(token: str, make: Make, batch: list[Any]) -> list[Any]:
    if token not in _held:
        _held.clear()
        _held[token] = make()
    return _held[token](batch)
