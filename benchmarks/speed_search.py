"""Studies a second of every decoder and search, beside plain ways to do the same.

Part of `benchmarks/speed.py`. The end token is forbidden everywhere, so that all write captions of
the same length; sizes are those of the published attention model (18 regions, 512 units, 1,387
words, 29 tokens). Weights are random, which does not change the speed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from timing import best_seconds

from xray_captioning.backend import compiled, keras, ops
from xray_captioning.config import ModelConfig
from xray_captioning.decoders import DECODERS, CaptionModel, Features
from xray_captioning.search import Rules, beam_search, greedy_search

VOCABULARY, LENGTH, GRID, CHANNELS = 1387, 29, (2, 3, 3), 1024
REGIONS, START, END = 18, 3, 4
SIZES = ModelConfig(head=512, units=512, embedding=300, attention=512, layers=3, heads=8)
BATCHES = (1, 16, 64, 256)

Row = tuple[str, str, float, str, float | None, float | None]
Run = Callable[[], Any]


def build(decoder: str, vocabulary: int = VOCABULARY, length: int = LENGTH) -> CaptionModel:
    """Return a decoder of the published model's sizes, random weights."""
    return CaptionModel(replace(SIZES, decoder=decoder), vocabulary, GRID, CHANNELS, length + 1)


def studies(number: int) -> Features:
    """Return features of so many studies."""
    regions = np.random.default_rng(0).normal(size=(number, REGIONS, CHANNELS))
    return Features(regions.astype("float32"), np.ones((number, REGIONS), bool))


def searching(model: CaptionModel, batch: int, beams: int = 1, length: int = LENGTH, fused: bool = True) -> Run:
    """Return one compiled search of a batch, greedy for one beam."""
    rules = Rules(START, END, length, banned=(0, END))

    def search(regions: Any, mask: Any) -> Any:
        state = model.start(Features(regions, mask))
        real = ops.any(mask, axis=1)
        if beams == 1:
            return greedy_search(state, model.step, real, rules).tokens
        return beam_search(state, model.step, real, rules, beams).tokens

    run, features = compiled(search, model, fused), studies(batch)
    return lambda: ops.convert_to_numpy(run(*features))


def plain_greedy(model: CaptionModel, compile_step: bool) -> Run:
    """Return how the older programs write: one study, one call from Python a word."""

    def step(token: Any, state: Any) -> Any:
        return model.step(token, state)

    step = compiled(step, model) if compile_step else step
    one = studies(1)

    def write() -> list[int]:
        state, token, said = model.start(one), START, []
        for _ in range(LENGTH):
            logits, state = step(ops.convert_to_tensor([token], dtype="int32"), state)
            scores = ops.convert_to_numpy(logits)[0].copy()
            scores[[0, END]] = -np.inf
            token = int(scores.argmax())
            said.append(token)
        return said

    return write


def numpy_beam(model: CaptionModel, beams: int) -> Run:
    """Return a beam search of one study in numpy around a compiled step."""
    step, one = compiled(lambda token, state: model.step(token, state), model), studies(1)

    def write() -> Any:
        state = keras.tree.map_structure(lambda x: np.repeat(ops.convert_to_numpy(x), beams, axis=0), model.start(one))
        said, totals = np.full((beams, 1), START), np.array([0.0] + [-np.inf] * (beams - 1))
        for _ in range(LENGTH):
            logits, state = step(said[:, -1].astype("int32"), state)
            logits, state = keras.tree.map_structure(ops.convert_to_numpy, (logits, state))
            top = logits.max(axis=1, keepdims=True)
            scores = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
            scores[:, [0, END]] = -np.inf
            scores = (totals[:, None] + scores).ravel()
            best = np.argsort(-scores)[:beams]
            rows, totals = best // logits.shape[1], scores[best]
            said = np.concatenate([said[rows], best[:, None] % logits.shape[1]], axis=1)
            state = keras.tree.map_structure(lambda x, rows=rows: x[rows], state)
        return said

    return write


