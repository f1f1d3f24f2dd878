"""GPT-2: the published architecture, and weights from files."""

import json
import struct
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tests.checkpoints import golden
from xray_captioning.backend import keras, ops
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.config import Config
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.targets import study_images
from xray_captioning.decoders import CaptionModel, Features
from xray_captioning.decoders.language_model import LanguageModel, load_language_model, resolve_language_model
from xray_captioning.decoders.model import new_model
from xray_captioning.encoders import Encoder
from xray_captioning.errors import BundleError, ConfigError, MissingExtraError
from xray_captioning.text.token_ids import TokenIds
from xray_captioning.text.tokenizer import END_OF_TEXT, BytePairTokenizer

pytestmark = pytest.mark.usefixtures("eagerly")

LAYERS, UNITS, HEADS, POSITIONS = 2, 16, 4, 24
MERGES = ["n o", "\u0120 n", "e f", "ef f"]
SEEN = {*range(33, 127), *range(161, 173), *range(174, 256)}
SYMBOLS = [
    *(chr(i) for i in sorted(SEEN)),
    *(chr(256 + i) for i in range(256 - len(SEEN))),
    *(line.replace(" ", "") for line in MERGES),
    END_OF_TEXT,
]


def arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """Return a random GPT-2 under the names that Hugging Face's files use."""
    rng = np.random.default_rng(seed)
    shapes = {"wte.weight": (len(SYMBOLS), UNITS), "wpe.weight": (POSITIONS, UNITS)}
    shapes |= {"ln_f.weight": (UNITS,), "ln_f.bias": (UNITS,)}
    wide = {"attn.c_attn": (1, 3), "attn.c_proj": (1, 1), "mlp.c_fc": (1, 4), "mlp.c_proj": (4, 1)}
    for i in range(LAYERS):
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"h.{i}.{norm}.{which}": (UNITS,) for which in ("weight", "bias")}
        for name, (rows, columns) in wide.items():
            shapes[f"h.{i}.{name}.weight"] = (rows * UNITS, columns * UNITS)
            shapes[f"h.{i}.{name}.bias"] = (columns * UNITS,)
    return {name: rng.normal(0, 0.3, shape).astype("float32") for name, shape in shapes.items()}


def reference_logits(weights: dict[str, np.ndarray], ids: list[int]) -> np.ndarray:
    """Return GPT-2's logits (time, vocabulary) of one row of its own ids, in plain numpy."""

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def dense(x, name):
        return x @ weights[f"{name}.weight"] + weights[f"{name}.bias"]

    time = len(ids)
    x = weights["wte.weight"][ids] + weights["wpe.weight"][:time]
    for i in range(LAYERS):
        joined = dense(norm(x, f"h.{i}.ln_1"), f"h.{i}.attn.c_attn")
        # (heads, time, channels)
        query, key, value = joined.reshape(time, 3, HEADS, -1).transpose(1, 2, 0, 3)
        energy = query @ key.transpose(0, 2, 1) / np.sqrt(UNITS / HEADS)
        energy = np.where(np.tri(time, dtype=bool), energy, -np.inf)
        weight = np.exp(energy - energy.max(-1, keepdims=True))
        mixed = (weight / weight.sum(-1, keepdims=True)) @ value
        mixed = mixed.transpose(1, 0, 2).reshape(time, UNITS)
        x = x + dense(mixed, f"h.{i}.attn.c_proj")
        wide = dense(norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc")
        inner = np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)
        x = x + dense(0.5 * wide * (1 + np.tanh(inner)), f"h.{i}.mlp.c_proj")
    return norm(x, "ln_f") @ weights["wte.weight"].T


