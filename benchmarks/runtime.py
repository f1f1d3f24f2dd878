"""What an exported bundle takes beside the same bundle in Keras: captions, starts, a table, features.

    python benchmarks/runtime.py                              # the shipped bundle, 400 phantoms
    python benchmarks/runtime.py --runs 3 --whole 1000        # and a table of 1,000 studies, `caption --out`
    python benchmarks/runtime.py --runs 0 --encoder chexnet   # captions with another encoder
    python benchmarks/runtime.py --runs 0 --encoder efficientnet_lite0 --weights imagenet
    python benchmarks/runtime.py --runs 0 --precisions        # the encoder in other precisions
    python benchmarks/runtime.py --runs 0 --precisions --encoder densenet121    # one of random weights

Each runtime is a process of its own; they take turns, and the shortest time counts. Memory is the
largest resident size. Captions are compared word for word, log-probabilities by their difference.
With --encoder a small decoder is trained on phantoms for a minute, so that it has something to say.
"""

import argparse
import importlib.util
import json
import os
import shutil
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

from xray_captioning.bundles.bundle import rewrite_bundle
from xray_captioning.data.images import normalise, read_images
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.phantom.dataset import write_phantoms
from xray_captioning.runtime import PACKAGES

CHECKOUT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "xray_captioning"]
RUNTIMES = ("keras", "onnx")
TITLES = {"onnx": "onnxruntime", "openvino": "OpenVINO"}
WAYS = [("onnx", "float32"), ("onnx", "int8"), ("openvino", "float32"), ("openvino", "bfloat16"), ("openvino", "int8")]


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


def whole(bundle: str, studies: int, folder: Path, runs: int) -> None:
    """Print what a table of captions takes, from the start of the command to its end."""
    write_phantoms(folder / "whole", studies, seed=79)
    for beam in ("1", "3"):
        found: dict[str, list[tuple[float, float]]] = {runtime: [] for runtime in RUNTIMES}
        texts = {}
        for _ in range(runs):
            for runtime, measured in found.items():
                out = folder / f"{runtime}-{beam}.jsonl"
                out.unlink(missing_ok=True)
                command = ["caption", "--data", str(folder / "whole"), "--out", str(out), "--bundle", bundle]
                before = os.times()
                took, _ = cold([*command, "--beam", beam, "--runtime", runtime])
                after = os.times()
                used = after.children_user + after.children_system - before.children_user - before.children_system
                measured.append((took, used))
                texts[runtime] = [json.loads(line)["caption"] for line in out.read_text("utf-8").splitlines()]
        same = sum(one == other for one, other in zip(*texts.values(), strict=True))
        print(f"{studies} studies, beam {beam}: {same} captions the same;", end="")
        for runtime, measured in found.items():
            took, used = (min(numbers) for numbers in zip(*measured))
            print(f" {runtime} {took:.2f} s, {used:.2f} s of CPU;", end="")
        print(flush=True)


def captions(both: list[Any], studies: list[list[str]]) -> None:
    """Print how far features differ, how many captions are the same, and the seconds of the searches."""
    encoded = [one.features(studies) for one in both]
    regions = [features.regions for features in encoded]
    print(f"features: {np.abs(regions[0] - regions[1]).max() / np.abs(regions[0]).max():.1g} of the largest apart")
    for beam_size in (1, 3):
        runs = [partial(one.caption_features, features, beam_size) for one, features in zip(both, encoded)]
        pairs = list(zip(*(run() for run in runs), strict=True))
        same = sum(one.words == other.words for one, other in pairs)
        away = max(abs(one.log_probability - other.log_probability) for one, other in pairs)
        different = len({one.text for one, _ in pairs})
        shown = ", ".join(f"{name} {took:.2f} s" for name, took in zip(RUNTIMES, best_seconds(3, *runs)))
        print(f"beam {beam_size}: {same} of {len(pairs)} the same, {different} different texts, ", end="")
        print(f"log-probabilities {away:.1g} apart; {shown}", flush=True)


def network(name: str, weights: str, folder: Path) -> Any:
    """Return a captioner with this encoder and a small decoder that was trained on phantoms a little."""
    from xray_captioning.config import Config
    from xray_captioning.encoders.saved import adopted
    from xray_captioning.training.captions import train

    write_phantoms(folder / "taught", 150, seed=80)
    sizes = {"encoder": name, "pool": 2, "head": 96, "units": 96, "embedding": 48, "attention": 48, "dropout": 0.0}
    training = {"epochs": 40, "batch_size": 16, "learning_rate": 0.004, "patience": 40}
    config = Config.from_dict({"name": name, "model": sizes, "training": training}, name)
    config, out = adopted(config, weights), folder / "run"
    return train(folder / "taught", config, out, weights=weights, cache=folder / "cache", measured=False)


