"""A training step of each decoder or of an encoder, beside another commit's, PyTorch's and its bare products.

    python benchmarks/training.py [--against CHECKOUT] [DECODER …] [--quick] [--runs N]
    python benchmarks/training.py --data STUDIES …      an epoch over their impressions
    python benchmarks/training.py encoder …             DenseNet121 at 224 px, 16 images a step; also with
                                                        checkpointing, with lower layers frozen (trained
                                                        from conv4_ on), and with outputs of these kept

The attention preset's sizes: 64 studies, 18 regions of 1,024 channels, 512 units, captions of 6 to
30 tokens of 1,387, AdamW and a bound on the gradients' norm. `--against` is another checkout of
this project, for example from ``git worktree add``. Each is a process of its own, which waits while
another measures; they take turns, so that all meet the same load. Prints one Markdown table of the
least and the median milliseconds, and of the median ratio of neighbouring turns.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

REGIONS, CHANNELS, HEAD, UNITS, EMBEDDING, WORDS, TIME = 18, 1024, 512, 512, 300, 1387, 30
WAYS = ["checkpointing", *(f"{first} on{kept}" for first in ("conv4_", "conv5_") for kept in ("", ", kept"))]
DROPOUT, RATE, DECAY, NORM, FINDINGS = 0.2, 1e-4, 0.01, 1.0, 14
Step = Callable[[], Any]


def captions(studies: int) -> np.ndarray:
    """Return tokens (studies, TIME + 1): a start token, 5 to 29 words and an end, then zeros."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, WORDS, (studies, TIME + 1)).astype("int32")
    tokens[np.arange(TIME + 1) >= rng.integers(6, TIME + 1, studies)[:, None]] = 0
    return tokens


def regions(studies: int) -> np.ndarray:
    """Return features (studies, REGIONS, CHANNELS)."""
    return np.random.default_rng(1).random((studies, REGIONS, CHANNELS), np.float32)


def keras_model(decoder: str, precision: str, words: int) -> Any:
    """The model that :func:`xray_captioning.train` fits."""
    from msgspec.structs import replace

    from xray_captioning.config import load_preset
    from xray_captioning.decoders import CaptionModel
    from xray_captioning.training.captions import compile_captions
    from xray_captioning.training.teacher_forcing import TeacherForcing

    config = load_preset("chexnet_attention")
    dtype = "mixed_bfloat16" if precision == "bfloat16" else precision
    sizes = replace(config.model, decoder=decoder), words, (2, 3, 3), CHANNELS, 60
    model = TeacherForcing(CaptionModel(*sizes, dtype=dtype), config.training)
    compile_captions(model, config.training, 16)
    return model


