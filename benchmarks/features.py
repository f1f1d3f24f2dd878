"""Train on features that are a file larger than memory should hold, and on some that are in memory.

Features and texts are made up. A process of its own trains for one epoch on the file and is asked
what it holds while it runs: memory of its own (RssAnon), and pages of files (RssFile), among which
a memory map's would be. With --memory the same run reads an array instead, for the time it takes.

    python benchmarks/features.py --folder FOLDER
    python benchmarks/features.py --folder FOLDER --studies 400 --memory
    python benchmarks/features.py --folder FOLDER --studies 3955 --views 2 --regions 49 --channels 1024
    python benchmarks/features.py --folder FOLDER --studies 100 --views 2 --encode chexnet

The third is the published collection's size; the last one encodes made-up images instead, in a process
of its own, too, and says what that held.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

REPORTS = (
    "no acute disease .",
    "small left pleural effusion .",
    "heart is enlarged . lungs are clear .",
    "right lower lobe opacity may be pneumonia . no effusion or pneumothorax .",
)
PART = 32  # studies that are made at a time


def make(folder: Path, studies: int, views: int, regions: int, channels: int) -> None:
    """Write made-up features, float16, a square of regions for each view, and as many texts."""
    from xray_captioning.data.feature_files import write_features

    side = math.isqrt(regions)

    def parts() -> Iterator[dict[str, Any]]:
        rng = np.random.default_rng(0)
        for start in range(0, studies, PART):
            shape = (min(PART, studies - start), views, side, side, channels)
            yield {"regions": rng.random(shape, "float32") - np.float32(0.5)}

    ids = [f"s{number}" for number in range(studies)]
    write_features(folder / "features.npz", ids, parts(), {}, "float16")
    rows = (f"{name},{REPORTS[number % len(REPORTS)]}" for number, name in enumerate(ids))
    (folder / "texts.csv").write_text("\n".join(["study_id,report", *rows]) + "\n")


def encode(folder: Path, studies: int, views: int, network: str) -> None:
    """Encode made-up images, each another one; print the seconds of all."""
    import cv2

    from xray_captioning.cli import main as command

    rng, rows, start = np.random.default_rng(0), ["study_id,image,report"], time.perf_counter()
    (folder / "images").mkdir(exist_ok=True)
    for number in range(studies * views):
        cv2.imwrite(str(folder / f"images/{number}.png"), rng.integers(0, 255, (256, 256), "uint8"))
        rows.append(f"s{number // views},{number}.png,{REPORTS[number % len(REPORTS)]}")
    (folder / "captions.csv").write_text("\n".join(rows) + "\n")
    line = ["encode", "--data", str(folder), "--encoder", network, "--weights", "random"]
    if command([*line, "--out", str(folder / "made.npz")]):
        raise SystemExit("encode failed")
    print(json.dumps({"all": time.perf_counter() - start}))


def fit(folder: Path, in_memory: bool, preset: str, changes: dict[str, Any]) -> None:
    """Train for an epoch; print the seconds of the epoch, and of all."""
    import xray_captioning as xc
    from xray_captioning.backend import keras

    features: Any = folder / "features.npz"
    if in_memory:
        with np.load(features) as arrays:
            features = arrays["ids"], arrays["regions"]
    seconds, start = [], time.perf_counter()
    original = keras.Model.fit

    def timed(model: Any, *args: Any, **kwargs: Any) -> Any:
        begun = time.perf_counter()
        try:
            return original(model, *args, **kwargs)
        finally:
            seconds.append(time.perf_counter() - begun)

    keras.Model.fit = timed
    config = xc.load_preset(preset).replace({"training.epochs": 1, **changes})
    with tempfile.TemporaryDirectory() as out:
        xc.train(folder / "texts.csv", config, out, features=features, measured=False)
    print(json.dumps({"epoch": seconds[0], "all": time.perf_counter() - start}))


def measured(command: list[str]) -> dict[str, float]:
    """Run a process and return what it prints, and the most memory it held, in MB."""
    most = {"RssAnon": 0, "RssFile": 0, "VmRSS": 0}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while process.poll() is None:
        try:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        except OSError:
            break
        found = dict(line.split(":", 1) for line in lines)
        for name in most:
            most[name] = max(most[name], int(found.get(name, "0").split()[0]) // 1000)
        time.sleep(0.05)
    printed, _ = process.communicate()
    if process.returncode:
        raise SystemExit(process.returncode)
    return {**json.loads(printed.splitlines()[-1]), **most}


def main() -> None:
    """Make the file unless it is there, train, print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--studies", type=int, default=3000)
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--encode", metavar="NETWORK", help="encode made-up images instead")
    parser.add_argument("--regions", type=int, default=1369)
    parser.add_argument("--channels", type=int, default=768)
    parser.add_argument("--preset", default="phantom_attention")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--memory", action="store_true", help="also from an array in memory")
    parser.add_argument("--fit", choices=["file", "memory", "encode"], help=argparse.SUPPRESS)
    asked = parser.parse_args()
    from xray_captioning.config import parse_assignment

    if asked.fit == "encode":
        encode(asked.folder, asked.studies, asked.views, asked.encode)
        return
    if asked.fit:
        changes = dict(parse_assignment(text) for text in asked.set)
        fit(asked.folder, asked.fit == "memory", asked.preset, changes)
        return
    asked.folder.mkdir(parents=True, exist_ok=True)
    if not asked.encode and not (asked.folder / "texts.csv").is_file():
        make(asked.folder, asked.studies, asked.views, asked.regions, asked.channels)
    for way in ["encode"] if asked.encode else ["file", *["memory"] * asked.memory]:
        row = measured([sys.executable, *sys.argv, "--fit", way])
        print(way, {name: round(value, 1) for name, value in row.items()}, flush=True)


if __name__ == "__main__":
    main()
