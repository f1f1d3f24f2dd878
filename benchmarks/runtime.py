"""What an exported bundle takes beside the same bundle in Keras: captions, cold starts, features.

    python benchmarks/runtime.py                              # the shipped bundle, 400 phantoms
    python benchmarks/runtime.py --encoder densenet121        # features of random weights, too

Each runtime is a process of its own; they take turns, and the shortest time counts. Memory is the
largest resident size. Captions are compared word for word, log-probabilities by their difference.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from timing import best_seconds

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from xray_captioning.data.sources.reading import read_studies
from xray_captioning.phantom.dataset import write_phantoms
from xray_captioning.runtime import PACKAGES

CHECKOUT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "xray_captioning"]
RUNTIMES = ("keras", "onnx")


def cold(command: list[str], until: str = "") -> tuple[float, float]:
    """Return seconds and MB of a command that is begun anew, or of a server until it is ready."""
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    begun = time.perf_counter()
    process = subprocess.Popen([*COMMAND, *command], text=True, cwd=CHECKOUT, **quiet)
    for line in process.stdout:
        if until and until in line:
            break
    took = time.perf_counter() - begun
    if until:
        process.terminate()
        process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: exit status {status}")
    return took, used.ru_maxrss / 1024


def starts(bundle: str, image: Path, runs: int) -> None:
    """Print the time and memory of a cold caption, and of a server until it is ready."""
    kinds = {
        "caption": (["caption", str(image), "--bundle", bundle], ""),
        "serve": (["serve", "--port", "0", "--bundle", bundle], '"ready"'),
    }
    for name, (command, until) in kinds.items():
        found: dict[str, list[tuple[float, float]]] = {runtime: [] for runtime in RUNTIMES}
        for _ in range(runs):
            for runtime, measured in found.items():
                measured.append(cold([*command, "--runtime", runtime], until))
        for runtime, measured in found.items():
            took, memory = min(measured)[0], max(used for _, used in measured)
            print(f"{name:8} {runtime:6} {took:5.2f} s {memory:5.0f} MB")


def captions(bundle: str, studies: list[list[str]]) -> None:
    """Print how many captions are the same, how far probabilities differ, and seconds."""
    from xray_captioning.runtime import open_captioner

    both = [open_captioner(bundle, runtime) for runtime in RUNTIMES]
    for beam_size in (1, 3):
        found = [one.caption(studies, beam_size) for one in both]
        pairs = list(zip(*found, strict=True))
        same = sum(one.words == other.words for one, other in pairs)
        away = max(abs(one.log_probability - other.log_probability) for one, other in pairs)
        runs = [partial(one.caption, studies, beam_size) for one in both]
        seconds = best_seconds(3, *runs)
        shown = ", ".join(f"{name} {took:.2f} s" for name, took in zip(RUNTIMES, seconds))
        print(f"beam {beam_size}: {same} of {len(pairs)} the same, {away:.1g} apart; {shown}")


def installed() -> list[str]:
    """Return the runtimes that can run ONNX files here."""
    return [name for name, package in PACKAGES.items() if importlib.util.find_spec(package)]


def encoder(name: str, images: list[str]) -> None:
    """Print images a second from files, and how far features are apart, of random weights."""
    from xray_captioning.captioner.captioner import Captioner
    from xray_captioning.config import Config
    from xray_captioning.data.encoding import encode_images
    from xray_captioning.decoders.model import new_model
    from xray_captioning.encoders import Encoder
    from xray_captioning.runtime import load
    from xray_captioning.text.tokenizer import Tokenizer

    config: Any = Config.from_dict({"name": name, "model": {"encoder": name}}, name)
    network, tokenizer = Encoder(name, config.image.size), Tokenizer.fit(["normal ."])
    captioner = Captioner(config, network, new_model(config, network, tokenizer), tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        captioner.export(Path(folder) / "graphs")
        others = {name: load(Path(folder) / "graphs", name) for name in installed()}
    pairs = [(captioner._encode, config), *((o._encode, o.config) for o in others.values())]
    maps = [encode_images(*pair, images) for pair in pairs]
    seconds = best_seconds(3, *(partial(encode_images, *pair, images) for pair in pairs))
    away = max(np.abs(other - maps[0]).max() for other in maps) / np.abs(maps[0]).max()
    names = ["keras", *others]
    shown = ", ".join(f"{r} {len(images) / s:.1f} images/s" for r, s in zip(names, seconds))
    print(f"{name} {config.image.size} px: {shown}; {away:.1g} of the largest feature apart")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default="phantom_attention")
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--runs", type=int, default=3, help="cold starts; 0 is none")
    parser.add_argument("--encoder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_phantoms(Path(folder), options.studies, seed=77)
        studies = [list(images) for images in read_studies(Path(folder))["images"]]
        images = [image for study in studies for image in study]
        if options.runs:
            starts(options.bundle, Path(images[0]), options.runs)
        captions(options.bundle, studies)
        if options.encoder:
            encoder(options.encoder, images[:128])


if __name__ == "__main__":
    main()
