"""Vision Transformers of other libraries: against plain NumPy, in every layout of their files."""

import json
import math

import numpy as np
import pytest

from tests.checkpoints import golden
from tests.encoders.encoded import encode_files
from xray_captioning.backend import keras, ops
from xray_captioning.config import Config
from xray_captioning.data.images import normalise, read_images
from xray_captioning.data.resizing import filter_weights, rule_of
from xray_captioning.encoders import Encoder
from xray_captioning.encoders.backbones import find_backbone
from xray_captioning.encoders.saved import adopted
from xray_captioning.encoders.vision_transformers import Tower, build_tower, load_tower, tower_of
from xray_captioning.errors import BundleError, ConfigError

WIDTH, HEADS, WIDE, PATCH, SIDE, BLOCKS = 12, 3, 20, 4, 4, 2
ERF = np.vectorize(math.erf)
ACTIVATIONS = {
    "gelu": lambda x: x * (1 + ERF(x / math.sqrt(2))) / 2,
    "gelu_pytorch_tanh": lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    "quick_gelu": lambda x: x / (1 + np.exp(-1.702 * x)),
}
SIZES = {
    "hidden_size": WIDTH,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": HEADS,
    "intermediate_size": WIDE,
    "patch_size": PATCH,
    "image_size": PATCH * SIDE,
}