def write_safetensors(path, values: dict[str, np.ndarray]) -> None:
    """Write the format as it is documented: a length, a JSON table of offsets, the bytes."""
    table, data = {}, b""
    for name, array in values.items():
        kind = {"float32": "F32", "float16": "F16", "uint8": "U8"}[str(array.dtype)]
        offsets = [len(data), len(data) + array.nbytes]
        table[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": offsets}
        data += array.tobytes()
    header = json.dumps(table).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


def write_gpt2(folder, prefix: str = "", **settings):
    """Write a tiny GPT-2 in Hugging Face's layout."""
    folder.mkdir()
    config = {"n_layer": LAYERS, "n_embd": UNITS, "n_head": HEADS, "n_positions": POSITIONS}
    config |= {"model_type": "gpt2", "vocab_size": len(SYMBOLS)}
    (folder / "config.json").write_text(json.dumps({**config, **settings}))
    values = {prefix + name: array for name, array in arrays().items()}
    values[f"{prefix}h.0.attn.bias"] = np.ones((1, 1, 4, 4), "uint8")
    write_safetensors(folder / "model.safetensors", values)
    (folder / "vocab.json").write_text(json.dumps({s: i for i, s in enumerate(SYMBOLS)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES, ""]), "utf-8")
    return folder


def language_model() -> LanguageModel:
    """Return the same GPT-2 as it is after reading."""
    weights = arrays()
    names = {name.rpartition(".")[0] for name in weights} - {"wte", "wpe"}
    layers = {name: [weights[f"{name}.weight"], weights[f"{name}.bias"]] for name in names}
    for i in range(LAYERS):
        kernel, bias = layers.pop(f"h.{i}.attn.c_attn")
        for n, part in enumerate(("query", "key", "value")):
            columns = slice(n * UNITS, (n + 1) * UNITS)
            layers[f"h.{i}.attn.{part}"] = [kernel[:, columns], bias[columns]]
    tokenizer = BytePairTokenizer.from_lists(SYMBOLS, MERGES)
    return LanguageModel(HEADS, weights["wte.weight"], weights["wpe.weight"], layers, tokenizer)


def configuration(source="", length=20, **changes) -> Config:
    changed = {"model.decoder": "gpt2", "model.language_model": str(source)}
    return Config().replace({**changed, "text.maximum_length": length, **changes})


def sized(found: LanguageModel, length=20) -> Config:
    return configuration(length=length, **{f"model.{k}": v for k, v in found.sizes.items()})


def loaded(config: Config, found: LanguageModel) -> CaptionModel:
    length, words = config.text.maximum_length, found.tokenizer.vocabulary_size
    model = CaptionModel(config.model, words, (1, 2, 2), 5, length)
    load_language_model(model.decoder, found)
    return model


def inputs(rows: list[list[int]]):
    rng = np.random.default_rng(1)
    regions = rng.normal(size=(len(rows), 4, 5)).astype("float32")
    mask = np.ones((len(rows), 4), bool)
    return {"regions": regions, "mask": mask, "tokens": np.array(rows, "int32")}


IDS = np.random.default_rng(2).integers(0, len(SYMBOLS), (2, 9)).tolist()


def assert_is_the_reference(model: CaptionModel) -> None:
    found = ops.convert_to_numpy(model(inputs([[i + 1 for i in row] for row in IDS])))
    for row, ids in zip(found, IDS, strict=True):
        expected = reference_logits(arrays(), ids)
        np.testing.assert_allclose(row[:, 1 : len(SYMBOLS) + 1], expected, atol=1e-4)


def test_what_is_loaded_is_gpt2_whatever_the_image():
    found = language_model()
    assert_is_the_reference(loaded(sized(found), found))


def test_steps_are_gpt2_too():
    found = language_model()
    model = loaded(sized(found), found)
    batch = inputs([[i + 1 for i in row] for row in IDS])
    state = model.start(Features(batch["regions"], batch["mask"]))
    for time in range(len(IDS[0])):
        row, state = model.step(ops.convert_to_tensor(batch["tokens"][:, time]), state)
    for now, ids in zip(ops.convert_to_numpy(row), IDS, strict=True):
        expected = reference_logits(arrays(), ids)[-1]
        np.testing.assert_allclose(now[1 : len(SYMBOLS) + 1], expected, atol=1e-4)


def test_padding_is_unlikely_and_the_start_is_the_end_of_the_text_before():
    found = language_model()
    model, tokenizer = loaded(sized(found), found), found.tokenizer
    rows = [[tokenizer.start_id, 5], [tokenizer.end_id, 5]]
    logits = ops.convert_to_numpy(model(inputs(rows)))
    np.testing.assert_allclose(logits[0], logits[1], atol=1e-5)
    assert np.exp(logits[..., 0]).max() <= np.exp(logits[..., 1:-1]).mean()


def test_the_image_is_learned_from_zero():
    keras.utils.set_random_seed(0)
    found = language_model()
    model = loaded(sized(found), found)
    batch = inputs([[found.tokenizer.start_id, 5, 7], [found.tokenizer.start_id, 9, 4]])
    targets = np.array([[5, 7, found.tokenizer.end_id], [9, 4, found.tokenizer.end_id]])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss, run_eagerly=True)
    before = [ops.convert_to_numpy(v) for v in model.trainable_variables]
    losses = [float(model.train_on_batch(batch, targets)) for _ in range(3)]
    assert losses[-1] < losses[0] * 0.95
    for variable, old in zip(model.trainable_variables, before, strict=True):
        assert np.abs(ops.convert_to_numpy(variable) - old).max() > 0, variable.path


