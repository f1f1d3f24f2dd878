"""Vision Transformers as other libraries publish them: DINOv2, SigLIP, CLIP and ViT, of any size.

One network serves all of them. What a ``config.json`` of transformers says is its `Tower`; its
layers have the names of transformers' Dinov2, to which `named_alike` brings those of other layouts:
transformers of any version, timm (and open_clip, which has it inside), OpenAI's CLIP. Regions are
the patch tokens in their places, as the library's last hidden state has them; class token and
registers are left out.
"""

import re
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta, Struct, ValidationError, convert
from numpy.typing import NDArray

from xray_captioning.backend import keras, ops, registered
from xray_captioning.checkpoints import read_arrays
from xray_captioning.data.resizing import cubic, filter_weights
from xray_captioning.encoders.filling import load_pytorch
from xray_captioning.encoders.vit import Tokens, gridded
from xray_captioning.errors import ConfigError

layers = keras.layers
Arrays = dict[str, NDArray[Any]]


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


_LAYOUTS = tomllib.loads(files(__package__).joinpath("layouts.toml").read_text("utf-8"))


def tower_of(values: Mapping[str, Any], where: object) -> Tower:
    """Return the image tower that a ``config.json`` describes, perhaps beside one for texts."""
    vision = values.get("vision_config")
    vision = vision if isinstance(vision, dict) else values
    kind = str(vision.get("model_type", values.get("model_type")))
    family = kind.removesuffix("_vision_model").removesuffix("_with_registers")
    if family not in _LAYOUTS["defaults"]:
        raise ConfigError(
            f"{where}: model_type is {kind[:40]!r}; image encoders that are built here are "
            f"{', '.join(_LAYOUTS['defaults'])}"
        )
    known = {n: vision[n] for n in Tower.__struct_fields__ if vision.get(n) is not None}
    known = _LAYOUTS["defaults"][family] | known | {"model_type": family}
    if kind.endswith("_with_registers"):
        known.setdefault("num_register_tokens", 4)
    try:
        if family == "dinov2" and "intermediate_size" not in known:
            wide = convert(vision.get("mlp_ratio", 4), float)
            known["intermediate_size"] = int(known.get("hidden_size", 768) * wide)
        tower = convert(known, Tower)
    except (ValidationError, TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"{where}: {error}; give the folder of a published model") from error
    if tower.hidden_act not in _ACTIVATIONS or tower.hidden_size % tower.num_attention_heads:
        raise ConfigError(
            f"{where}: hidden_act {str(tower.hidden_act)[:40]!r} with {tower.num_attention_heads} "
            f"heads for {tower.hidden_size} channels is not built here"
        )
    return tower


def last_block(tower: Tower) -> tuple[str, ...]:
    """Return beginnings of the names of the layers of its last block, and of what follows it."""
    return (f"encoder.layer.{tower.num_hidden_layers - 1}.", "layernorm")


