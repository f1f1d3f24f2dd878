"""What an exported bundle takes beside the same bundle in Keras: captions, cold starts, features.

    python benchmarks/runtime.py                              # the shipped bundle, 400 phantoms
    python benchmarks/runtime.py --runs 0 --precisions        # the encoder in other precisions
    python benchmarks/runtime.py --runs 0 --precisions --encoder densenet121    # one of random weights

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


def network(name: str) -> Any:
    """Return a captioner with an encoder of random weights."""
    from xray_captioning.captioner.captioner import Captioner
    from xray_captioning.config import Config
    from xray_captioning.decoders.model import new_model
    from xray_captioning.encoders import Encoder
    from xray_captioning.text.tokenizer import Tokenizer

    config: Any = Config.from_dict({"name": name, "model": {"encoder": name}}, name)
    encoder, tokenizer = Encoder(name, config.image.size), Tokenizer.fit(["normal ."])
    return Captioner(config, encoder, new_model(config, encoder, tokenizer), tokenizer)


def exported(captioner: Any, training: list[str], folder: Path) -> dict[str, Any]:
    """Return a captioner in every precision that what is installed here runs."""
    from xray_captioning.runtime import load

    found = {"Keras": captioner}
    for form, precision in WAYS:
        if importlib.util.find_spec(PACKAGES[form]):
            out = folder / f"{form}-{precision}"
            captioner.export(out, form, precision, training if precision == "int8" else ())
            found[f"{TITLES[form]}, {precision}"] = load(out, form)
    return found


def precisions(captioner: Any, training: list[str], studies: list[list[str]], reports: list[str] | None) -> None:
    """Print a row for each precision: features and captions beside Keras', clinical F1, speed."""
    from xray_captioning.metrics.clinical import clinical_scores

    with tempfile.TemporaryDirectory() as folder:
        ways = exported(captioner, training, Path(folder))
    images = sum(map(len, studies))
    runs = [partial(one.features, studies) for one in ways.values()]
    rows, taken = {}, best_seconds(4, *runs)
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
        speed = [f"{images / seconds:.1f}", f"{taken[0] / seconds:.2f}", f"{1000 * used / images:.1f}"]
        print("|", " | ".join([name, f"{apart:.1g}", *cells, *speed]), "|")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default="phantom_attention")
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--runs", type=int, default=3, help="cold starts; 0 is none")
    parser.add_argument("--precisions", action="store_true")
    parser.add_argument("--encoder", help="for --precisions")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_phantoms(Path(folder, "seen"), options.studies, seed=77)
        table = read_studies(Path(folder, "seen"))
        studies = [list(images) for images in table["images"]]
        if options.runs:
            starts(options.bundle, Path(studies[0][0]), options.runs)
        if not options.precisions:
            captions(options.bundle, studies)
            return
        from xray_captioning.captioner.captioner import Captioner

        write_phantoms(Path(folder, "training"), 100, seed=78)
        training = [image for images in read_studies(Path(folder, "training"))["images"] for image in images]
        if options.encoder:
            precisions(network(options.encoder), training, studies[:32], None)
        else:
            captioner = Captioner.load(options.bundle)
            precisions(captioner, training, studies, list(table[captioner.config.text.section]))


if __name__ == "__main__":
    main()