class Parts:
    """Random weights of a Vision Transformer, which remembers them, and what they compute."""

    def __init__(self, classes=True, registers=0, gated=False):
        self.rng, self.arrays = np.random.default_rng(0), {}
        self.classes, self.registers, self.gated = classes, registers, gated

    def __call__(self, name, *shape):
        if name not in self.arrays:
            self.arrays[name] = self.rng.normal(0, 0.4, shape).astype("f4")
        return self.arrays[name]

    def linear(self, x, name, out):
        return x @ self(f"{name}.weight", out, x.shape[-1]).T + self(f"{name}.bias", out)

    def norm(self, x, name, epsilon):
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        scaled = (x - mean) / np.sqrt(variance + epsilon)
        return scaled * self(f"{name}.weight", WIDTH) + self(f"{name}.bias", WIDTH)

    def attention(self, x, name):
        q, k, v = (self.linear(x, f"{name}.{part}", WIDTH).reshape(len(x), HEADS, -1) for part in "qkv")
        scores = np.einsum("ihc,jhc->hij", q, k) / math.sqrt(WIDTH // HEADS)
        shares = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        return self.linear(np.einsum("hij,jhc->ihc", shares, v).reshape(len(x), -1), f"{name}.o", WIDTH)

    def widened(self, x, name, act):
        if self.gated:
            gate, up = (self.linear(x, f"{name}.{part}", 16) for part in ("gate", "up"))
            return self.linear(gate / (1 + np.exp(-gate)) * up, f"{name}.fc2", WIDTH)
        return self.linear(act(self.linear(x, f"{name}.fc1", WIDE)), f"{name}.fc2", WIDTH)

    def maps(self, image, act, epsilon, before=False, after=True, scaled=False):
        """(height, width, 3) to (rows, columns, WIDTH)."""
        side = len(image) // PATCH
        cut = image.reshape(side, PATCH, side, PATCH, 3).transpose(0, 2, 4, 1, 3)
        kernel = self("patch.weight", WIDTH, 3, PATCH, PATCH).reshape(WIDTH, -1)
        x = cut.reshape(side**2, -1) @ kernel.T
        x = x if before else x + self("patch.bias", WIDTH)
        if self.classes:
            x = np.concatenate([self("class", 1, WIDTH), x])
        x = x + self("positions", len(x), WIDTH)
        if self.registers:
            x = np.concatenate([x[:1], self("registers", self.registers, WIDTH), x[1:]])
        x = self.norm(x, "pre", epsilon) if before else x
        for i in range(BLOCKS):
            y = self.attention(self.norm(x, f"{i}.n1", epsilon), f"{i}")
            x = x + (y * self(f"{i}.s1", WIDTH) if scaled else y)
            y = self.widened(self.norm(x, f"{i}.n2", epsilon), f"{i}", act)
            x = x + (y * self(f"{i}.s2", WIDTH) if scaled else y)
        x = self.norm(x, "post", epsilon) if after else x
        return x[-(side**2) :].reshape(side, side, WIDTH)


def blocks(arrays, name, inner):
    """Names of a layout for what lies in blocks; those that are joined are written in one."""
    named = {}
    for i in range(BLOCKS):
        for ours, theirs in inner.items():
            keys = ours.split("+")
            for end in (".weight", ".bias", ""):
                if f"{i}.{keys[0]}{end}" in arrays:
                    parts = [arrays[f"{i}.{key}{end}"] for key in keys]
                    full = f"{name}{i}.{theirs}"
                    joined = f"{full}{end[1:] if theirs.endswith('_') else end}"
                    named[joined] = np.concatenate(parts) if len(parts) > 1 else parts[0]
    return named


NORMS = {"n1": "norm1", "n2": "norm2", "s1": "layer_scale1.lambda1", "s2": "layer_scale2.lambda1"}
OLD = {"q": "attention.attention.query", "k": "attention.attention.key"}
OLD |= {"v": "attention.attention.value", "o": "attention.output.dense"}
NEW = {part: f"attention.{part}_proj" for part in "qkvo"}
OWN = {part: f"self_attn.{part}_proj" for part in "qkv"} | {"o": "self_attn.out_proj"}
OWN |= {"n1": "layer_norm1", "n2": "layer_norm2"}
MLP = {"fc1": "mlp.fc1", "fc2": "mlp.fc2"}
GATED = {"gate": "mlp.gate_proj", "up": "mlp.up_proj", "fc2": "mlp.down_proj"}
VIT = {"n1": "layernorm_before", "n2": "layernorm_after"}
HF = {
    "class": "embeddings.cls_token",
    "positions": "embeddings.position_embeddings",
    "registers": "embeddings.register_tokens",
    "patch": "embeddings.patch_embeddings.projection",
    "post": "layernorm",
}
CLIP = {
    "class": "embeddings.class_embedding",
    "positions": "embeddings.position_embedding.weight",
    "patch": "embeddings.patch_embedding",
    "pre": "pre_layrnorm",
    "post": "post_layernorm",
}
TIMM = {"class": "cls_token", "positions": "pos_embed", "patch": "patch_embed.proj", "post": "norm"}
OPENAI = {"class": "class_embedding", "positions": "positional_embedding", "patch": "conv1"}
OPENAI |= {"pre": "ln_pre", "post": "ln_post"}
# Of each: the kind, what the network has, prefix, names outside and within blocks, extra arrays.
LAYOUTS = {
    "dinov2": ("dinov2", {}, "", HF, "encoder.layer.", NORMS | OLD | MLP, ["mask_token"]),
    "dinov2 in transformers 5": ("dinov2", {}, "dinov2.", HF, "encoder.layer.", NORMS | NEW | MLP, []),
    "dinov2 with registers": (
        "dinov2_with_registers",
        {"registers": 4, "gated": True},
        "",
        HF,
        "encoder.layer.",
        NORMS | OLD | {"gate+up": "mlp.weights_in", "fc2": "mlp.weights_out"},
        [],
    ),
    "dinov2 with registers in transformers 5": (
        "dinov2_with_registers",
        {"registers": 4, "gated": True},
        "",
        HF,
        "encoder.layer.",
        NORMS | NEW | GATED,
        [],
    ),
    "siglip": ("siglip", {"classes": False}, "vision_model.", CLIP, "encoder.layers.", OWN | MLP, ["head.probe"]),
    "clip": ("clip", {}, "model.vision_model.", CLIP, "encoder.layers.", OWN | MLP, ["post_layernorm.weight"]),
    "vit": (
        "vit",
        {},
        "vit.",
        HF,
        "encoder.layer.",
        VIT | OLD | {"fc1": "intermediate.dense", "fc2": "output.dense"},
        ["pooler.dense.weight"],
    ),
    "vit in transformers 5": ("vit", {}, "", HF, "layers.", VIT | NEW | MLP, ["pooler.dense.bias"]),
    "timm": (
        "vit",
        {},
        "visual.trunk.",
        TIMM,
        "blocks.",
        {"n1": "norm1", "n2": "norm2", "q+k+v": "attn.qkv", "o": "attn.proj"} | MLP,
        [],
    ),
    "openai": (
        "clip",
        {},
        "visual.",
        OPENAI,
        "transformer.resblocks.",
        {"n1": "ln_1", "n2": "ln_2", "q+k+v": "attn.in_proj_", "o": "attn.out_proj"}
        | {"fc1": "mlp.c_fc", "fc2": "mlp.c_proj"},
        ["proj", "ln_post.weight"],
    ),
}


def network(kind, gated=False, **more):
    """What config.json says of it."""
    said = SIZES | {"model_type": kind, "use_swiglu_ffn": gated} | more
    if kind.startswith("dinov2"):
        said["mlp_ratio"] = said.pop("intermediate_size") / WIDTH
    return said


def saved(layout, side=SIDE):
    """Arrays by a layout's names, an image, and the features of it."""
    kind, has, prefix, outside, name, inner, extra = LAYOUTS[layout]
    parts, tower = Parts(**has), tower_of(network(kind, has.get("gated", False)), "test")
    image = np.random.default_rng(1).normal(size=(PATCH * side, PATCH * side, 3)).astype("f4")
    clip = kind == "clip"
    flags = {"before": clip, "after": not clip, "scaled": kind.startswith("dinov2")}
    maps = parts.maps(image, ACTIVATIONS[tower.hidden_act], tower.layer_norm_eps, **flags)
    named = blocks(parts.arrays, name, inner)
    for key, values in parts.arrays.items():
        owner, _, end = key.partition(".")
        if owner in outside:
            three = kind != "clip" and key in ("class", "positions", "registers")
            three = three and not outside[owner].endswith(".weight")
            full = f"{outside[owner]}.{end}" if end else outside[owner]
            named[full] = values[None] if three else values
    if clip:
        key = outside["class"]
        named[key] = named[key][0]
    named |= {key: np.ones((1, 2), "f4") for key in extra}
    others = {"text_model.layers.weight": np.ones(2, "f4")} if prefix else {}
    return tower, {f"{prefix}{key}": a for key, a in named.items()} | others, image, maps


@pytest.mark.parametrize("layout", LAYOUTS)
def test_features_are_those_that_numpy_computes(tmp_path, layout):
    tower, arrays, image, wanted = saved(layout)
    model = build_tower(tower, len(image))
    load_tower(tower, model, golden.npz(tmp_path / "w.npz", **arrays), "it")
    found = ops.convert_to_numpy(model(image[None]))[0]
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())
    missing = dict(arrays)
    missing.pop(next(key for key in arrays if "1." in key))
    with pytest.raises(BundleError, match=r"does not fit it: .* is missing"):
        load_tower(tower, model, golden.npz(tmp_path / "less.npz", **missing), "it")


