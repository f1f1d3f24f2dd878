"""Captions by Ray's workers beside one process: the same table, how fast, and after random kills.

    python benchmarks/scale.py                              # 2,000 phantom studies of two views
    python benchmarks/scale.py --untrained chexnet_attention --studies 200
    python benchmarks/scale.py --kills 10                   # and as many random kills, each resumed
    python benchmarks/scale.py evaluate --rows 1000000      # of texts: see scale_evaluate.py
    python benchmarks/scale.py evaluate --peers

Each way captions the same studies into a file: one process with all threads of the processor, one
worker with one thread, two workers with one thread each; in turns, the best of --turns counts.
Tables are compared (with Keras the last of six digits depends on the number of threads). A kill
meets the driver or a worker, after a random share of the time; a killed driver's command is
repeated with --resume until the table is there.
"""

import argparse
import csv
import io
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from serving import untrained

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import scale_evaluate

from xray_captioning.phantom.dataset import write_phantoms

WAYS = {
    "one process": [],
    "one worker": ["--engine", "ray", "--workers", "1"],
    "two workers": ["--engine", "ray", "--workers", "2"],
}
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["caption", "evaluate"], default="caption")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of evaluate")
    parser.add_argument("--peers", action="store_true", help="evaluate: beside pycocoevalcap")
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--bundle", default="phantom_attention")
    parser.add_argument("--untrained", metavar="PRESET", help="a bundle of random weights instead")
    parser.add_argument("--runtime", default="keras")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--kills", type=int, default=0)
    given = parser.parse_args()
    if given.what == "evaluate":
        scale_evaluate.peers() if given.peers else scale_evaluate.scale(given.rows)
        return
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "phantoms"
        write_phantoms(data, studies=given.studies, seed=5)
        if given.untrained:
            given.bundle = untrained(given.untrained, Path(folder) / given.untrained)
        line = [sys.executable, "-m", "xray_captioning", "caption", "--data", str(data)]
        line += ["--bundle", given.bundle, "--runtime", given.runtime]
        seconds, tables = timed(line, Path(folder), given.turns)
        print("| way | s, whole command | studies/s |\n| --- | --- | --- |")
        for way, best in seconds.items():
            print(f"| {way} | {best:.1f} | {given.studies / best:.1f} |")
        print(f"\n{compared(tables)}", flush=True)
        for number in range(given.kills):
            kill(line, Path(folder), number, seconds["two workers"], tables[0])


def timed(line: list[str], folder: Path, turns: int) -> tuple[dict[str, float], list[bytes]]:
    """Return the least seconds of each way, and the tables."""
    seconds, tables = {way: [] for way in WAYS}, []
    for turn in range(turns):
        for way, more in WAYS.items():
            out, begun = folder / f"{way}{turn}.csv", time.monotonic()
            threads = ONE_THREAD if way == "one worker" else {}
            subprocess.run([*line, *more, "--out", out], check=True, capture_output=True, env=os.environ | threads)
            seconds[way].append(time.monotonic() - begun)
            tables.append(out.read_bytes())
    return {way: min(found) for way, found in seconds.items()}, tables


def compared(tables: list[bytes]) -> str:
    """Say whether tables are the same, or how many rows and captions of them are not."""
    if len(set(tables)) == 1:
        return "the tables are the same, byte for byte"
    rows, texts = 0, 0
    for found in zip(*(csv.DictReader(io.StringIO(table.decode())) for table in tables), strict=True):
        rows += any(row != found[0] for row in found)
        texts += any(row["caption"] != found[0]["caption"] for row in found)
    return f"{rows} rows differ in a digit, {texts} in their caption"


def kill(line: list[str], folder: Path, number: int, usual: float, expected: bytes) -> None:
    """Kill the driver or a worker at a random moment; print how the table compares with that of one process."""
    draw = random.Random(number)
    out, whom, after = folder / f"killed{number}.csv", draw.choice(["driver", "worker"]), draw.uniform(0.2, 0.9) * usual
    command = [*line, *WAYS["two workers"], "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        time.sleep(after)
        for pid in [process.pid] if whom == "driver" else workers(process.pid)[:1]:
            os.kill(pid, signal.SIGKILL)
        process.wait()
    runs = 1
    while not out.exists() or out.with_name(f"{out.name}.part").exists():
        subprocess.run([*command, "--resume"], capture_output=True)
        runs += 1
    found = compared([out.read_bytes(), expected])
    print(f"kill {number}: {whom} after {after:.1f} s, {runs} runs, {found}", flush=True)


def workers(driver: int) -> list[int]:
    """Return the processes below a driver that work on tasks, as Ray names them."""
    found = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True).stdout.splitlines()[1:]
    rows = [line.split(None, 2) for line in found]
    family, tasks = {driver}, []
    for _ in range(4):
        family |= {int(pid) for pid, parent, *_ in rows if int(parent) in family}
    tasks += [int(pid) for pid, _, args in rows if int(pid) in family and args.startswith("ray::_work")]
    return tasks


if __name__ == "__main__":
    main()
