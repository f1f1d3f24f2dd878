"""Training, encoding and searches on one device, beside PyTorch on the same one; five minutes.

    python benchmarks/gpu.py [--quick]        Keras on JAX; KERAS_BACKEND says another

The attention preset's sizes: DenseNet121 at 224 px, 32 images a step; its decoder over 18 regions,
64 studies a step; encoding, greedy and beam-3 search at a batch of 256, 29 words each (random
weights do not end a caption). In float32, of which matrix products may be rounded as the framework
does by itself, and in bfloat16, weights in float32. *Of the limit* is the share of what one large
matrix product reaches on this device in the same precision; only convolutions and products count.
``--quick`` is tiny, for a CPU. The column of PyTorch is empty where it is not installed, and for
the beam search, which it has not. Prints one Markdown table that names the device.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "jax")

from timing import best_seconds
from training import (
    CHANNELS,
    DROPOUT,
    EMBEDDING,
    FINDINGS,
    HEAD,
    RATE,
    REGIONS,
    UNITS,
    WORDS,
    captions,
    encoder_step,
    keras_model,
    keras_step,
    pictures,
    products,
    regions,
)

Call = Callable[[], Any]


class Sizes(NamedTuple):
    """How large everything is."""

    network: str = "chexnet"
    pixels: int = 224
    images: int = 32  # a training step
    studies: int = 64
    batch: int = 256  # encoded or captioned together
    side: int = 8192  # of the matrices of the limit
    runs: int = 20


QUICK = Sizes("phantom_cnn", 32, 2, 2, 2, 64, 2)


class Keras:
    """The models that this project fits and runs, with random weights."""

    def __init__(self, sizes: Sizes, precision: str) -> None:
        from xray_captioning.backend import keras
        from xray_captioning.encoders import Encoder

        self.sizes, self.precision, before = sizes, precision, keras.config.dtype_policy()
        keras.config.set_dtype_policy({"bfloat16": "mixed_bfloat16"}.get(precision, precision))
        self.encoder = Encoder(sizes.network, sizes.pixels, findings=["finding"] * FINDINGS)
        keras.config.set_dtype_policy(before)

    def products(self) -> float:
        """Operations of one image's convolutions: twice the multiplications."""
        layers = [layer for layer in self.encoder.backbone.layers if hasattr(layer, "kernel")]
        return 2.0 * sum(np.prod(layer.kernel.shape) * np.prod(layer.output.shape[1:3]) for layer in layers)

    def limit(self) -> Call:
        """One large product."""
        from xray_captioning.backend import compiled, keras, ops

        x = keras.random.normal((self.sizes.side, self.sizes.side), dtype=self.precision)
        run = compiled(ops.matmul, self.encoder)
        return lambda: ops.convert_to_numpy(run(x, x)[0, :1])

    def train_encoder(self) -> Call:
        """A step of the encoder and its finding classifier."""
        return encoder_step(self.precision, self.sizes.images, self.sizes.network, self.sizes.pixels)

    def train_decoder(self) -> Call:
        """A step of the attention decoder."""
        return keras_step("global_attention", self.precision, self.sizes.studies, "")

    def encode(self) -> Call:
        """Feature maps of a batch."""
        from xray_captioning.backend import compiled, ops

        run, images = compiled(self.encoder.encode, self.encoder), pictures(self.sizes.batch, self.sizes.pixels)[0]
        return lambda: ops.convert_to_numpy(run(images)[0, 0, 0])

    def search(self, beam_size: int) -> Call:
        """Captions of a batch."""
        from xray_captioning.backend import compiled, ops
        from xray_captioning.decoders import Features
        from xray_captioning.search import Rules, beam_search, greedy_search

        model = keras_model("global_attention", self.precision, WORDS).captions
        given, rules = regions(self.sizes.batch), Rules(1, 2, 29, banned=(0, 1, 2))

        def searched(regions: Any, mask: Any) -> Any:
            state, real = model.start(Features(regions, mask)), ops.any(mask, axis=1)
            if beam_size == 1:
                return greedy_search(state, model.step, real, rules).tokens
            return beam_search(state, model.step, real, rules, beam_size, np.float32(1)).tokens

        run, mask = compiled(searched, model, fused=True), np.ones(given.shape[:2], bool)
        return lambda: ops.convert_to_numpy(run(given, mask))