def test_a_saved_network_is_rebuilt_from_its_configuration(tmp_path):
    model = build_tower(tower_of(network("dinov2_with_registers", True), "test"), 12)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    image = np.ones((1, 12, 12, 3), "f4")
    np.testing.assert_allclose(again(image), model(image), atol=1e-6)


def folder(path, layout="siglip", **pixels):
    kind, has, *_ = LAYOUTS[layout]
    _, arrays, *_ = saved(layout)
    path.mkdir(exist_ok=True)
    golden.npz(path / "model.safetensors", **arrays)
    said = network(kind, has.get("gated", False))
    whole = {"model_type": kind, "vision_config": said} if kind in ("clip", "siglip") else said
    (path / "config.json").write_text(json.dumps(whole))
    if pixels:
        (path / "preprocessor_config.json").write_text(json.dumps(pixels))
    return path


SIGLIP = {
    "image_processor_type": "SiglipImageProcessor",
    "size": {"height": 16, "width": 16},
    "resample": 3,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "do_rescale": True,
    "rescale_factor": 1 / 255,
}
BIT = {
    "image_processor_type": "BitImageProcessor",
    "do_center_crop": True,
    "size": {"shortest_edge": 20},
    "crop_size": {"height": 16, "width": 16},
    "resample": 3,
    "image_mean": [0.1, 0.2, 0.3],
    "image_std": [0.4, 0.5, 0.6],
}


