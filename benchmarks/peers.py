"""A GPT-2 decoder beside the `generate` of keras-hub and of transformers, in one run.

    pip install keras-hub transformers torch
    taskset -c 0,1 python benchmarks/peers.py           some minutes on two cores
    python benchmarks/peers.py --quick                  tiny sizes: does it run, do they agree?

Six layers, 768 wide, 12 heads, 50,257 words, 60 tokens, 16 rows, the same random weights for all,
and no end token, so that all write as many words. Ours attends to 18 regions of an image in every
block besides; of the others only transformers can, and is measured both ways. Its weights and ours
are those of the same files, and new cross-attention adds nothing at first. So all have to write the
same words. A peer that is not installed is left out, and the table says so.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from timing import best_seconds

from xray_captioning.backend import compiled, keras, ops
from xray_captioning.config import Config
from xray_captioning.decoders import CaptionModel, Features
from xray_captioning.decoders.language_model import LanguageModel, load_language_model, resolve_language_model
from xray_captioning.search import Rules, beam_search, greedy_search
from xray_captioning.text.tokenizer import END_OF_TEXT

Run = Callable[[], Any]  # returns words (rows, length), GPT-2's ids


class Sizes(NamedTuple):
    """Of the model and of what it writes."""

    layers: int = 6
    units: int = 768
    heads: int = 12
    vocabulary: int = 50257
    length: int = 60
    rows: int = 16
    regions: int = 18

    @property
    def end(self) -> int:
        """Id of the end token, from which GPT-2 starts, too."""
        return self.vocabulary - 1


class AbsentError(Exception):
    """A peer is not installed."""


def write_model(folder: Path, sizes: Sizes) -> None:
    """Write a random GPT-2 in Hugging Face's layout; needs safetensors only."""
    from safetensors.numpy import save_file

    rng, units = np.random.default_rng(0), sizes.units
    shapes = {"wte.weight": (sizes.vocabulary, units), "wpe.weight": (sizes.length + 1, units)}
    for i in range(sizes.layers):
        for name, rows, columns in (
            ("attn.c_attn", 1, 3),
            ("attn.c_proj", 1, 1),
            ("mlp.c_fc", 1, 4),
            ("mlp.c_proj", 4, 1),
        ):
            shapes[f"h.{i}.{name}.weight"] = (rows * units, columns * units)
            shapes[f"h.{i}.{name}.bias"] = (columns * units,)
    # Wider than GPT-2's own 0.02: words then differ from step to step, and agreement says more.
    arrays = {n: rng.normal(0, 0.1, shape).astype("float32") for n, shape in shapes.items()}
    for name in ("ln_f", *(f"h.{i}.ln_{n}" for i in range(sizes.layers) for n in (1, 2))):
        arrays[f"{name}.weight"] = np.ones(units, "float32")
        arrays[f"{name}.bias"] = np.zeros(units, "float32")
    save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    settings = {"model_type": "gpt2", "n_layer": sizes.layers, "n_embd": units}
    settings |= {"n_head": sizes.heads, "n_positions": sizes.length + 1}
    settings |= {"vocab_size": sizes.vocabulary, "bos_token_id": sizes.end}
    (folder / "config.json").write_text(json.dumps(settings | {"eos_token_id": sizes.end}))
    from tokenizers.pre_tokenizers import ByteLevel

    alphabet = sorted(ByteLevel.alphabet())
    symbols = [*alphabet, *(f"w{i}" for i in range(sizes.end - len(alphabet))), END_OF_TEXT]
    (folder / "vocab.json").write_text(json.dumps({s: i for i, s in enumerate(symbols)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")


def ours(folder: Path, found: LanguageModel, config: Config, sizes: Sizes, beams: int) -> Run:
    """Return this package's search."""
    words = found.tokenizer.vocabulary_size
    grid, channels = (1, 1, sizes.regions), 64
    model = CaptionModel(config.model, words, grid, channels, sizes.length + 1)
    load_language_model(model.decoder, found)
    start, end = found.tokenizer.start_id, found.tokenizer.end_id
    rules = Rules(start, end, sizes.length, banned=(0, start, end))

    def search(regions: Any, mask: Any) -> Any:
        state, real = model.start(Features(regions, mask)), ops.any(mask, axis=1)
        if beams == 1:
            return greedy_search(state, model.step, real, rules).tokens
        return beam_search(state, model.step, real, rules, beams).tokens

    run = compiled(search, model, fused=True)
    regions = np.random.default_rng(1).normal(size=(sizes.rows, sizes.regions, channels))
    features = regions.astype("float32"), np.ones((sizes.rows, sizes.regions), bool)
    return lambda: ops.convert_to_numpy(run(*features))[:, 0] - 1  # 0 is padding here


def keras_hub(folder: Path, found: LanguageModel, config: Config, sizes: Sizes, beams: int) -> Run:
    """Return keras-hub's `GPT2CausalLM.generate`."""
    try:
        from keras_hub import models, samplers
    except ImportError as error:
        raise AbsentError("keras-hub is not installed") from error

    backbone = models.GPT2Backbone(
        vocabulary_size=sizes.vocabulary,
        num_layers=sizes.layers,
        num_heads=sizes.heads,
        hidden_dim=sizes.units,
        intermediate_dim=4 * sizes.units,
        max_sequence_length=sizes.length + 1,
    )
    model = models.GPT2CausalLM(backbone=backbone, preprocessor=None)
    _fill(backbone, found)
    # Its samplers cannot forbid a token; that of the end is no less likely than another, and
    # generation goes on after it.
    model.compile(sampler=samplers.BeamSampler(beams) if beams > 1 else samplers.GreedySampler())
    tokens = np.full((sizes.rows, sizes.length + 1), sizes.end, "int32")
    given = np.arange(sizes.length + 1)[None].repeat(sizes.rows, axis=0) == 0
    prompt = {"token_ids": tokens, "padding_mask": given}
    return lambda: np.asarray(model.generate(prompt, stop_token_ids=None)["token_ids"])[:, 1:]


def _fill(backbone: Any, found: LanguageModel) -> None:
    from xray_captioning.decoders.language_model import GPT2

    arrays = {"token_embedding": [found.words], "position_embedding": [found.positions]}
    arrays["layer_norm"] = found.layers["ln_f"]
    for name, pair in found.layers.items():
        if name != "ln_f":
            _, number, short = name.split(".", 2)
            arrays[f"transformer_layer_{number}/{GPT2['layers'][short]}"] = pair
    for variable in backbone.weights:
        kernel, *bias = arrays[variable.path.rpartition("/")[0]]
        array = bias[0] if variable.path.endswith(("bias", "beta")) else kernel
        variable.assign(np.reshape(array, variable.shape))


def transformers_with_image(folder: Path, found: LanguageModel, config: Config, sizes: Sizes, beams: int) -> Run:
    """Return transformers' `generate` of a GPT-2 that attends to regions, too, as ours does."""
    return transformers(folder, found, config, sizes, beams, sizes.regions)


def transformers(folder: Path, found: LanguageModel, config: Config, sizes: Sizes, beams: int, regions: int = 0) -> Run:
    """Return transformers' `GPT2LMHeadModel.generate` on PyTorch."""
    try:
        import torch
        from transformers import GPT2LMHeadModel
        from transformers.utils import logging
    except ImportError as error:
        raise AbsentError("transformers and torch are not installed") from error

    logging.disable_progress_bar()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    logging.set_verbosity_error()  # it says at length that cross-attention is new
    model = GPT2LMHeadModel.from_pretrained(folder, add_cross_attention=regions > 0).eval()
    prompt = torch.full((sizes.rows, 1), sizes.end)
    options = {"max_new_tokens": sizes.length, "min_new_tokens": sizes.length}
    options |= {"num_beams": beams, "do_sample": False, "pad_token_id": sizes.end}
    options["attention_mask"] = torch.ones_like(prompt)
    if regions:
        for block in model.transformer.h:
            torch.nn.init.zeros_(block.crossattention.c_proj.weight)
        options["encoder_hidden_states"] = torch.randn(sizes.rows, regions, sizes.units)

    @torch.inference_mode()
    def write() -> Any:
        return model.generate(prompt, **options)[:, 1:].numpy()

    return write


def rows(sizes: Sizes, runs: int) -> Iterator[list[str]]:
    """Measure all systems in turns; yield the table's rows."""
    with tempfile.TemporaryDirectory() as name:
        write_model(folder := Path(name), sizes)
        config = Config().replace(
            {"model.decoder": "gpt2", "model.language_model": name, "text.maximum_length": sizes.length + 1}
        )
        config, found = resolve_language_model(config)
        for beams in (1, 3):
            systems: dict[str, Run] = {}
            for make in (ours, keras_hub, transformers, transformers_with_image):
                try:
                    systems[make.__name__] = make(folder, found, config, sizes, beams)
                except AbsentError as reason:
                    yield [make.__name__, _search(beams), str(reason), "", "", ""]
            seconds = best_seconds(runs + 1, *systems.values())
            words = [run() for run in systems.values()]
            for system, used, said in zip(systems, seconds, words):
                cells = [f"{used:.2f}", f"{1e3 * used / sizes.length:.1f}"]
                same = f"{np.mean(said == words[0]):.1%}"
                yield [system, _search(beams), *cells, f"{used / seconds[0]:.2f}", same]


def _search(beams: int) -> str:
    return f"beam-{beams}" if beams > 1 else "greedy"


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one run each")
    quick = parser.parse_args().quick
    sizes = Sizes(2, 32, 4, 400, 12, 3) if quick else Sizes()
    backend = f"Keras {keras.__version__} on {keras.backend.backend()}"
    print(f"{sizes.rows} rows, {sizes.length} tokens, {backend}", end="\n\n")
    head = ["system", "search", "s", "ms a token", "times ours", "same words as ours"]
    for cells in (head, ["---"] * len(head), *rows(sizes, 1 if quick else 3)):
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