def decoding_flops(model: CaptionModel) -> float:
    """Return the operations in the matrix products of one study of the attention decoder.

    All its matrices are read once a token, but for the head and the keys, once a region.
    """
    once = [model.head.project.kernel, model.decoder.cell.key.kernel]
    cell = model.decoder.cell
    each = [cell.query.kernel, cell.gru.kernel, cell.gru.recurrent_kernel]
    each.append(model.decoder.logits.kernel)
    products = REGIONS * sum(np.prod(w.shape) for w in once)
    # Energies and context: every region once a token.
    attention = 2 * REGIONS * SIZES.units
    return float(2 * (products + LENGTH * (sum(np.prod(w.shape) for w in each) + attention)))


def product_limit(side: int = 2048) -> Run:
    """Return one large matrix product, 2 side^3 operations: the machine's limit."""
    x = ops.ones((side, side))
    product = keras.Sequential([keras.layers.Dense(side, use_bias=False)])
    return lambda: product.predict_on_batch(x)


def beside_plain(quick: bool) -> Iterator[Row]:
    """The attention decoder at batch 64 beside one study and one word at a time."""
    batch, side, runs = (4, 256, 2) if quick else (64, 2048, 9)
    model = build("global_attention")
    greedy, beam, eager, step, beam_one, limit = best_seconds(
        runs,
        searching(model, batch),
        searching(model, batch, 3),
        plain_greedy(model, compile_step=False),
        plain_greedy(model, compile_step=True),
        numpy_beam(model, 3),
        product_limit(side),
    )
    name, unit, here = f"global_attention, batch {batch}", "studies/s", batch / greedy
    yield (f"{name}, greedy", unit, here, "eager step, one study", 1 / eager, here * eager)
    yield (f"{name}, greedy", unit, here, "compiled step, one study", 1 / step, here * step)
    most = 2.0 * side**3 / limit / decoding_flops(model)
    yield (f"{name}, greedy", unit, here, "matrix-product limit", most, here / most)
    there = batch / beam
    yield (f"{name}, beam-3", unit, there, "greedy", here, there / here)
    yield (f"{name}, beam-3", unit, there, "numpy beam, one study", 1 / beam_one, there * beam_one)


def beside_unfused(quick: bool) -> Iterator[Row]:
    """Every decoder's greedy search beside the same without XLA, where the backend has a choice."""
    for decoder in list(DECODERS)[:1] if quick else DECODERS:
        model = build(decoder)
        for batch in (1,) if quick else (1, 64):
            runs = (searching(model, batch, fused=fused) for fused in (True, False))
            here, there = best_seconds(2 if quick else 6, *runs)
            what = f"{decoder}, greedy, batch {batch}"
            yield (what, "ms", 1e3 * here, "without XLA", 1e3 * there, there / here)


def every_decoder(quick: bool) -> Iterator[Row]:
    """Every decoder and search by batch, beside the same search one study at a time."""
    for decoder in list(DECODERS)[:1] if quick else DECODERS:
        model = build(decoder)
        for beams in (1, 3) if quick else (1, 3, 5):
            batches = (1, 4) if quick else BATCHES
            seconds = best_seconds(2 if quick else 4, *(searching(model, batch, beams) for batch in batches))
            speeds = [batch / used for batch, used in zip(batches, seconds)]
            for batch, speed in zip(batches, speeds):
                what = f"{decoder}, {f'beam-{beams}' if beams > 1 else 'greedy'}, batch {batch}"
                yield (what, "studies/s", speed, "batch 1", speeds[0], speed / speeds[0])


def growth(quick: bool) -> Iterator[Row]:
    """How the cost of a batch of 16 grows when one size is doubled or more."""
    batch, name = 16, "global_attention"
    model = build(name)
    wide, long = build(name, 8 * VOCABULARY), 2 * LENGTH
    runs = {
        "batch 16, greedy": searching(model, batch),
        "batch 32": searching(model, 2 * batch),
        "length x 2": searching(model, batch, length=long),
        "vocabulary x 8": searching(wide, batch),
        "beam-2": searching(model, batch, 2),
        "beam-4": searching(model, batch, 4),
        "beam-8": searching(model, batch, 8),
    }
    seconds = best_seconds(2 if quick else 6, *runs.values())
    for what, used in zip(runs, seconds):
        yield (f"cost: {what}", "ms", 1e3 * used, "batch 16", 1e3 * seconds[0], used / seconds[0])


def search_rows(quick: bool) -> Iterator[Row]:
    """Return (what, unit, here, reference, there, ratio) of everything above."""
    for part in (beside_plain, beside_unfused, growth, every_decoder):
        yield from part(quick)
