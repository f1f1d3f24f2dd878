"""Pretrained GPT-2s, of keras-hub or in folders of its layout or Hugging Face's, copied into a decoder."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xray_captioning.backend import ops
from xray_captioning.checkpoints import read_arrays
from xray_captioning.config import Config
from xray_captioning.data.features import Array
from xray_captioning.decoders.transformer import Gpt2
from xray_captioning.errors import BundleError, ConfigError, DataError, MissingExtraError, in_one_line, require
from xray_captioning.files import downloading, read_json, read_toml
from xray_captioning.text.tokenizer import BytePairTokenizer

DECODER = "gpt2"
GPT2 = read_toml(__file__, "gpt2.toml")
_AGAIN = "download the model again"
_SCRATCH = "train a small GPT-2 from nothing: --set model.language_model="


class LanguageModel(NamedTuple):
    """A GPT-2 as float32 arrays."""

    heads: int
    words: Array  # (vocabulary, units)
    positions: Array  # (positions, units)
    # Kernel and bias, or scale and shift, by name: ``h.0.ln_1``, ``h.0.attn.query``, ...
    layers: dict[str, list[Array]]
    tokenizer: BytePairTokenizer

    @property
    def sizes(self) -> dict[str, int]:
        depth = 1 + max(int(name.split(".")[1]) for name in self.layers if name != "ln_f")
        return {"units": self.words.shape[1], "layers": depth, "heads": self.heads}


def resolve_language_model(config: Config) -> tuple[Config, LanguageModel | None]:
    """Return a configuration with the sizes of the language model that it names, and that model; else as it is and
    None. A model that cannot be had or does not fit is a ConfigError, a damaged folder a BundleError, a missing package
    a MissingExtraError.
    """
    if not (name := config.model.language_model):
        return config, None
    if config.model.decoder != DECODER:
        used = f"model.language_model is {name!r}, which the decoder {config.model.decoder!r} cannot use"
        raise ConfigError(f"{used}; set model.decoder to {DECODER!r} or leave model.language_model empty")
    found = _read(name)
    if config.text.maximum_length > len(found.positions):
        reads = f"{name} reads {len(found.positions)} tokens; set it lower"
        raise ConfigError(f"text.maximum_length is {config.text.maximum_length}, but {reads}")
    return config.replace({f"model.{key}": size for key, size in found.sizes.items()}), found


def load_language_model(decoder: Gpt2, found: LanguageModel) -> None:
    """Copy a language model's weights into a decoder of its sizes, where only the attention to the image is new. Its
    last projection starts at zero (as in Flamingo, arXiv:2204.14198), so that the first captions are the language
    model's and the first gradients go there: noise in every block would destroy what was learned. The start token gets
    the vector of the end of a text, after which GPT-2 begins a new one; padding the mean word vector, whose probability
    cannot exceed one divided by the number of words.
    """
    own = {"units": decoder.units, "layers": len(decoder.blocks), "heads": decoder.heads}
    if own != found.sizes or decoder.vocabulary_size != found.tokenizer.vocabulary_size:
        wanted = f"the language model {found.sizes} and {found.tokenizer.vocabulary_size}; build it for that model"
        raise ConfigError(f"the decoder has {own} and {decoder.vocabulary_size} tokens, but {wanted}")
    words = found.words[: len(found.tokenizer.vocabulary)]
    _set(decoder.embedding, [np.vstack([words.mean(axis=0), words, words[found.tokenizer.end_id - 1]])], "wte")
    _set(decoder.position, [found.positions[: decoder.maximum_length]], "wpe")
    _set(decoder.norm, found.layers["ln_f"], "ln_f")
    for i, block in enumerate(decoder.blocks):
        own = block.self_attention
        attention = own.query, own.key, own.value, own.output_layer
        layers = block.norms[0], *attention, block.norms[2], block.expand, block.contract
        for name, layer in zip(GPT2["layers"], layers):
            _set(layer, found.layers[f"h.{i}.{name}"], f"h.{i}.{name}")
        for variable in block.cross_attention.output_layer.trainable_variables:
            variable.assign(np.zeros(variable.shape))


def _set(layer: Any, arrays: list[Any], name: str) -> None:
    expected, received = [tuple(weight.shape) for weight in layer.weights], [np.shape(array) for array in arrays]
    if expected != received:
        shapes = f"has arrays of shapes {received}, expected {expected}"
        raise BundleError(f"the language model's {name} {shapes}; give a GPT-2 whose config.json fits its weights")
    layer.set_weights(arrays)


def _read(name: str) -> LanguageModel:
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _read_folder(folder)
    if "://" not in name and (os.sep in name or name.startswith((".", "~"))):
        advice = "or a keras-hub preset such as gpt2_base_en or hf://distilbert/distilgpt2"
        raise ConfigError(f"{name}: no such folder; give one with config.json and model.safetensors, {advice}")
    return _read_preset(name)


def _read_folder(folder: Path) -> LanguageModel:
    settings = read_json(folder / "config.json", _AGAIN)
    hub = "class_name" in settings  # which only keras-hub writes
    try:
        found = _from_keras_hub(str(folder)) if hub else _from_hugging_face(folder, settings)
    except MissingExtraError:
        raise
    except Exception as error:  # whatever a damaged file makes the reader raise
        raise BundleError(f"{folder}: no GPT-2 that can be used ({in_one_line(error)}); download it again") from error
    if len(found.words) < len(found.tokenizer.vocabulary):
        raise BundleError(f"{folder}: has fewer word vectors than words; download it again")
    return found


def _read_preset(name: str) -> LanguageModel:
    try:
        hub = require("keras_hub", "GPT-2", "hub")
    except MissingExtraError as error:
        raise MissingExtraError(f"{error}, or {_SCRATCH}") from error
    if "://" not in name and name not in hub.models.GPT2Backbone.presets:
        known = f"no preset of keras-hub; presets are {', '.join(hub.models.GPT2Backbone.presets)}"
        raise ConfigError(f"model.language_model is {name!r}, which is no folder and {known}")
    try:
        with downloading():
            return _from_keras_hub(name)
    except Exception as error:  # each of the hubs behind it has its own
        advice = f"go online once, give a folder of GPT-2 files (--set model.language_model=FOLDER), or {_SCRATCH}"
        raise ConfigError(f"the language model {name} cannot be had ({in_one_line(error)}); {advice}") from error


def _from_hugging_face(folder: Path, settings: dict[str, Any]) -> LanguageModel:
    for key, allowed in GPT2["expected"].items():
        if settings.get(key, allowed[0]) not in allowed:
            raise DataError(f"{key} is {settings[key]!r} in config.json, expected {allowed[0]!r}")
    arrays = {name.removeprefix("transformer."): values for name, values in read_arrays(folder).items()}
    layers = {"ln_f": [arrays["ln_f.weight"], arrays["ln_f.bias"]]}
    for i in range(settings["n_layer"]):
        for name in ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"):
            layers[f"h.{i}.{name}"] = [arrays[f"h.{i}.{name}.{w}"] for w in ("weight", "bias")]
        # One matrix (in, 3 out) computes queries, keys and values.
        joined = [np.split(array, 3, axis=-1) for array in layers.pop(f"h.{i}.attn.c_attn")]
        for part, pair in zip(("query", "key", "value"), zip(*joined)):
            layers[f"h.{i}.attn.{part}"] = list(pair)
    words, positions = arrays["wte.weight"], arrays["wpe.weight"]
    return LanguageModel(settings["n_head"], words, positions, layers, _tokenizer(folder))


def _tokenizer(folder: Path) -> BytePairTokenizer:
    if (folder / "vocab.json").is_file():
        lines = (folder / "merges.txt").read_text("utf-8").splitlines()
        return _byte_pairs(read_json(folder / "vocab.json", _AGAIN), lines)
    model = read_json(folder / "tokenizer.json", _AGAIN).get("model", {})
    return _byte_pairs(model.get("vocab"), model.get("merges", []))


def _byte_pairs(vocabulary: Any, merges: list[Any]) -> BytePairTokenizer:
    lines = [m for m in merges if not (isinstance(m, str) and (m.startswith("#version") or not m))]
    return BytePairTokenizer.from_lists(vocabulary, lines)


def _from_keras_hub(name: str) -> LanguageModel:
    models = require("keras_hub", "GPT-2", "hub").models
    backbone, tokenizer = models.GPT2Backbone.from_preset(name), models.GPT2Tokenizer.from_preset(name)
    units = backbone.hidden_dim
    arrays: dict[str, list[Array]] = {}
    for variable in backbone.weights:  # kernel before bias, scale before shift
        array = np.asarray(ops.convert_to_numpy(variable), dtype="float32")
        arrays.setdefault(variable.path.rpartition("/")[0], []).append(array)
    layers = {"ln_f": arrays["layer_norm"]}
    for i in range(backbone.num_layers):
        for short, long in GPT2["layers"].items():
            kernel, bias = arrays[f"transformer_layer_{i}/{long}"]
            # Attention's kernels and biases have an axis for the heads.
            kernel = kernel.reshape(units, units) if kernel.ndim == 3 else kernel
            layers[f"h.{i}.{short}"] = [kernel, bias.reshape(-1)]
    [words], [positions] = arrays["token_embedding"], arrays["position_embedding"]
    pairs = _byte_pairs(dict(tokenizer.vocabulary), list(tokenizer.merges))
    return LanguageModel(backbone.num_heads, words, positions, layers, pairs)