@pytest.mark.parametrize("name", ["google/siglip-base-patch16-224", "medsiglip-448", "some/own"])
def test_a_folder_says_how_network_and_images_are(tmp_path, name):
    place = folder(tmp_path / "model", "siglip", **SIGLIP)
    pixels = np.random.default_rng(0).integers(0, 256, (30, 20)).astype("u1")
    found = encode_files([[pixels]], name, str(place))
    image = found.about["image"]
    assert (image["size"], image["normalisation"]) == (16, "signed")
    seen = normalise(read_images([pixels], 16, "siglip"), "signed")[0]
    parts = Parts(classes=False)
    wanted = parts.maps(seen, ACTIVATIONS["gelu_pytorch_tanh"], 1e-6)  # the same random weights
    np.testing.assert_allclose(found.regions[0, 0], wanted, atol=1e-5 * np.abs(wanted).max())


def test_an_encoder_of_a_folder_is_kept_in_a_bundle(tmp_path):
    from xray_captioning.encoders.saved import new_encoder, save_encoder

    place = folder(tmp_path / "model", "dinov2", **BIT)
    config = adopted(Config().replace({"model.encoder": "some/own"}), place, ["image.resize"])
    assert config.image.resize == "area"  # which was set
    assert config.image.normalisation == "0.10000000,0.20000000,0.30000000/0.40000000,0.50000000,0.60000000"
    with pytest.warns(UserWarning, match=r"image.resize 'transformers-bicubic-20/16'"):
        encoder = new_encoder(config, str(place))
    save_encoder(tmp_path / "bundle", config, encoder, {})
    image = np.random.default_rng(0).random((1, 16, 16, 3), "f4")
    again = Encoder.load(tmp_path / "bundle")
    np.testing.assert_array_equal(again.encode(image), encoder.encode(image))
    copied = Encoder.from_config(json.loads(json.dumps(encoder.get_config())))
    assert copied.channels == WIDTH


@pytest.mark.parametrize(
    ("name", "kind", "pixels", "error"),
    [
        ("rad-dino", "siglip", {}, "is of the kind siglip, but rad-dino is dinov2"),
        ("google/siglip-base-patch16-224", "siglip", SIGLIP | {"resample": 1}, "its resample"),
        ("google/siglip-base-patch16-224", "siglip", SIGLIP | {"do_resize": False}, "its do_resize"),
        ("some/own", "dinov2", BIT | {"do_center_crop": False}, "its size"),
        ("some/own", "dinov2", BIT | {"rescale_factor": 1.0}, "its rescale_factor"),
        ("some/own", "dinov2", BIT | {"image_std": "x"}, r"its JSON files are damaged \(.*; get"),
        ("some/own", "dinov2", BIT | {"image_std": [0.2, 0, 0.2]}, "normalisation: .* not fit"),
        ("some/own", "dinov2", BIT | {"crop_size": 4097}, "images of 4097 px"),
        ("some/own", "dinov2", BIT | {"size": {"shortest_edge": 4097}}, "its size"),
    ],
)
def test_folders_that_are_refused(tmp_path, name, kind, pixels, error):
    place = folder(tmp_path / "model", kind, **pixels)
    with pytest.raises((BundleError, ConfigError), match=error):
        adopted(Config().replace({"model.encoder": name}), place)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"model_type": "swin"}, "model_type is 'swin'; image encoders that are built here"),
        ({"model_type": "vit", "hidden_act": "mish"}, "hidden_act 'mish'"),
        ({"model_type": "vit", "num_attention_heads": 7}, "7 heads for 768 channels"),
        ({"model_type": "vit", "num_hidden_layers": 201}, r"num_hidden_layers.*; give the folder"),
        ({"model_type": "dinov2", "mlp_ratio": "wide"}, r"config.json: .*; give the folder"),
        ({"model_type": "siglip", "vision_config": {"hidden_size": [1]}}, "hidden_size"),
    ],
)
def test_networks_that_are_not_built(said, error):
    with pytest.raises(ConfigError, match=error):
        tower_of(said, "config.json")