def exported(captioner: Any, training: list[str], folder: Path) -> dict[str, Any]:
    """Return a captioner in every precision that what is installed here runs; it is exported once."""
    from xray_captioning.runtime import load

    captioner.export(folder / "float32")
    found = {"Keras": captioner}
    for form, precision in WAYS:
        if importlib.util.find_spec(PACKAGES[form]):
            if not (out := folder / precision).exists():
                shutil.copytree(folder / "float32", out)
                rewrite_bundle(out, partial(lowered, captioner.config.image, precision, training))
            found[f"{TITLES[form]}, {precision}"] = load(out, form)
    return found


def lowered(image: Any, precision: str, training: list[str], aside: Path) -> None:
    """Let an exported encoder compute in another precision, as `export --precision` writes it."""
    from xray_captioning.captioner.export import quantise

    values = json.loads((aside / "captioner.json").read_text("utf-8"))
    values["export"]["precision"] = precision
    (aside / "captioner.json").write_text(json.dumps(values), "utf-8")
    if precision == "int8":
        quantise(aside / "encoder.onnx", read_images(training, image.size, image.resize))


def predicted(captioner: Any, studies: list[list[str]]) -> None:
    """Encode as `predict` of the network itself does, in batches of 16."""
    image = captioner.config.image
    paths = [path for study in studies for path in study]
    for start in range(0, len(paths), 16):
        pixels = normalise(read_images(paths[start : start + 16], image.size, image.resize), image.normalisation)
        captioner.encoder.backbone.predict(pixels, verbose=0)


def precisions(captioner: Any, training: list[str], studies: list[list[str]], reports: list[str] | None) -> None:
    """Print a row for each precision: features and captions beside Keras', clinical F1, speed."""
    from xray_captioning.metrics.clinical import clinical_scores

    with tempfile.TemporaryDirectory() as folder:
        ways = exported(captioner, training, Path(folder))
    images = sum(map(len, studies))
    runs = [partial(predicted, captioner, studies), *(partial(one.features, studies) for one in ways.values())]
    first, *taken = best_seconds(4, *runs)
    begun = time.process_time()
    runs[0]()
    used = 1000 * (time.process_time() - begun) / images
    print(
        f"`predict` of the network: {images / first:.1f} images/s, {used:.1f} ms of CPU an image; `times` are of it\n"
    )
    rows = {}
    for (name, one), seconds in zip(ways.items(), taken, strict=True):
        begun = time.process_time()
        features = one.features(studies)
        rows[name] = features, time.process_time() - begun, seconds
    exact = rows["Keras"][0]
    said = [c.words for c in captioner.caption_features(exact, 1)]
    print("| what | features apart | other captions | clinical F1 | images/s | times | ms of CPU an image |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, (features, used, seconds) in rows.items():
        apart = np.abs(features.regions - exact.regions).max() / np.abs(exact.regions).max()
        cells = ["—", "—"]
        if reports:
            found = [c.words for c in ways[name].caption_features(features, 1)]
            scores = clinical_scores(reports, [" ".join(words) for words in found])
            other = sum(one != two for one, two in zip(found, said, strict=True))
            cells = [f"{other} of {len(said)}", f"{scores['clinical_f1']:.4f}"]
        speed = [f"{images / seconds:.1f}", f"{first / seconds:.2f}", f"{1000 * used / images:.1f}"]
        print("|", " | ".join([name, f"{apart:.1g}", *cells, *speed]), "|")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default="phantom_attention")
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--runs", type=int, default=3, help="cold starts; 0 is none")
    parser.add_argument("--whole", type=int, default=0, metavar="STUDIES", help="of a table; needs --runs")
    parser.add_argument("--precisions", action="store_true")
    parser.add_argument("--encoder", help="instead of the bundle's")
    parser.add_argument("--weights", default="random", help="of --encoder: random or imagenet")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        compare(options, Path(name))


def compare(options: argparse.Namespace, folder: Path) -> None:
    """Do what was asked for, in a folder that is removed behind it."""
    from xray_captioning.runtime import load, open_captioner

    write_phantoms(folder / "seen", options.studies, seed=77)
    table = read_studies(folder / "seen")
    studies = [list(images) for images in table["images"]]
    if options.runs:
        starts(options.bundle, Path(studies[0][0]), options.runs)
    if options.runs and options.whole:
        whole(options.bundle, options.whole, folder, options.runs)
    if options.encoder:
        captioner = network(options.encoder, options.weights, folder)
    else:
        captioner = open_captioner(options.bundle, "keras")
    if options.precisions:
        write_phantoms(folder / "training", 100, seed=78)
        training = [image for images in read_studies(folder / "training")["images"] for image in images]
        reports = None if options.encoder else list(table[captioner.config.text.section])
        precisions(captioner, training, studies[:32] if options.encoder else studies, reports)
        return
    if options.encoder:
        captioner.export(folder / "graphs")
    captions([captioner, load(folder / "graphs" if options.encoder else options.bundle)], studies)


if __name__ == "__main__":
    main()
