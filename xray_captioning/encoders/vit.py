"""Vision Transformers: a region is a patch of the image; the class token is left out."""

from typing import Any

from xray_captioning.backend import keras, ops, registered
from xray_captioning.errors import require

layers = keras.layers

PATCH = 16
"""Side of a patch in pixels; what is left over at the right and bottom edge is not seen."""

# Names of keras-hub. The rest of the towers' sizes are those of ViT-B/16.
VIT_PRESET = "vit_base_patch16_224_imagenet"
CLIP_PRESET = "clip_vit_base_patch16"
WIDTH, BLOCKS, HEADS = 768, 12, 12


@registered
class Tokens(keras.layers.Layer):
    """Patches in one row, each with the learned vector of its position.

    Before them is a class token, which has a position, too, and as many registers, which have
    none. Input (batch, rows, columns, width), output (batch, 1 + registers + rows * columns,
    width).
    """

    def __init__(self, classes: bool = True, register_count: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.classes, self.register_count = classes, register_count
        self.class_token: Any = None

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        own = {"classes": self.classes, "register_count": self.register_count}
        return {**super().get_config(), **own}

    def build(self, shape: tuple[Any, ...]) -> None:
        """Create the class token, the positions and the registers."""
        _, rows, columns, width = shape
        normal = keras.initializers.TruncatedNormal(stddev=0.02)
        if self.classes:
            self.class_token = self.add_weight((1, 1, width), normal, name="class_token")
        count = self.classes + rows * columns
        self.positions = self.add_weight((count, width), normal, name="positions")
        if self.register_count:
            many = (1, self.register_count, width)
            self.registers = self.add_weight(many, normal, name="registers")

    def call(self, patches: Any) -> Any:
        """Return the tokens."""
        count, width = self.positions.shape
        row = ops.reshape(patches, (-1, count - self.classes, width))
        none = ops.zeros_like(row[:, :1])
        parts = [none + self.class_token] if self.classes else []
        row = ops.concatenate([*parts, row], axis=1) + self.positions
        if not self.register_count:
            return row
        return ops.concatenate([row[:, :1], none + self.registers, row[:, 1:]], axis=1)


def vision_transformer(size: int, width: int, blocks: int, heads: int) -> Any:
    """Build a Vision Transformer of the original kind (arXiv:2010.11929, eq. 1 to 4).
    It maps (batch, size, size, 3) to (batch, size // 16, size // 16, width). Its layers are called
    ``patches``, ``tokens``, ``block1_norm1`` and so on, and ``norm``.
    """
    image = layers.Input((size, size, 3))
    patches = layers.Conv2D(width, PATCH, PATCH, name="patches")(image)
    return keras.Model(image, transformed(patches, blocks, heads), name="vit")


def transformed(patches: Any, blocks: int, heads: int) -> Any:
    """Pass the vectors of patches (batch, rows, columns, width) through Transformer blocks."""
    x = Tokens(name="tokens")(patches)
    for number in range(1, blocks + 1):
        x = _block(x, heads, f"block{number}")
    return gridded(_norm("norm")(x), patches.shape[1:3])


def _block(x: Any, heads: int, name: str) -> Any:
    width = x.shape[-1]
    y = _norm(f"{name}_norm1")(x)
    x = x + layers.MultiHeadAttention(heads, width // heads, name=f"{name}_attention")(y, y)
    y = _norm(f"{name}_norm2")(x)
    y = layers.Dense(4 * width, "gelu", name=f"{name}_dense1")(y)
    return x + layers.Dense(width, name=f"{name}_dense2")(y)


def _norm(name: str) -> Any:
    return layers.LayerNormalization(epsilon=1e-6, name=name)


def gridded(tokens: Any, grid: tuple[int, int]) -> Any:
    """Return the tokens of patches in their places, (batch, rows, columns, width)."""
    before = tokens.shape[1] - grid[0] * grid[1]  # class token and registers
    return layers.Reshape((*grid, tokens.shape[-1]))(tokens[:, before:])


def vit(size: int, published: bool) -> Any:
    """Build ViT-B/16, with the weights that keras-hub publishes or random ones."""
    model = vision_transformer(size, WIDTH, BLOCKS, HEADS)
    if published:
        hub = require("keras_hub", "the published weights of vit", "hub")
        copy_vit(hub.models.ViTBackbone.from_preset(VIT_PRESET), model)
    return model


def copy_vit(source: Any, target: Any) -> None:
    """Copy weights of keras-hub's ViTBackbone into a `vision_transformer` of the same sizes.
    Positions are interpolated where the images differ in size.
    """
    embedding, encoder = source.layers[1:3]
    pairs = {"patches": embedding.patch_embedding, "norm": encoder.layer_norm}
    for number, block in enumerate(encoder.encoder_layers, 1):
        pairs[f"block{number}_norm1"] = block.layer_norm_1
        pairs[f"block{number}_attention"] = block.mha
        pairs[f"block{number}_norm2"] = block.layer_norm_2
        pairs[f"block{number}_dense1"] = block.mlp.dense_1
        pairs[f"block{number}_dense2"] = block.mlp.dense_2
    for name, layer in pairs.items():
        target.get_layer(name).set_weights(layer.get_weights())
    tokens = target.get_layer("tokens")
    tokens.class_token.assign(embedding.class_token)
    positions = embedding.position_embedding.embeddings
    tokens.positions.assign(resized_positions(positions, target.output_shape[1:3]))


def clip(size: int, published: bool) -> Any:
    """Build the image tower of CLIP (ViT-B/16, arXiv:2103.00020), published or with random weights.
    It maps (batch, size, size, 3) to (batch, size // 16, size // 16, 768).
    """
    hub = require("keras_hub", "the encoder clip, new or saved", "hub")
    tower = hub.models.CLIPVisionEncoder(
        patch_size=PATCH,
        hidden_dim=WIDTH,
        num_layers=BLOCKS,
        num_heads=HEADS,
        intermediate_dim=4 * WIDTH,
        image_shape=(size, size, 3),
    )
    grid = (size // PATCH, size // PATCH)
    # keras-hub keeps the numbers of the positions as a weight and starts it at zero.
    tower.embedding.position_ids.assign(ops.arange(1 + grid[0] * grid[1])[None])
    if published:
        copy_clip(hub.models.CLIPBackbone.from_preset(CLIP_PRESET).vision_encoder, tower)
    return keras.Model(tower.inputs[0], gridded(tower.outputs[0], grid), name="clip")


def copy_clip(source: Any, target: Any) -> None:
    """Copy weights between two of keras-hub's CLIPVisionEncoder; positions are interpolated."""
    old, new = source.embedding, target.embedding
    new.class_embedding.assign(old.class_embedding)
    new.patch_embedding.set_weights(old.patch_embedding.get_weights())
    side = target.image_shape[0] // target.patch_size
    positions = resized_positions(old.position_embedding.embeddings, (side, side))
    new.position_embedding.embeddings.assign(positions)
    for before, after in zip(source.layers[2:], target.layers[2:], strict=True):
        after.set_weights(before.get_weights())


def resized_positions(positions: Any, grid: tuple[int, int]) -> Any:
    """Interpolate learned positions (1 + side * side, width) bilinearly to rows and columns.
    The first is the class token's and is kept; the others are the patches', row by row
    (arXiv:2010.11929, section 3.2).
    """
    positions = ops.convert_to_tensor(positions)
    count, width = positions.shape
    side = round((count - 1) ** 0.5)
    square = ops.reshape(positions[1:], (side, side, width))
    square = ops.image.resize(square, grid, interpolation="bilinear", data_format="channels_last")
    return ops.concatenate([positions[:1], ops.reshape(square, (-1, width))], axis=0)