@pytest.mark.parametrize(
    ("tower", "size"),
    [(Tower("vit", 8192, 200, 1, 65536), 224), (Tower("vit", patch_size=1), 4096), (Tower("vit", patch_size=200), 56)],
)
def test_networks_that_no_memory_holds(tower, size):
    with pytest.raises(ConfigError, match="patches: not built here"):
        build_tower(tower, size)


def test_rad_dino_has_the_pixels_of_the_newest_processor(tmp_path):
    """As every model of transformers; a folder does not say which processor saved it."""
    place = folder(tmp_path / "model", "dinov2", **(BIT | {"size": {"shortest_edge": 16}}))
    config = adopted(Config().replace({"model.encoder": "rad-dino"}), place)
    assert (config.image.size, rule_of(config.image.resize)) == (16, rule_of("clip"))
    assert rule_of(find_backbone("rad-dino").resize) == rule_of("clip")


def test_positions_of_another_size_are_interpolated_as_torch_does(tmp_path):
    """Cubically, the edges repeated."""
    tower, arrays, *_ = saved("dinov2")
    name = "embeddings.position_embeddings"
    square = np.random.default_rng(2).random((8, 8)).astype("f4")
    tokens = np.concatenate([[7], square.ravel()])
    arrays[name] = np.repeat(tokens[None, :, None], WIDTH, 2).astype("f4")
    model = build_tower(tower, 16 * PATCH)
    load_tower(tower, model, golden.npz(tmp_path / "w.npz", **arrays), "it")
    found = ops.convert_to_numpy(model.get_layer("embeddings").positions)[..., 0]
    assert found[0] == 7
    near = np.array([-27, 225, 67, -9]) / 256  # Keys' kernel with a = -0.75 at 5/4, 1/4, 3/4, 7/4
    wanted = near[::-1] @ square[1:5, 1:5] @ near[::-1]  # row and column 5: (5 + 0.5) / 2 - 0.5
    assert found[1:].reshape(16, 16)[6, 6] == pytest.approx(wanted, rel=1e-5)
    wanted = near @ np.pad(square, 2, "edge")[1:5, 1:5] @ near
    assert found[1:].reshape(16, 16)[1, 1] == pytest.approx(wanted, rel=1e-5)
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    grid = torch.from_numpy(arrays[name][:, 1:].reshape(1, 8, 8, WIDTH)).permute(0, 3, 1, 2)
    wanted = torch.nn.functional.interpolate(grid, size=(16, 16), mode="bicubic")[0, 0]
    np.testing.assert_allclose(found[1:].reshape(16, 16), wanted, atol=1e-4)


def test_weights_of_filters_are_those_of_pillow():
    from PIL import Image

    line = np.random.default_rng(0).random((1, 50)).astype("f4")
    for count in (13, 120):
        for name in ("bilinear", "bicubic"):
            wanted = Image.fromarray(line).resize((count, 1), Image.Resampling[name.upper()])
            found = filter_weights(50, count, name) @ line[0]
            np.testing.assert_allclose(found, np.asarray(wanted)[0], atol=1e-5)
