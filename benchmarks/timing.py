"""How the benchmarks take time."""

import time
from collections.abc import Callable
from typing import Any


def best_seconds(runs: int, *functions: Callable[[], Any]) -> list[float]:
    """Return each function's shortest time; they take turns, so that all meet the same load.

    What compiles in its first run needs two runs at least.
    """
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(runs):
        for function, found in zip(functions, times):
            start = time.perf_counter()
            function()
            found.append(time.perf_counter() - start)
    return [min(found) for found in times]