def test_a_decoder_of_another_size_is_refused():
    found = language_model()
    with pytest.raises(ConfigError, match="'layers': 3"):
        loaded(configuration(**{"model.units": 16, "model.heads": 4, "model.layers": 3}), found)


def test_no_language_model_is_no_change():
    config = configuration()
    assert resolve_language_model(config) == (config, None)


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_a_folder_gives_sizes_weights_and_byte_pairs(tmp_path, prefix):
    config, found = resolve_language_model(configuration(write_gpt2(tmp_path / "gpt2", prefix)))
    sizes = config.model.units, config.model.layers, config.model.heads
    assert sizes == (UNITS, LAYERS, HEADS)
    assert config.model.language_model == str(tmp_path / "gpt2")
    assert found.tokenizer == language_model().tokenizer
    assert_is_the_reference(loaded(config, found))


def test_byte_pairs_may_come_from_the_newer_file(tmp_path):
    folder = write_gpt2(tmp_path / "gpt2")
    vocabulary = json.loads((folder / "vocab.json").read_text())
    (folder / "vocab.json").unlink()
    merges = [line.split() for line in MERGES]
    content = {"model": {"type": "BPE", "vocab": vocabulary, "merges": merges}}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    assert resolve_language_model(configuration(folder))[1].tokenizer == language_model().tokenizer


def damage(folder, kind: str) -> None:
    if kind == "truncated":
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-9])
    elif kind == "a weight":
        values = arrays()
        del values["h.1.mlp.c_fc.bias"]
        write_safetensors(folder / "model.safetensors", values)
    elif kind == "words":
        write_safetensors(folder / "model.safetensors", arrays() | {"wte.weight": np.ones((9, UNITS), "float32")})
    else:
        (folder / kind).unlink()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("truncated", "no GPT-2 that can be used"),
        ("a weight", r"h\.1\.mlp\.c_fc\.bias"),
        ("words", "fewer word vectors than words"),
        ("config.json", r"config\.json: missing"),
        ("merges.txt", r"merges\.txt"),
        ("vocab.json", r"tokenizer\.json: missing"),
    ],
)
def test_a_damaged_folder_is_an_error(tmp_path, kind, message):
    folder = write_gpt2(tmp_path / "gpt2")
    damage(folder, kind)
    with pytest.raises(BundleError, match=message) as caught:
        resolve_language_model(configuration(folder))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_architecture_is_an_error(tmp_path):
    folder = write_gpt2(tmp_path / "gpt2", activation_function="relu")
    with pytest.raises(BundleError, match="activation_function is 'relu'"):
        resolve_language_model(configuration(folder))


def test_arrays_of_other_shapes_are_refused(tmp_path):
    config, found = resolve_language_model(configuration(write_gpt2(tmp_path / "gpt2")))
    kernel, bias = found.layers["h.1.mlp.c_fc"]
    found.layers["h.1.mlp.c_fc"] = [kernel[:, :-4], bias[:-4]]
    with pytest.raises(BundleError, match=r"h\.1\.mlp\.c_fc .*\(16, 60\).* expected .*\(16, 64\)"):
        loaded(config, found)