def build_tower(tower: Tower, size: int) -> Any:
    """Build the network, with random weights.
    It maps (batch, size, size, 3) to (batch, size // patch, size // patch, width).
    """
    family, width, side = tower.model_type, tower.hidden_size, tower.patch_size
    tokens, count = (size // side) ** 2, tower.num_hidden_layers
    numbers = width * (count * (4 * width + 2 * tower.intermediate_size) + tokens)
    if numbers > 1.2e9 or not 1 <= tokens <= 2**14:  # DINOv2's giant has 1.1e9 and 1369
        raise ConfigError(f"{count} blocks of {width} channels for {tokens} patches: not built here")
    x = image = layers.Input((size, size, 3))
    name = "embeddings.patch_embeddings.projection"
    patches = layers.Conv2D(width, side, side, use_bias=family != "clip", name=name)(image)
    x = Tokens(family != "siglip", tower.num_register_tokens, name="embeddings")(patches)
    if family == "clip":
        x = _layer_norm(x, tower, "pre_layernorm")
    for number in range(tower.num_hidden_layers):
        name = f"encoder.layer.{number}"
        y = _attention(_layer_norm(x, tower, f"{name}.norm1"), tower, f"{name}.attention")
        x = x + _scaled(y, tower, f"{name}.layer_scale1")
        y = _widened(_layer_norm(x, tower, f"{name}.norm2"), tower, f"{name}.mlp")
        x = x + _scaled(y, tower, f"{name}.layer_scale2")
    if family != "clip":  # which normalises the class token only
        x = _layer_norm(x, tower, "layernorm")
    return keras.Model(image, gridded(x, patches.shape[1:3]), name=family)


def _attention(x: Any, tower: Tower, name: str) -> Any:
    _, tokens, width = x.shape
    heads, bias = tower.num_attention_heads, tower.qkv_bias
    parts = [
        ops.reshape(
            layers.Dense(width, use_bias=bias, name=f"{name}.attention.{part}")(x), (-1, tokens, heads, width // heads)
        )
        for part in ("query", "key", "value")
    ]
    y = ops.reshape(ops.dot_product_attention(*parts), (-1, tokens, width))
    return layers.Dense(width, name=f"{name}.output.dense")(y)


def _widened(x: Any, tower: Tower, name: str) -> Any:
    width, wide = tower.hidden_size, tower.intermediate_size
    if tower.use_swiglu_ffn:  # two thirds, up to the next multiple of 8
        wide = (int(wide * 2 / 3) + 7) // 8 * 8
        y = layers.Dense(wide, "silu", name=f"{name}.gate")(x)
        y = y * layers.Dense(wide, name=f"{name}.up")(x)
    else:
        y = layers.Dense(wide, _ACTIVATIONS[tower.hidden_act], name=f"{name}.fc1")(x)
    return layers.Dense(width, name=f"{name}.fc2")(y)


def _scaled(x: Any, tower: Tower, name: str) -> Any:
    return Scale(name=name)(x) if tower.model_type == "dinov2" else x


def _layer_norm(x: Any, tower: Tower, name: str) -> Any:
    return layers.LayerNormalization(epsilon=tower.layer_norm_eps, name=name)(x)


@registered
class Scale(keras.layers.Layer):
    """Multiply each channel by a learned number."""

    def build(self, shape: tuple[Any, ...]) -> None:
        """Create the numbers."""
        self.lambda1 = self.add_weight((shape[-1],), "ones", name="lambda1")

    def call(self, x: Any) -> Any:
        """Return the scaled channels."""
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
    """Fill the network from a file or folder in any of the layouts; `what` names it in messages.
    Positions are interpolated where the images differ in size from those it was trained on. One
    that cannot be read, or is not of this network, is a BundleError.
    """
    arrays = named_alike(read_arrays(path))
    if _POSITIONS in arrays:
        own, smooth = model.get_layer("embeddings"), tower.num_register_tokens > 0
        arrays[_POSITIONS] = fitted_positions(arrays[_POSITIONS], own, smooth)
    left_out = _LAYOUTS["left_out"] + (r"|layernorm\..*" if tower.model_type == "clip" else "")
    load_pytorch(model, path, what, left_out, arrays=arrays)


def named_alike(arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """Return the arrays of an image tower, alone or in a whole model, by Dinov2's names."""
    ends = [(name, end) for name in arrays for end in _LAYOUTS["patches"] if name.endswith(f"{end}weight")]
    first, end = min(ends, key=lambda pair: len(pair[0]), default=("", ""))
    owner = first.removesuffix(f"{end.removeprefix('visual.')}weight")
    found: Arrays = {}
    for name, values in arrays.items():
        if name.startswith(owner):
            for new, part in _separate(_renamed(name.removeprefix(owner)), values):
                found[new] = part.reshape(1, 1, -1) if new.endswith("cls_token") else part
    return found


def _renamed(name: str) -> str:
    for old, new in _LAYOUTS["names"]:
        name = re.sub(old, new, name)
    return name


def _separate(name: str, values: NDArray[Any]) -> list[tuple[str, NDArray[Any]]]:
    """Take an array apart that several layers have in one."""
    for joined, parts in _LAYOUTS["joined"].items():
        if re.search(joined, name) and len(values) % len(parts) == 0:
            split = np.split(values, len(parts))
            return [(re.sub(joined, new, name), part) for new, part in zip(parts, split)]
    return [(name, values)]


def fitted_positions(positions: NDArray[Any], tokens: Any, smooth: bool) -> NDArray[Any]:
    """Interpolate positions, a class token's first, to those of a layer; others are unchanged.
    Cubically, as transformers does, for models with registers with antialiasing (`smooth`).
    """
    rows, own = (np.atleast_3d(positions)[0] if positions.ndim == 3 else positions, tokens.class_token)
    first = int(own is not None)
    side = round(max(len(rows) - first, 0) ** 0.5)
    wanted = round((tokens.positions.shape[0] - first) ** 0.5)
    if side == wanted or first + side**2 != len(rows) or not side:
        return rows
    weights = filter_weights(side, wanted, "bicubic") if smooth else _cubic_weights(side, wanted)
    square = rows[first:].reshape(side, side, -1)
    square = np.einsum("ai,bj,ijc->abc", weights, weights, square, optimize=True)
    return np.concatenate([rows[:first], square.reshape(wanted**2, -1)]).astype(np.float32)


def _cubic_weights(before: int, after: int) -> NDArray[np.float64]:
    """Return PyTorch's weights (after, before) without antialiasing, the ends repeated."""
    centre = (np.arange(after) + 0.5) * before / after - 0.5
    weights = np.zeros((after, before))
    for step in range(-1, 3):
        place = np.floor(centre).astype(int) + step
        share = cubic(np.abs(centre - place), -0.75)
        np.add.at(weights, (np.arange(after), place.clip(0, before - 1)), share)
    return weights
