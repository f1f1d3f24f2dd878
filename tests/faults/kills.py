"""Kill writers at random moments and let them go on: ``python -m tests.faults.kills --count 500 --seed 1``.

Each run is killed until it ends by itself, at most three times, and then has to have written what an unbroken run
writes. A table says how many kills of each kind there were, and how many runs ended otherwise.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from tests.conftest import TINY, uncompiled
from tests.faults.injecting import FINE, in_child
from tests.faults.operations import OPERATIONS, Operation, nothing
from tests.faults.test_faults import look, names
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.phantom.dataset import write_phantoms

FIELDS = {"epochs": 6, "batch_size": 4}  # so long that most kills come while it trains
LONGER = TINY.replace({f"{part}.{name}": n for part in ("training", "encoder_training") for name, n in FIELDS.items()})
TIMED = ("seconds", "studies", "images")  # columns that no two runs share
HEAVY = ("train-encoder", "train", "export")  # in a process of their own: TensorFlow does not survive a fork


def _studies(folder: Path) -> Path:
    return write_phantoms(folder / "phantoms", studies=24, seed=1, size=96)


def _encoder(folder: Path) -> None:
    from xray_captioning.training.encoder import train_encoder

    out = folder / "run"
    with uncompiled():
        how = {"resume": (out / "run.json").is_file(), "cache": folder / "cache"}
        train_encoder(read_studies(folder / "phantoms"), LONGER, out, "random", **how)


def _decoder(folder: Path) -> None:
    from xray_captioning.training.captions import train

    out, studies = folder / "run", read_studies(folder / "phantoms")
    ids = [f"{name}" for name in studies["study_id"]]
    maps = np.random.default_rng(0).normal(size=(len(ids), 2, 3, 3, 8)).astype(np.float32)
    with uncompiled():
        train(studies, LONGER, out, features=(ids, maps), resume=(out / "run.json").is_file(), measured=False)


def _trained(folder: Path) -> Any:
    from xray_captioning.checkpoints import read_arrays

    rows = [line.split(",") for line in (folder / "run" / "log.csv").read_text("utf-8").splitlines()]
    kept = [n for n, name in enumerate(rows[0]) if not name.startswith(TIMED)]
    weights = {path.name: read_arrays(path) for path in sorted((folder / "run").glob("*coder.weights.h5"))}
    arrays = {file: {name: values.tolist() for name, values in found.items()} for file, found in weights.items()}
    return [[row[n] for n in kept] for row in rows], arrays


def _export(folder: Path) -> None:
    from xray_captioning.captioner.captioner import Captioner

    if not (folder / "export" / "manifest.json").is_file():
        Captioner.load("phantom_attention").export(folder / "export")


def _exported(folder: Path) -> Any:
    from xray_captioning.bundles.bundle import read_bundle

    return read_bundle(folder / "export", "captioner", exported=True)["export"]["graphs"]


KINDS = {
    "train-encoder": (Operation(_studies, _encoder, _trained), 0.06),
    "train": (Operation(_studies, _decoder, _trained), 0.11),
    "export": (Operation(nothing, _export, _exported), 0.03),
    **{name: (OPERATIONS[name], 0.08) for name in OPERATIONS if name not in ("text", "new bundle")},
}


def child_of(kind: str, folder: Path) -> int:
    """Start work in a fork, or in another Python; return its process."""
    if kind in HEAVY:
        line = [sys.executable, "-m", "tests.faults.kills", "--one", str(folder), kind]
        return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid
    if not (child := os.fork()):
        code = 1
        try:
            sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
            KINDS[kind][0].work(folder)
            code = 0
        finally:
            os._exit(code)
    return child


def ended(child: int, seconds: float) -> int | None:
    """Kill a process after some seconds; return its exit code, None where it was killed."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    return None if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)


def try_kind(kind: str, count: int, random: Random, folder: Path) -> tuple[int, int, list[str]]:
    """Kill one kind of work so many times; return kills, runs and what was wrong."""

    operation = KINDS[kind][0]

    def begun() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        assert in_child(lambda: operation.before(folder) and None)[0] == FINE

    begun()
    before = time.monotonic()
    assert ended(child_of(kind, folder), 600) == 0
    seconds, after, files = time.monotonic() - before, look(operation, folder), names(folder)
    kills, runs, wrong = 0, 0, []
    while kills < count:
        begun()
        runs += 1
        for attempt in range(4):
            wait = 600 if attempt == 3 else random.uniform(0, 1.05 * seconds)
            code = ended(child_of(kind, folder), wait)
            if code is not None:
                break
            kills += 1
        if code != 0:
            wrong.append(f"run {runs} ended with {code}")
        elif look(operation, folder) != after:
            wrong.append(f"run {runs} ended otherwise")
        elif left := set(names(folder)) ^ set(files):
            wrong.append(f"run {runs} left {sorted(left)[:3]}")
    return kills, runs, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kinds", nargs="*", help=", ".join(KINDS))
    parser.add_argument("--count", type=int, default=500, help="kills over all kinds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        KINDS[asked.kinds[0]][0].work(asked.one)
        return

    print("| kind | kills | runs | other than unbroken |\n|---|---|---|---|")
    total = 0
    for kind in asked.kinds or KINDS:
        with tempfile.TemporaryDirectory() as folder:
            count = max(1, round(asked.count * KINDS[kind][1]))
            kills, runs, wrong = try_kind(kind, count, Random(f"{asked.seed} {kind}"), Path(folder, "here"))
        total += kills
        print(f"| {kind} | {kills} | {runs} | {len(wrong)} {'; '.join(wrong[:3])} |", flush=True)
    print(f"| all | {total} | | |")


if __name__ == "__main__":
    main()