def test_wrong_combinations_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="'transformer' cannot use"):
        resolve_language_model(configuration("x", **{"model.decoder": "transformer"}))
    with pytest.raises(ConfigError, match="no such folder"):
        resolve_language_model(configuration(tmp_path / "none"))
    with pytest.raises(ConfigError, match="24 tokens; set it lower"):
        resolve_language_model(configuration(write_gpt2(tmp_path / "gpt2"), length=25))


def test_a_folder_of_pytorchs_needs_no_extra(tmp_path, monkeypatch):
    for package in ("safetensors", "torch"):
        monkeypatch.setitem(sys.modules, package, None)
    folder = write_gpt2(tmp_path / "gpt2")
    (folder / "model.safetensors").unlink()
    keys = {name: str(number) for number, name in enumerate(arrays())}
    states = {
        name: golden.tensor(golden.storage(keys[name], a.size), a.shape, [step // a.itemsize for step in a.strides])
        for name, a in arrays().items()
    }
    stored = {f"_{keys[name]}": a for name, a in arrays().items()}
    golden.torch_zip(folder / "pytorch_model.bin", golden.ordered(**states), **stored)
    _, found = resolve_language_model(configuration(folder))
    np.testing.assert_array_equal(found.words, arrays()["wte.weight"])


def test_a_preset_without_the_extra_is_refused_and_not_replaced(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(MissingExtraError, match=r"\[hub\]', or .* --set model\.language_model=$"):
        resolve_language_model(configuration("gpt2_base_en"))
    assert resolve_language_model(configuration("")) == (configuration(""), None)


def test_presets_are_those_of_keras_hub(monkeypatch):
    def refuse(name):
        raise OSError(f"no network\nfor {name}")

    backbone = SimpleNamespace(presets={"gpt2_base_en": None}, from_preset=refuse)
    hub = SimpleNamespace(models=SimpleNamespace(GPT2Backbone=backbone))
    monkeypatch.setitem(sys.modules, "keras_hub", hub)
    with pytest.raises(ConfigError, match=r"no preset of keras-hub.*gpt2_base_en"):
        resolve_language_model(configuration("gpt2_bse_en"))
    with pytest.raises(ConfigError, match=r"gpt2_base_en cannot be had \(no network for gpt2"):
        resolve_language_model(configuration("gpt2_base_en"))


def test_keras_hub_reads_the_same_from_its_own_layout(tmp_path):
    hub = pytest.importorskip("keras_hub")
    folder = str(write_gpt2(tmp_path / "gpt2", resid_pdrop=0.1))
    hub.models.GPT2Backbone.from_preset(folder).save_to_preset(str(tmp_path / "hub"))
    hub.models.GPT2Tokenizer.from_preset(folder).save_to_preset(str(tmp_path / "hub"))
    config, found = resolve_language_model(configuration(tmp_path / "hub"))
    assert found.tokenizer == language_model().tokenizer
    assert_is_the_reference(loaded(config, found))


def captioner(folder, tokenizer: TokenIds, config: Config) -> Captioner:
    keras.utils.set_random_seed(3)
    config = config.replace({"model.encoder": "phantom_cnn", "image.size": 64})
    encoder = Encoder("phantom_cnn", 64)
    model = new_model(config, encoder, tokenizer)
    load_language_model(model.decoder, language_model())
    made = Captioner(config, encoder, model, tokenizer)
    made.save(folder)
    return made


def test_a_bundle_loads_and_captions_without_the_extra(tmp_path, phantoms, monkeypatch):
    for package in ("safetensors", "keras_hub", "tokenizers"):
        monkeypatch.setitem(sys.modules, package, None)
    found = language_model()
    made = captioner(tmp_path / "bundle", found.tokenizer, sized(found, length=12))
    again = Captioner.load(tmp_path / "bundle")
    assert again.tokenizer == found.tokenizer
    for mine, same in zip(made.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, same)
    studies = study_images(read_studies(phantoms), made.config)[:2]
    for caption in again.caption(studies, 1):
        assert caption.attention.shape == (len(caption.words), 2, *made.encoder.grid)
        np.testing.assert_allclose(caption.attention.sum(axis=(1, 2, 3)), 1, atol=1e-4)
        assert all(np.isfinite(s.log_probability) for s in caption.sentences)