class PyTorch:
    """The same models as PyTorch's users write them."""

    def __init__(self, sizes: Sizes, precision: str) -> None:
        import torch
        from training_torch import Captions, densenet121

        self.sizes, self.torch, self.mixed = sizes, torch, precision == "bfloat16"
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        layout = {"memory_format": torch.channels_last, "device": self.device}
        self.network = densenet121(FINDINGS).to(**layout)
        self.model = Captions("attention", REGIONS, CHANNELS, HEAD, UNITS, EMBEDDING, WORDS, DROPOUT).to(self.device)

    def _computed(self, step: Call) -> Call:
        def run() -> None:
            with self.torch.autocast(self.device, self.torch.bfloat16, enabled=self.mixed):
                step()
            if self.device == "cuda":
                self.torch.cuda.synchronize()

        return run

    def _fitted(self, model: Any, loss: Callable[[], Any]) -> Call:
        optimizer = self.torch.optim.AdamW(model.parameters(), RATE, fused=True)

        def step() -> None:
            optimizer.zero_grad()
            loss().backward()
            self.torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()

        return self._computed(step)

    def _images(self, count: int) -> tuple[Any, Any]:
        images, labels = (self.torch.from_numpy(x) for x in pictures(count, self.sizes.pixels))
        images = images.permute(0, 3, 1, 2).to(self.device, memory_format=self.torch.channels_last)
        return images, labels.to(self.device)

    def train_encoder(self) -> Call:
        """A step of the encoder and its finding classifier."""
        images, labels = self._images(self.sizes.images)
        loss = self.torch.nn.BCEWithLogitsLoss()
        return self._fitted(self.network, lambda: loss(self.network(images).float(), labels))

    def train_decoder(self) -> Call:
        """A step of the attention decoder."""
        tokens = self.torch.from_numpy(captions(self.sizes.studies)).long().to(self.device)
        given = self.torch.from_numpy(regions(self.sizes.studies)).to(self.device)
        loss = self.torch.nn.CrossEntropyLoss(ignore_index=0)
        targets = tokens[:, 1:].flatten()
        return self._fitted(self.model, lambda: loss(self.model(given, tokens[:, :-1]).float().flatten(0, 1), targets))

    def encode(self) -> Call:
        """Feature maps of a batch."""
        images, network = self._images(self.sizes.batch)[0], self.network[:-3].eval()
        return self._computed(self.torch.inference_mode()(lambda: network(images)))

    def search(self, beam_size: int) -> Call | None:
        """Captions of a batch."""
        given = self.torch.from_numpy(regions(self.sizes.batch)).to(self.device)
        model = self.model.eval()
        return self._computed(self.torch.inference_mode()(lambda: model.greedy(given, 29))) if beam_size == 1 else None


def rows(sizes: Sizes, precision: str) -> Iterator[list[str]]:
    """Measure everything in one precision."""
    here = Keras(sizes, precision)
    there = PyTorch(sizes, precision) if importlib.util.find_spec("torch") else None
    limit = 2 * sizes.side**3 / best_seconds(sizes.runs, here.limit())[0]
    yield ["matrix product", precision, "TFLOP/s", f"{limit / 1e12:.3g}", "", "", "1"]
    image, step = here.products(), products(sizes.studies)
    word = sum(2 * m * k * n for m, k, n in products(sizes.batch, 29))
    parts: list[tuple[str, str, int, float, Any]] = [
        ("training the encoder", "images/s", sizes.images, 3 * image * sizes.images, "train_encoder"),
        ("training the decoder", "studies/s", sizes.studies, sum(6 * m * k * n for m, k, n in step), "train_decoder"),
        ("encoding", "images/s", sizes.batch, image * sizes.batch, "encode"),
        ("greedy search", "studies/s", sizes.batch, word, 1),
        ("beam-3 search", "studies/s", sizes.batch, 3 * word, 3),
    ]
    for what, unit, count, operations, part in parts:
        made = [getattr(x, part)() if isinstance(part, str) else x.search(part) for x in (here, there) if x]
        seconds = best_seconds(sizes.runs, *(call for call in made if call))
        own, *other = (f"{count / s:.4g}" for s in seconds)
        ratio = f"{seconds[1] / seconds[0]:.2f}" if other else ""
        yield [what, precision, unit, own, *(other or [""]), ratio, f"{operations / seconds[0] / limit:.2f}"]


def device() -> str:
    """Say what this runs on."""
    from xray_captioning.backend import keras

    name = keras.distribution.list_devices()[0]
    if keras.backend.backend() == "jax":
        import jax

        name = jax.local_devices()[0].device_kind
    return f"{name}, Keras {keras.__version__} on {keras.backend.backend()}"


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny, for a CPU")
    sizes = QUICK if parser.parse_args(arguments).quick else Sizes()
    print(f"{device()}\n\n| what | precision | unit | here | PyTorch | here / PyTorch | of the limit |")
    print("|" + " --- |" * 7, flush=True)
    for precision in ("float32", "bfloat16"):
        for row in rows(sizes, precision):
            print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