def keras_step(decoder: str, precision: str, studies: int, data: str) -> Step:
    """The step of :func:`xray_captioning.train`, or its epoch over `data`, or an encoder's step."""
    if decoder == "encoder":
        return encoder_step(precision, max(studies // 4, 2))
    if data:
        return keras_epoch(decoder, precision, data)
    model = keras_model(decoder, precision, WORDS)
    tokens, mask = captions(studies), np.ones((studies, REGIONS), bool)
    inputs = {"regions": regions(studies), "mask": mask, "tokens": tokens[:, :-1]}
    targets = tokens[:, 1:]
    weights = (targets > 0).astype("float32")
    return lambda: model.train_on_batch(inputs, targets, weights)


def pictures(count: int, pixels: int = 224) -> tuple[np.ndarray, np.ndarray]:
    """Return images (count, pixels, pixels, 3) and labels (count, FINDINGS)."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (count, FINDINGS)).astype("float32")
    return rng.random((count, pixels, pixels, 3), np.float32), labels


def encoder_step(precision: str, count: int, network: str = "chexnet", pixels: int = 224, way: str = "") -> Step:
    """The step of :func:`xray_captioning.train_encoder` on studies of one image; `way` is one of WAYS."""
    from xray_captioning.backend import keras
    from xray_captioning.config import load_preset
    from xray_captioning.encoders import Encoder, FindingModel
    from xray_captioning.training.captions import compile_model
    from xray_captioning.training.losses import MaskedBinaryCrossentropy

    how: dict[str, Any] = {"checkpointing": True} if way == "checkpointing" else {}
    first, _, kept = way.partition(" on")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy({"bfloat16": "mixed_bfloat16"}.get(precision, precision))
    encoder = Encoder(network, pixels, findings=["finding"] * FINDINGS)
    images, labels = pictures(count, pixels)
    if first and not how:
        from xray_captioning.encoders.parts import cut

        lower, upper = cut(encoder, first)
        lower.trainable = False
        if kept:
            how, shape = {"upper": upper}, (count, *upper.input_shape[1:])
            images = np.random.default_rng(1).random(shape, np.float32)
    model = FindingModel(encoder, **how)
    keras.config.set_dtype_policy(before)
    options = load_preset("chexnet_attention").encoder_training
    compile_model(model, MaskedBinaryCrossentropy([1.0] * FINDINGS), options, 100)
    inputs = {"images": images[:, None], "mask": np.ones((count, 1), bool)}
    return lambda: model.train_on_batch(inputs, labels)


def keras_epoch(decoder: str, precision: str, data: str) -> Step:
    """An epoch over the first 3,081 impressions of a collection, features in memory."""
    from xray_captioning import Tokenizer, load_preset, read_studies
    from xray_captioning.data import datasets, targets

    config, count = load_preset("chexnet_attention"), 3081
    texts = targets.training_texts(read_studies(data), config)
    texts = [text for text in texts if text.strip()][:count]
    tokenizer = Tokenizer.fit(texts, config.text.minimum_frequency)
    tokens, given = tokenizer.encode_batch(texts, config.text.maximum_length), regions(64)
    model = keras_model(decoder, precision, tokenizer.vocabulary_size)

    def inputs(numbers: Any, rng: Any) -> Any:
        some = given[: len(numbers)]
        return {"regions": some, "mask": np.ones(some.shape[:2], bool)}

    make, lengths = datasets.caption_batch(inputs, tokens), datasets.caption_lengths(tokens)
    batches = datasets.BatchDataset(make, len(texts), 64, 0, lengths)
    return lambda: model.fit(batches, shuffle=False, verbose=0)


def torch_step(decoder: str, precision: str, studies: int, data: str) -> Step:
    """The same in PyTorch, as its users write it: fused AdamW, autocast, logits after the loop."""
    import torch
    from training_torch import Captions

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    if decoder == "encoder":
        return torch_encoder_step(precision, max(studies // 4, 2))
    model = Captions(decoder, REGIONS, CHANNELS, HEAD, UNITS, EMBEDDING, WORDS, DROPOUT)
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY, fused=True)
    tokens, given = torch.from_numpy(captions(studies)).long(), torch.from_numpy(regions(studies))
    loss_of = torch.nn.CrossEntropyLoss(ignore_index=0)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            logits = model(given, tokens[:, :-1])
        loss_of(logits.float().flatten(0, 1), tokens[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), NORM)
        optimizer.step()

    return step


def torch_encoder_step(precision: str, count: int) -> Step:
    """The same network, in channels-last."""
    import torch
    from training_torch import densenet121

    model = densenet121(FINDINGS).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY, fused=True)
    images, labels = map(torch.from_numpy, pictures(count))
    images = images.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    loss = torch.nn.BCEWithLogitsLoss()

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            logits = model(images)
        loss(logits.float(), labels).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), NORM)
        optimizer.step()

    return step


def products(studies: int, time: int = TIME) -> list[tuple[int, int, int]]:
    """Return (m, k, n) of the products of global attention, each in one piece."""
    places, words = studies * REGIONS, studies * time
    shapes = [(places, CHANNELS, HEAD), (places, HEAD, UNITS), (words, UNITS, UNITS)]
    shapes += [(words, HEAD + EMBEDDING, 3 * UNITS), (words, UNITS, 3 * UNITS)]
    return [*shapes, (words, UNITS, WORDS)]


def products_step(decoder: str, precision: str, studies: int, data: str) -> Step:
    """The products of global attention, forwards and of both gradients, each in one piece."""
    import tensorflow as tf

    make = lambda *shape: tf.cast(tf.random.normal(shape), precision)  # noqa: E731
    triples = [(make(m, k), make(k, n), make(m, n)) for m, k, n in products(studies)]

    @tf.function
    def run() -> Any:
        found = []
        for number, (x, y, d) in enumerate(triples):
            found += [tf.matmul(x, y), tf.matmul(x, d, transpose_a=True)]
            found += [tf.matmul(d, y, transpose_b=True)] if number else []  # features are given
        return [part[0, 0] for part in found]

    return run


KINDS = {"here": keras_step, "against": keras_step, "PyTorch": torch_step}
KINDS["products"] = products_step


def serve(kind: str, decoder: str, precision: str, studies: int, data: str = "") -> None:
    """Run a step for each line that comes in, and answer with its seconds."""
    size = max(studies // 4, 2)  # of an encoder's batch
    known = kind not in WAYS
    if kind not in ("PyTorch", "products"):
        from xray_captioning import files

        getattr(files, "load_as_program", int)()  # as a command does; an earlier commit's sets nothing that counts
    step = KINDS[kind](decoder, precision, studies, data) if known else encoder_step(precision, size, way=kind)
    scope: Any = contextlib.nullcontext
    if kind not in ("PyTorch", "products"):
        from xray_captioning import backend  # an earlier commit's has none

        scope = getattr(backend, "kept_memory", scope)
    with scope():
        for _ in range(1 if data else 3):
            step()
        for _ in iter(sys.stdin.readline, ""):
            start = time.perf_counter()
            step()
            print("seconds", time.perf_counter() - start, flush=True)


def begin(kind: str, root: Path, *arguments: str) -> Any:
    """Start the process of one column."""
    here = Path(__file__)
    paths = [str(root), str(here.parent), os.environ.get("PYTHONPATH", "")]
    command = [sys.executable, str(here), "--serve", kind, *arguments]
    pipe, quiet = subprocess.PIPE, {"TF_CPP_MIN_LOG_LEVEL": "3"}
    environment = {**os.environ, **quiet, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)


def seconds(process: Any) -> float:
    """Let a process make one step."""
    process.stdin.write("\n")
    process.stdin.flush()
    for line in process.stdout:
        if line.startswith("seconds"):
            return float(line.split()[1])
    raise SystemExit("a step failed")


def measure(decoder: str, precision: str, options: Any) -> None:
    """Print the rows of one decoder in one precision."""
    kinds = ["here"] + ["against"] * bool(options.against) + WAYS * (decoder == "encoder")
    if not options.data:
        kinds += ["PyTorch"] * bool(importlib.util.find_spec("torch"))
        kinds += ["products"] * (decoder == "global_attention")
    roots, processes = {"against": options.against}, {}
    for kind in kinds:
        size = "4" if options.quick else "64"
        root = roots.get(kind, Path(__file__).parents[1])
        processes[kind] = begin(kind, root, decoder, precision, size, options.data)
    times = np.array([[seconds(processes[k]) for k in kinds] for _ in range(options.runs)]) * 1000
    peaks = [peak(process) for process in processes.values()]
    for process in processes.values():
        process.communicate()
    columns = times.min(0), np.median(times, 0), np.median(times[:, :1] / times, 0), peaks
    for kind, least, middle, ratio, memory in zip(kinds, *columns):
        cells = [decoder, precision, kind, f"{least:.1f}", f"{middle:.1f}"]
        best = times[:, 0].min() / least
        print("| " + " | ".join([*cells, f"{best:.2f}", f"{ratio:.2f}", memory]) + " |", flush=True)


def peak(process: Any) -> str:
    """Return the most memory that a process had, in GB, where Linux says it."""
    status = Path(f"/proc/{process.pid}/status")
    return f"{int(status.read_text().split('VmHWM:')[1].split()[0]) / 1e6:.2f}" if status.exists() else ""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("decoders", nargs="*", default=["global_attention"])
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--data", default="", help="a collection with impressions")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="four studies")
    parser.add_argument("--precision", choices=["float32", "bfloat16"])
    options = parser.parse_args()
    print("| decoder | precision | of | least ms | median ms | least here / it | median here / it | peak GB |")
    print("|" + " --- |" * 8, flush=True)
    for decoder in options.decoders:
        for precision in [options.precision] if options.precision else ["float32", "bfloat16"]:
            measure(decoder, precision, options)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(*sys.argv[2:5], int(sys.argv[5]), *sys.argv[6:])
    else:
        main()
