"""How fast each part is beside the plain way to do the same, measured in the same run.

    taskset -c 0,1 python benchmarks/speed.py           about a quarter of an hour on two cores
    python benchmarks/speed.py --quick                  a minute: does it run?
    python benchmarks/speed.py epoch memory             some parts only
    KERAS_BACKEND=jax python benchmarks/speed.py        on a GPU, where JAX sees one

Prints one Markdown table. The machine may be shared: what is compared is measured in turns and the
best of each counts. Inputs are phantoms and weights are random, because neither changes the speed;
images are 1,024 px PNG files as OpenCV compresses them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from timing import best_seconds

ENCODER_FLOPS = 5.7e9  # of DenseNet121 on one image of 224 px: 2.83e9 multiplications and additions
SIZE = 1024  # of the image files, in pixels


class Row(NamedTuple):
    """A line of the table; both figures in the same unit."""

    what: str
    unit: str
    here: float
    reference: str = ""
    there: float | None = None
    ratio: float | None = None  # how many times better


class Settings(NamedTuple):
    """How much is measured."""

    folder: Path
    quick: bool

    def pick(self, quick: int, full: int) -> int:
        """Return a size for a smoke test or for a measurement."""
        return quick if self.quick else full


def image_files(settings: Settings, size: int = SIZE) -> list[str]:
    """Write phantoms as PNG files with OpenCV's default compression."""
    import cv2

    from xray_captioning.phantom.dataset import write_phantoms

    folder = settings.folder / f"images{size}"
    if not folder.is_dir():
        folder.mkdir()
        drawn = write_phantoms(settings.folder / f"p{size}", settings.pick(4, 64), size=size)
        for path in sorted(drawn.rglob("*.png")):
            cv2.imwrite(str(folder / path.name), cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    return sorted(map(str, folder.glob("*.png")))


@cache
def preset() -> tuple[Any, Any]:
    """Return the recipe of the published attention model and its encoder, random weights."""
    from xray_captioning.config import load_preset
    from xray_captioning.encoders import Encoder

    config = load_preset("chexnet_attention")
    return config, Encoder("chexnet", config.image.size, config.model.pool)


@cache
def plain_network() -> Any:
    """Return DenseNet121 as keras.applications builds it."""
    from xray_captioning.backend import keras

    return keras.applications.DenseNet121(include_top=False, weights=None, input_shape=(224, 224, 3))


def limit(settings: Settings) -> Iterator[Row]:
    """Matrix products, which nothing here can be faster than."""
    from xray_captioning.backend import keras, ops

    side = settings.pick(512, 2048)
    x = ops.ones((side, side))
    product = keras.Sequential([keras.layers.Dense(side, use_bias=False)])
    product.predict_on_batch(x)
    (seconds,) = best_seconds(settings.pick(1, 10), lambda: product.predict_on_batch(x))
    yield Row(f"matrix product, {side} x {side}, float32", "GFLOP/s", 2e-9 * side**3 / seconds)


def images(settings: Settings) -> Iterator[Row]:
    """Image files to features; both networks are compiled already."""
    import cv2

    from xray_captioning.data.images import read_images

    paths, network, encode = image_files(settings), plain_network(), _encoding(settings)
    ready = np.random.default_rng(0).random((len(paths), 224, 224, 3), np.float32)
    network.predict(ready, verbose=0)
    encode()

    def one_by_one() -> None:
        for path in paths:
            cv2.resize(cv2.imread(path), (224, 224), interpolation=cv2.INTER_AREA)

    runs = settings.pick(1, 5)
    decoded, plainly = best_seconds(runs, lambda: read_images(paths), one_by_one)
    yield _rate("images decoded and resized", len(paths), decoded, "OpenCV in a loop", plainly)
    encoded, predicted = best_seconds(runs, encode, lambda: network.predict(ready, verbose=0))
    what, plain = "images decoded, resized, encoded, kept", "DenseNet121.predict on ready arrays"
    yield _rate(what, len(paths), encoded, plain, predicted)
    yield Row("the same in products", "GFLOP/s", 1e-9 * ENCODER_FLOPS * len(paths) / encoded)


def _encoding(settings: Settings) -> Callable[[], None]:
    """Return what fills a new cache with the features of every image."""
    from xray_captioning.backend import compiled
    from xray_captioning.data.features import ArrayCache
    from xray_captioning.encoders.encoding import encode_images

    config, encoder = preset()
    compiled_encode = compiled(encoder.encode, encoder)

    def encode() -> None:
        with tempfile.TemporaryDirectory(dir=settings.folder) as folder:
            cache = ArrayCache(Path(folder), {}, "float32")
            cache.fill(image_files(settings), lambda some: encode_images(compiled_encode, config, some))

    return encode


def _rate(what: str, count: int, here: float, reference: str, there: float) -> Row:
    return Row(what, "images/s", count / here, reference, count / there, there / here)


def epoch(settings: Settings) -> Iterator[Row]:
    """Seconds an epoch, for 1,000 studies of two views."""
    few, many = settings.pick(16, 64), settings.pick(32, 1024)
    data, model = _cached_epoch(settings, few, many)
    network, (config, _) = plain_network(), preset()
    pixels = np.random.default_rng(0).random((2 * few, 224, 224, 3), np.float32)
    size = config.training.batch_size

    def encode_again() -> None:
        # Ready arrays: reading the images again would come on top.
        for start in range(0, few, size):
            inputs, *rest = data[start // size]
            network.predict(pixels[2 * start : 2 * (start + size)], verbose=0)
            model.train_on_batch(inputs, *rest)

    def cached() -> None:
        model.fit(data, shuffle=False, verbose=0)

    cached()
    encode_again()
    here, there = best_seconds(settings.pick(1, 4), cached, encode_again)
    here, there = 1000 * here / many, 1000 * there / few
    yield Row(
        "epoch on cached features, 1,000 studies",
        "s",
        here,
        "encoding both views anew, images in memory",
        there,
        there / here,
    )


def _cached_epoch(settings: Settings, few: int, many: int) -> tuple[Any, Any]:
    from xray_captioning.data.datasets import BatchDataset, caption_batch, caption_lengths, feature_inputs
    from xray_captioning.data.features import image_regions
    from xray_captioning.encoders.encoding import cached_features

    config, encoder = preset()
    paths = image_files(settings)
    pairs = [paths[2 * i : 2 * i + 2] for i in range(len(paths) // 2)]
    studies = [pairs[i % len(pairs)] for i in range(many)]
    cache = cached_features(pairs, encoder, config, settings.folder / "cache")
    tokens = _captions(many)
    make = caption_batch(feature_inputs(image_regions(cache, studies, 2)), tokens)
    data = BatchDataset(make, many, config.training.batch_size, 0, caption_lengths(tokens))
    return data, teacher("float32")


def _captions(studies: int) -> np.ndarray:
    """Return captions as long as impressions: 6 to 30 tokens of 1,387."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, 1387, (studies, 31)).astype("int32")
    tokens[np.arange(31) >= rng.integers(6, 31, studies)[:, None]] = 0
    return tokens


def teacher(precision: str) -> Any:
    """Return the attention model of the older project's size, compiled for training."""
    from xray_captioning.decoders import CaptionModel
    from xray_captioning.training.captions import compile_captions
    from xray_captioning.training.teacher_forcing import TeacherForcing

    config, encoder = preset()
    grid = (2, *encoder.grid)
    dtype = "mixed_bfloat16" if precision == "bfloat16" else precision
    captions = CaptionModel(config.model, 1387, grid, encoder.channels, 60, dtype=dtype)
    model = TeacherForcing(captions, config.training)
    compile_captions(model, config.training, 16)
    return model


def step(settings: Settings) -> Iterator[Row]:
    """One training step of 64 studies, in both precisions."""
    studies = settings.pick(4, 64)
    rng = np.random.default_rng(0)
    tokens = _captions(studies)
    inputs = {
        "regions": rng.random((studies, 18, 1024), np.float32),
        "mask": np.ones((studies, 18), bool),
        "tokens": tokens[:, :-1],
    }
    batch = (inputs, tokens[:, 1:], (tokens[:, 1:] > 0).astype("float32"))
    models = [teacher(precision) for precision in ("float32", "bfloat16")]
    models[1].set_weights(models[0].get_weights())
    exact, near = (np.asarray(model.predict_on_batch(inputs)) for model in models)
    error = np.abs(exact - near).max() / np.abs(exact).max()
    for model in models:
        model.train_on_batch(*batch)
    full, half = best_seconds(settings.pick(1, 15), *(lambda m=m: m.train_on_batch(*batch) for m in models))
    what = f"training step in bfloat16, logits within {100 * error:.1f} %"
    yield Row(what, "ms", 1000 * half, "the same in float32", 1000 * full, full / half)


_MEMORY = """
import resource, sys, time
from pathlib import Path
from xray_captioning import Captioner
paths, count = sys.argv[2:], int(sys.argv[1])
pairs = list(zip(paths[::2], paths[1::2]))
studies = [pairs[i % len(pairs)] for i in range(count)]
captioner = Captioner.load("phantom_attention")
captioner.caption(studies[:80])  # batches of 64 and of 16, as the last of 10,000 is
begun = time.perf_counter()
assert len(captioner.caption(studies)) == count
print(1000 * (time.perf_counter() - begun) / count, end=" ")
status = Path("/proc/self/status")  # Linux hands the parent's peak on in ru_maxrss
if status.exists():
    print(status.read_text().split("VmHWM:")[1].split()[0])
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def memory(settings: Settings) -> Iterator[Row]:
    """Peak memory and time of captioning many studies, in a process of its own."""
    few, many = settings.pick(4, 100), settings.pick(40, 10_000)
    unit = 1024**2 if sys.platform == "darwin" else 1024  # of ru_maxrss
    paths = image_files(settings, 128)
    (slow, here), (fast, there) = (map(float, _child(_MEMORY, str(count), *paths).split()) for count in (many, few))
    what, other = f"{many:,} studies", f"{few} studies"
    yield Row(f"peak memory, {what}", "MB", here / unit, other, there / unit, there / here)
    yield Row(f"captioning {what}, each", "ms", slow, other, fast, fast / slow)


_START = """
import sys, time
times = [time.perf_counter()]
import xray_captioning; times.append(time.perf_counter())
import numpy, cv2; times.append(time.perf_counter())
from xray_captioning import backend; times.append(time.perf_counter())
from xray_captioning import Captioner; times.append(time.perf_counter())
captioner = Captioner.load("phantom_attention"); times.append(time.perf_counter())
for _ in range(2):
    captioner.caption([[sys.argv[1]]]); times.append(time.perf_counter())
print([b - a for a, b in zip(times, times[1:])])
"""


def start(settings: Settings) -> Iterator[Row]:
    """Where the time to the first caption goes, in a process of its own."""
    names = (
        "import xray_captioning",
        "import NumPy and OpenCV",
        "import the backend (TensorFlow and Keras)",
        "import the captioner",
        "load the shipped bundle",
        "first caption (compiles encoder and search)",
        "second caption",
    )
    runs = [json.loads(_child(_START, image_files(settings)[0])) for _ in range(settings.pick(1, 5))]
    # All of one run: the one that came soonest to its first caption.
    times = min(runs, key=lambda run: sum(run[:6]) - run[2])
    for name, seconds in zip(names, times):
        yield Row(f"start-up: {name}", "s", seconds)
    beyond = sum(times[:6]) - times[2]
    yield Row("start-up: first caption, beyond the backend's import", "s", beyond)


def search(settings: Settings) -> Iterator[Row]:
    """Studies a second of every decoder and search."""
    from speed_search import search_rows

    yield from (Row(*row) for row in search_rows(settings.quick))


def _child(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout.strip().splitlines()[-1]


PARTS: dict[str, Callable[[Settings], Iterator[Row]]] = {
    "limit": limit,
    "images": images,
    "epoch": epoch,
    "step": step,
    "memory": memory,
    "start": start,
    "search": search,
}


def machine() -> str:
    """Say what this was measured on."""
    from xray_captioning.backend import keras

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    devices = ", ".join(keras.distribution.list_devices()) or "cpu"
    backend = f"Keras {keras.__version__} on {keras.backend.backend()} ({devices})"
    return f"{cores} cores, {platform.machine()}, Python {platform.python_version()}, {backend}"


def line(cells: list[str]) -> str:
    """Return a row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def number(value: float | None) -> str:
    """Write three significant digits, whole numbers in full."""
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="small sizes, one run each")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"unknown part {min(unknown)}; parts are {', '.join(PARTS)}")
    print(machine(), end="\n\n", flush=True)
    print(line(["what", "unit", "here", "plain reference", "its figure", "ratio"]))
    print(line(["---"] * 6), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(Path(folder), options.quick)
        for name in options.parts or PARTS:
            for row in PARTS[name](settings):
                cells = [row.what, row.unit, number(row.here), row.reference]
                print(line([*cells, number(row.there), number(row.ratio)]), flush=True)


if __name__ == "__main__":
    main()
