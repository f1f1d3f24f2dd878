"""Try damaged inputs for as long as one likes: ``python -m tests.fuzz.run image labels --seconds 3600``.

Prints a table at the end, and every fault when it is found; the input is kept under --keep, a folder outside the
repository. A process that a library takes down with it leaves its last input there, too.
"""

import argparse
import collections
import faulthandler
import logging
import mmap
import os
import resource
import shutil
import time
import traceback
import warnings
from pathlib import Path
from typing import TextIO

from tests.fuzz.harness import refused
from tests.fuzz.harnesses import HARNESSES
from tests.fuzz.inputs import MOST, inputs

MEMORY = 6 << 30  # bytes a process may have
HANG = 60  # seconds after which one of the last inputs, a hundred of a quick harness, is taken to hang


def run(name: str, seconds: float, most: int, seed: int, keep: Path, traces: TextIO) -> dict[str, object]:
    """Try one harness; return how many inputs were tried, refused and faults, and the slowest one's milliseconds."""
    harness = HARNESSES[name]
    seeds, last = harness.seeds(), keep / f"{name}-{seed}-last"
    last.write_bytes(bytes(MOST + 8))
    tried, rejected, slowest, faults = 0, 0, 0.0, collections.Counter()
    begun = time.monotonic()
    with last.open("r+b") as file:
        held = mmap.mmap(file.fileno(), 0)  # outlives the process, and costs little
    for data in inputs(seeds, seed):
        if tried >= most or time.monotonic() - begun > seconds:
            break
        held[: len(data) + 8] = len(data).to_bytes(8, "little") + data
        if not tried % max(1, round(100 / harness.cost)):
            faulthandler.dump_traceback_later(HANG, exit=True, file=traces)
        before = time.perf_counter()
        try:
            rejected += refused(harness.target, data)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
            if not faults[kind]:
                (keep / f"{name}-{seed}-{tried}").write_bytes(data)
                print(f"{name} {tried}: {kind}: {str(error)[:200]!r}", flush=True)
            faults[kind] += 1
        slowest = max(slowest, time.perf_counter() - before)
        tried += 1
    faulthandler.cancel_dump_traceback_later()
    last.unlink()
    return {"inputs": tried, "refused": rejected, "faults": sum(faults.values()), "slowest ms": round(1000 * slowest)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="harnesses; all of them by default")
    parser.add_argument("--seconds", type=float, default=60, help="for each harness")
    parser.add_argument("--inputs", type=int, default=10**9, help="for each harness, at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, required=True, help="folder for inputs that show a fault")
    asked = parser.parse_args()
    asked.keep.mkdir(parents=True, exist_ok=True)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    logging.disable()
    traces = (asked.keep / f"traces-{os.getpid()}").open("w")
    faulthandler.enable(traces)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries say a line or two of every input
    print("| harness | inputs | refused | faults | slowest ms | minutes |\n|---|---|---|---|---|---|")
    tried = [name for name in HARNESSES if name != "page" or shutil.which("node")]
    for name in asked.names or tried:
        before = time.monotonic()
        found = run(name, asked.seconds, asked.inputs, asked.seed, asked.keep, traces)
        minutes = (time.monotonic() - before) / 60
        print(f"| {name} | {' | '.join(map(str, found.values()))} | {minutes:.1f} |", flush=True)


if __name__ == "__main__":
    main()
