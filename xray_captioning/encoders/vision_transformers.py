"""Vision Transformers: a region is a patch of the image, as in the last hidden state, without class token and
registers.

First the original kind, with the names and weights of keras-hub. Then one network for DINOv2, SigLIP, CLIP and ViT of
any size: its `Tower` is what a ``config.json`` says, its layers have the names of transformers' Dinov2, to which
`named_alike` brings those of other layouts (of transformers, timm and open_clip, OpenAI).
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta, Struct, ValidationError, convert
from numpy.typing import NDArray

from xray_captioning.backend import keras, ops, registered
from xray_captioning.checkpoints import read_arrays
from xray_captioning.data.resizing import cubic, filter_weights
from xray_captioning.encoders.filling import load_pytorch
from xray_captioning.errors import ConfigError, require
from xray_captioning.files import read_toml

layers = keras.layers
Arrays = dict[str, NDArray[Any]]
PATCH = 16  # side of a patch in pixels; what is left over at the right and bottom edge is not seen
VIT_PRESET, CLIP_PRESET = "vit_base_patch16_224_imagenet", "clip_vit_base_patch16"  # names of keras-hub
WIDTH, BLOCKS, HEADS = 768, 12, 12  # of both, ViT-B/16


@registered
class Tokens(keras.layers.Layer):
    """Patches (batch, rows, columns, width) in one row, (batch, tokens, width), with learned vectors of positions."""

    # Before them a class token, which has a position, too, and registers, which have none.
    def __init__(self, classes: bool = True, register_count: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.classes, self.register_count = classes, register_count
        self.class_token: Any = None

    def build(self, shape: tuple[Any, ...]) -> None:
        _, rows, columns, width = shape
        normal = keras.initializers.TruncatedNormal(stddev=0.02)
        if self.classes:
            self.class_token = self.add_weight((1, 1, width), normal, name="class_token")
        self.positions = self.add_weight((self.classes + rows * columns, width), normal, name="positions")
        if self.register_count:
            self.registers = self.add_weight((1, self.register_count, width), normal, name="registers")

    def call(self, patches: Any) -> Any:
        count, width = self.positions.shape
        row = ops.reshape(patches, (-1, count - self.classes, width))
        none = ops.zeros_like(row[:, :1])
        row = ops.concatenate([*([none + self.class_token] if self.classes else []), row], axis=1) + self.positions
        registers = [none + self.registers] if self.register_count else []
        return ops.concatenate([row[:, :1], *registers, row[:, 1:]], axis=1) if registers else row


def vision_transformer(size: int, width: int, blocks: int, heads: int) -> Any:
    """Build a Vision Transformer (arXiv:2010.11929, eq. 1 to 4); its map is (batch, size // 16, size // 16, width)."""
    image = layers.Input((size, size, 3))
    patches = layers.Conv2D(width, PATCH, PATCH, name="patches")(image)
    return keras.Model(image, transformed(patches, blocks, heads), name="vit")


def transformed(patches: Any, blocks: int, heads: int) -> Any:
    """Pass the vectors of patches (batch, rows, columns, width) through Transformer blocks."""
    x = Tokens(name="tokens")(patches)
    for number in range(1, blocks + 1):
        x = _block(x, heads, f"block{number}")
    return gridded(_norm(x, "norm"), patches.shape[1:3])


def _block(x: Any, heads: int, name: str) -> Any:
    width, y = x.shape[-1], _norm(x, f"{name}_norm1")
    x = x + layers.MultiHeadAttention(heads, width // heads, name=f"{name}_attention")(y, y)
    y = _norm(x, f"{name}_norm2")
    y = layers.Dense(4 * width, "gelu", name=f"{name}_dense1")(y)
    return x + layers.Dense(width, name=f"{name}_dense2")(y)


def _norm(x: Any, name: str, epsilon: float = 1e-6) -> Any:
    return layers.LayerNormalization(epsilon=epsilon, name=name)(x)


def gridded(tokens: Any, grid: tuple[int, int]) -> Any:
    """Return the tokens of patches in their places, (batch, rows, columns, width)."""
    before = tokens.shape[1] - grid[0] * grid[1]  # class token and registers
    return layers.Reshape((*grid, tokens.shape[-1]))(tokens[:, before:])


def vit(size: int, published: bool) -> Any:
    """Build ViT-B/16, with the weights that keras-hub publishes or random ones."""
    model = vision_transformer(size, WIDTH, BLOCKS, HEADS)
    if published:
        hub = require("keras_hub", "the published weights of vit", "hub")
        _copy_vit(hub.models.ViTBackbone.from_preset(VIT_PRESET), model)
    return model


def _copy_vit(source: Any, target: Any) -> None:
    """Copy weights of keras-hub's ViTBackbone into a `vision_transformer` of the same sizes."""
    embedding, encoder = source.layers[1:3]
    pairs = {"patches": embedding.patch_embedding, "norm": encoder.layer_norm}
    for number, block in enumerate(encoder.encoder_layers, 1):
        parts = (block.layer_norm_1, block.mha, block.layer_norm_2, block.mlp.dense_1, block.mlp.dense_2)
        names = ("norm1", "attention", "norm2", "dense1", "dense2")
        pairs |= {f"block{number}_{name}": part for name, part in zip(names, parts)}
    for name, layer in pairs.items():
        target.get_layer(name).set_weights(layer.get_weights())
    tokens = target.get_layer("tokens")
    tokens.class_token.assign(embedding.class_token)
    tokens.positions.assign(_resized(embedding.position_embedding.embeddings, tokens.positions))


def clip(size: int, published: bool) -> Any:
    """Build CLIP's image tower (ViT-B/16, arXiv:2103.00020); its map is (batch, size // 16, size // 16, 768)."""
    hub = require("keras_hub", "the encoder clip, new or saved", "hub")
    sizes = {"patch_size": PATCH, "hidden_dim": WIDTH, "num_layers": BLOCKS, "num_heads": HEADS}
    tower = hub.models.CLIPVisionEncoder(**sizes, intermediate_dim=4 * WIDTH, image_shape=(size, size, 3))
    grid = (size // PATCH, size // PATCH)
    # keras-hub keeps the numbers of the positions as a weight and starts it at zero.
    tower.embedding.position_ids.assign(ops.arange(1 + grid[0] * grid[1])[None])
    if published:
        source = hub.models.CLIPBackbone.from_preset(CLIP_PRESET).vision_encoder
        for old, new in zip(source.trainable_weights, tower.trainable_weights, strict=True):
            new.assign(old if old.shape == new.shape else _resized(old, new))
    return keras.Model(tower.inputs[0], gridded(tower.outputs[0], grid), name="clip")


def _resized(positions: Any, wanted: Any) -> Any:
    """Interpolate positions (1 + side * side, width) bilinearly (arXiv:2010.11929, section 3.2)."""
    bilinear = partial(_weights, kernel=lambda distance: 1 - distance, reach=1)
    return fitted_positions(ops.convert_to_numpy(positions), 1, wanted.shape[0], bilinear)


class Tower(Struct, frozen=True):
    """How a Vision Transformer is built, by the names of ``config.json``."""

    model_type: str
    hidden_size: Annotated[int, Meta(ge=1, le=8192)] = 768
    num_hidden_layers: Annotated[int, Meta(ge=1, le=200)] = 12
    num_attention_heads: Annotated[int, Meta(ge=1)] = 12
    intermediate_size: Annotated[int, Meta(ge=1, le=65536)] = 3072
    patch_size: Annotated[int, Meta(ge=1, le=256)] = 16
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-6
    qkv_bias: bool = True
    num_register_tokens: Annotated[int, Meta(ge=0, le=64)] = 0
    use_swiglu_ffn: bool = False


_LAYOUTS = read_toml(__file__, "layouts.toml")


def tower_of(values: Mapping[str, Any], where: object) -> Tower:
    """Return the image tower that a ``config.json`` describes, perhaps beside one for texts."""
    vision = values.get("vision_config")
    vision = vision if isinstance(vision, dict) else values
    kind = str(vision.get("model_type", values.get("model_type")))
    family = kind.removesuffix("_vision_model").removesuffix("_with_registers")
    if family not in (defaults := _LAYOUTS["defaults"]):
        known = ", ".join(defaults)
        raise ConfigError(f"{where}: model_type is {kind[:40]!r}; image encoders that are built here are {known}")
    said = {n: vision[n] for n in Tower.__struct_fields__ if vision.get(n) is not None}
    said = defaults[family] | said | {"model_type": family}
    if kind.endswith("_with_registers"):
        said.setdefault("num_register_tokens", 4)
    try:
        if family == "dinov2" and "intermediate_size" not in said:
            said["intermediate_size"] = int(said.get("hidden_size", 768) * convert(vision.get("mlp_ratio", 4), float))
        tower = convert(said, Tower)
    except (ValidationError, TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"{where}: {error}; give the folder of a published model") from error
    if tower.hidden_act not in _ACTIVATIONS or tower.hidden_size % tower.num_attention_heads:
        heads = f"{tower.num_attention_heads} heads for {tower.hidden_size} channels"
        raise ConfigError(f"{where}: hidden_act {tower.hidden_act[:40]!r} with {heads} is not built here")
    return tower


def last_block(tower: Tower) -> tuple[str, ...]:
    """Return beginnings of the names of the layers of its last block, and of what follows it."""
    return (f"encoder.layer.{tower.num_hidden_layers - 1}.", "layernorm")


def build_tower(tower: Tower, size: int) -> Any:
    """Build the network with random weights: (batch, size, size, 3) to (batch, rows, columns, width)."""
    family, width, side, scaled = tower.model_type, tower.hidden_size, tower.patch_size, tower.model_type == "dinov2"
    tokens, count, epsilon = (size // side) ** 2, tower.num_hidden_layers, tower.layer_norm_eps
    numbers = width * (count * (4 * width + 2 * tower.intermediate_size) + tokens)
    if numbers > 1.2e9 or not 1 <= tokens <= 2**14:  # DINOv2's giant has 1.1e9 and 1369
        raise ConfigError(f"{count} blocks of {width} channels for {tokens} patches: not built here")
    x = image = layers.Input((size, size, 3))
    name = "embeddings.patch_embeddings.projection"
    patches = layers.Conv2D(width, side, side, use_bias=family != "clip", name=name)(image)
    x = Tokens(family != "siglip", tower.num_register_tokens, name="embeddings")(patches)
    if family == "clip":
        x = _norm(x, "pre_layernorm", epsilon)
    for number in range(tower.num_hidden_layers):
        name = f"encoder.layer.{number}"
        y = _attention(_norm(x, f"{name}.norm1", epsilon), tower, f"{name}.attention")
        x = x + (Scale(name=f"{name}.layer_scale1")(y) if scaled else y)
        y = _widened(_norm(x, f"{name}.norm2", epsilon), tower, f"{name}.mlp")
        x = x + (Scale(name=f"{name}.layer_scale2")(y) if scaled else y)
    if family != "clip":  # which normalises the class token only
        x = _norm(x, "layernorm", epsilon)
    return keras.Model(image, gridded(x, patches.shape[1:3]), name=family)


def _attention(x: Any, tower: Tower, name: str) -> Any:
    (_, tokens, width), heads, split = x.shape, tower.num_attention_heads, []
    for part in ("query", "key", "value"):
        y = layers.Dense(width, use_bias=tower.qkv_bias, name=f"{name}.attention.{part}")(x)
        split.append(ops.reshape(y, (-1, tokens, heads, width // heads)))
    y = ops.reshape(ops.dot_product_attention(*split), (-1, tokens, width))
    return layers.Dense(width, name=f"{name}.output.dense")(y)


def _widened(x: Any, tower: Tower, name: str) -> Any:
    wide = tower.intermediate_size
    if tower.use_swiglu_ffn:  # two thirds, up to the next multiple of 8
        wide = (int(wide * 2 / 3) + 7) // 8 * 8
        y = layers.Dense(wide, "silu", name=f"{name}.gate")(x)
        y = y * layers.Dense(wide, name=f"{name}.up")(x)
    else:
        y = layers.Dense(wide, _ACTIVATIONS[tower.hidden_act], name=f"{name}.fc1")(x)
    return layers.Dense(tower.hidden_size, name=f"{name}.fc2")(y)


@registered
class Scale(keras.layers.Layer):
    """Multiply each channel by a learned number."""

    def build(self, shape: tuple[Any, ...]) -> None:
        self.lambda1 = self.add_weight((shape[-1],), "ones", name="lambda1")

    def call(self, x: Any) -> Any:
        return x * self.lambda1


@registered
def quick_gelu(x: Any) -> Any:
    """Return CLIP's approximation of GELU."""
    return x * ops.sigmoid(1.702 * x)


@registered
def tanh_gelu(x: Any) -> Any:
    """Return GELU approximated by a hyperbolic tangent, as SigLIP has it."""
    return ops.gelu(x, approximate=True)


_ACTIVATIONS = {"gelu": "gelu", "gelu_pytorch_tanh": tanh_gelu, "quick_gelu": quick_gelu}
_POSITIONS = "embeddings.position_embeddings"


def load_tower(tower: Tower, model: Any, path: Path, what: str) -> None:
    """Fill the network from a file or folder in any of the layouts, or raise a BundleError."""
    # Positions are interpolated where the images differ in size from the published ones.
    arrays = named_alike(read_arrays(path))
    if _POSITIONS in arrays:
        # As transformers does, for models with registers with antialiasing.
        smooth, own = tower.num_register_tokens > 0, model.get_layer("embeddings")
        bicubic = partial(_weights, kernel=lambda distance: cubic(distance, -0.75), reach=2)
        between = partial(filter_weights, filter_name="bicubic") if smooth else bicubic
        rows = arrays[_POSITIONS].reshape(-1, arrays[_POSITIONS].shape[-1])
        arrays[_POSITIONS] = fitted_positions(rows, int(own.classes), own.positions.shape[0], between)
    left_out = _LAYOUTS["left_out"] + (r"|layernorm\..*" if tower.model_type == "clip" else "")
    load_pytorch(model, path, what, left_out, arrays)


def named_alike(arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """Return the arrays of an image tower, alone or in a whole model, by Dinov2's names."""
    ends = [(name, end) for name in arrays for end in _LAYOUTS["patches"] if name.endswith(f"{end}weight")]
    first, end = min(ends, key=lambda pair: len(pair[0]), default=("", ""))
    owner = first.removesuffix(f"{end.removeprefix('visual.')}weight")
    found: Arrays = {}
    for name, values in arrays.items():
        if name.startswith(owner):
            name = name.removeprefix(owner)
            for old, new in _LAYOUTS["names"]:
                name = re.sub(old, new, name)
            for new, part in _separate(name, values):
                found[new] = part.reshape(1, 1, -1) if new.endswith("cls_token") else part
    return found


def _separate(name: str, values: NDArray[Any]) -> list[tuple[str, NDArray[Any]]]:
    """Take an array apart that several layers have in one."""
    for joined, parts in _LAYOUTS["joined"].items():
        if re.search(joined, name) and len(values) % len(parts) == 0:
            return [(re.sub(joined, new, name), part) for new, part in zip(parts, np.split(values, len(parts)))]
    return [(name, values)]


def fitted_positions(rows: NDArray[Any], first: int, count: int, between: Callable[[int, int], Any]) -> Any:
    """Interpolate positions (first + side * side, width), the `first` a class token's; those of no square stay."""
    # `between` returns the weights (after, before) of one side for another.
    side, wanted = (round(max(number - first, 0) ** 0.5) for number in (len(rows), count))
    if side == wanted or first + side**2 != len(rows) or not side:
        return rows
    weights, square = between(side, wanted), rows[first:].reshape(side, side, -1)
    square = np.einsum("ai,bj,ijc->abc", weights, weights, square, optimize=True)
    return np.concatenate([rows[:first], square.reshape(wanted**2, -1)]).astype(np.float32)


def _weights(before: int, after: int, kernel: Callable[[Any], Any], reach: int) -> NDArray[np.float64]:
    """Return weights (after, before) without antialiasing, as PyTorch has them, the ends repeated."""
    centre, weights = (np.arange(after) + 0.5) * before / after - 0.5, np.zeros((after, before))
    for step in range(1 - reach, 1 + reach):
        place = np.floor(centre).astype(int) + step
        np.add.at(weights, (np.arange(after), place.clip(0, before - 1)), kernel(np.abs(centre - place)))
    return weights
