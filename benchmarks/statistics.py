"""Check the statistics that this package prints, by simulation, and print what was found.

    python benchmarks/statistics.py              # all tables: minutes on two cores
    python benchmarks/statistics.py bias review  # some of them
    python benchmarks/statistics.py --quick      # seconds: that everything runs, not what it finds

Populations are simulated at the prevalences of real collections (`population.py`), so nothing is
downloaded and no data are needed. `docs/statistics.md` says what each number is and what these
tables have to show.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from importlib.machinery import SourceFileLoader
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any

Table = tuple[str, list[str], list[list[Any]]]
"""Title, names of the columns, rows."""

TOPICS = {
    "intervals": "coverage of the intervals of scores",
    "classification": "coverage of the intervals of finding classification",
    "calibration": "intervals of confidence, and what chance alone gives",
    "tests": "size and power of the collapse alarm and of paired tests",
    "bias": "bias of every score with the number of studies",
    "review": "intervals and agreement of reading studies",
}


def main(arguments: list[str] | None = None) -> None:
    """Print the tables of the topics that are asked for, in the order of `TOPICS`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("topics", nargs="*", choices=[[], *TOPICS], metavar="TOPIC", default=[])
    parser.add_argument("--quick", action="store_true", help="few simulations: seconds")
    chosen = parser.parse_args(arguments)
    topics = [name for name in TOPICS if not chosen.topics or name in chosen.topics]
    with ProcessPoolExecutor(2, get_context("spawn")) as workers:
        running = {name: workers.submit(measure, name, chosen.quick) for name in topics}
        for name, future in running.items():
            print(f"## {TOPICS[name]}\n", *map(markdown, future.result()), sep="\n", flush=True)


def measure(topic: str, quick: bool) -> list[Table]:
    """Return the tables of one topic, and say on standard error how long they took."""
    start = time.perf_counter()
    tables = list(import_module(f"statistics_{topic}").tables(quick))
    print(f"{topic}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    return tables


def markdown(table: Table) -> str:
    """Return a table as Markdown."""
    title, names, rows = table
    lines = [names, ["---"] * len(names), *([_cell(value) for value in row] for row in rows)]
    return f"{title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
elif __name__ == "statistics":
    # Packages that import Python's own module of this name find the folder of a script first.
    own = sys.modules[__name__] = ModuleType(__name__)
    SourceFileLoader(__name__, str(Path(os.__file__).with_name("statistics.py"))).exec_module(own)
