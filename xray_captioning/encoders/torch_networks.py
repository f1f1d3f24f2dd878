"""Networks as PyTorch's libraries build them, and the weights that ``registry.json`` lists.

Their layers are named as those libraries name their modules. They differ from Keras' own of the
same names: in padding, in the constant of batch normalisation, and in which convolution of a block
strides. So weights of those libraries give their features.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from xray_captioning.backend import keras, ops, registered
from xray_captioning.encoders.filling import load_pytorch
from xray_captioning.encoders.vit import Tokens, gridded
from xray_captioning.errors import BundleError, ConfigError
from xray_captioning.files import read_json
from xray_captioning.hub.fetch import fetch_file, registry

layers = keras.layers


def densenet121(size: int, channels: int = 3) -> Any:
    """Build DenseNet121 (arXiv:1608.06993) as torchvision does, up to its last ReLU.

    It maps (batch, size, size, 3), of which the first `channels` are used, to (batch, size / 32,
    size / 32, 1024), rounded down.
    """
    image = layers.Input((size, size, 3))
    x = _stem(image[..., :channels], "features.conv0", "features.norm0")
    for block, count in enumerate((6, 12, 24, 16), 1):
        for number in range(1, count + 1):
            name = f"features.denseblock{block}.denselayer{number}"
            y = _convolved(_norm(x, f"{name}.norm1"), 128, 1, f"{name}.conv1")
            y = _convolved(_norm(y, f"{name}.norm2"), 32, 3, f"{name}.conv2")
            x = layers.Concatenate()([x, y])
        if block < 4:
            name = f"features.transition{block}"
            x = _convolved(_norm(x, f"{name}.norm"), x.shape[-1] // 2, 1, f"{name}.conv")
            x = layers.AveragePooling2D(2)(x)
    return keras.Model(image, _norm(x, "features.norm5"), name="densenet121")


def resnet50(size: int, channels: int = 3) -> Any:
    """Build ResNet50 (arXiv:1512.03385) as torchvision does, whose 3x3 convolutions stride.

    It maps (batch, size, size, 3), of which the first `channels` are used, to (batch, size / 32,
    size / 32, 2048), rounded up.
    """
    image = layers.Input((size, size, 3))
    x = _stem(image[..., :channels], "conv1", "bn1")
    for stage, count in enumerate((3, 4, 6, 3), 1):
        for number in range(count):
            stride = 2 if stage > 1 and number == 0 else 1
            x = _bottleneck(x, 32 * 2**stage, stride, f"layer{stage}.{number}")
    return keras.Model(image, x, name="resnet50")


def _bottleneck(x: Any, channels: int, stride: int, name: str) -> Any:
    y = _norm(_convolved(x, channels, 1, f"{name}.conv1"), f"{name}.bn1")
    y = _norm(_convolved(y, channels, 3, f"{name}.conv2", stride), f"{name}.bn2")
    y = _norm(_convolved(y, 4 * channels, 1, f"{name}.conv3"), f"{name}.bn3", active=False)
    if x.shape != y.shape:
        x = _convolved(x, 4 * channels, 1, f"{name}.downsample.0", stride)
        x = _norm(x, f"{name}.downsample.1", active=False)
    return layers.ReLU()(layers.Add()([x, y]))


def dinov2(
    size: int, channels: int = 3, width: int = 768, blocks: int = 12, heads: int = 12
) -> Any:
    """Build the Vision Transformer of DINOv2 (arXiv:2304.07193) as transformers does.

    It maps (batch, size, size, 3), of which the first `channels` are used, to (batch, size // 14,
    size // 14, width): the normalised patch tokens in their places, without the class token.
    """
    image = layers.Input((size, size, 3))
    patches = layers.Conv2D(width, 14, 14, name="embeddings.patch_embeddings.projection")
    patches = patches(image[..., :channels])
    x = Tokens(name="embeddings")(patches)
    for number in range(blocks):
        name = f"encoder.layer.{number}"
        y = _attention(_layer_norm(x, f"{name}.norm1"), heads, f"{name}.attention")
        x = x + Scale(name=f"{name}.layer_scale1")(y)
        y = layers.Dense(4 * width, "gelu", name=f"{name}.mlp.fc1")(_layer_norm(x, f"{name}.norm2"))
        y = layers.Dense(width, name=f"{name}.mlp.fc2")(y)
        x = x + Scale(name=f"{name}.layer_scale2")(y)
    x = gridded(_layer_norm(x, "layernorm"), patches.shape[1:3])
    return keras.Model(image, x, name="dinov2")


@registered
class Scale(keras.layers.Layer):
    """Multiply each channel by a learned number."""

    def build(self, shape: tuple[Any, ...]) -> None:
        """Create the numbers."""
        self.lambda1 = self.add_weight((shape[-1],), "ones", name="lambda1")

    def call(self, x: Any) -> Any:
        """Return the scaled channels."""
        return x * self.lambda1


def _attention(x: Any, heads: int, name: str) -> Any:
    _, tokens, width = x.shape
    parts = [
        ops.reshape(
            layers.Dense(width, name=f"{name}.attention.{part}")(x),
            (-1, tokens, heads, width // heads),
        )
        for part in ("query", "key", "value")
    ]
    y = ops.reshape(ops.dot_product_attention(*parts), (-1, tokens, width))
    return layers.Dense(width, name=f"{name}.output.dense")(y)


def _layer_norm(x: Any, name: str) -> Any:
    return layers.LayerNormalization(epsilon=1e-6, name=name)(x)


def _stem(image: Any, convolution: str, norm: str) -> Any:
    x = _norm(_convolved(image, 64, 7, convolution, 2), norm)
    # What pads the maximum is nothing to it: after ReLU no value is smaller than 0.
    return layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))


def _convolved(x: Any, channels: int, kernel: int, name: str, stride: int = 1) -> Any:
    """Convolve, padded alike on all sides; Keras' ``same`` pads more on the right and below."""
    if kernel > 1:
        x = layers.ZeroPadding2D(kernel // 2)(x)
    return layers.Conv2D(channels, kernel, stride, use_bias=False, name=name)(x)


def _norm(x: Any, name: str, active: bool = True) -> Any:
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)
    return layers.ReLU()(x) if active else x


class Network(NamedTuple):
    """How a network is built, which layers are its last block, and which arrays it leaves out."""

    build: Callable[..., Any]
    last_block: tuple[str, ...]
    left_out: str


NETWORKS = {
    "densenet121": Network(
        densenet121, ("features.denseblock4", "features.norm5"), r"classifier\..*|op_threshs"
    ),
    "dinov2": Network(dinov2, ("encoder.layer.11.", "layernorm"), r"embeddings\.mask_token"),
    "resnet50": Network(resnet50, ("layer4.2.",), r"fc\..*|op_threshs"),
}


def build(name: str, size: int, published: bool) -> Any:
    """Build a published encoder, with its weights, which are downloaded, or random ones."""
    one = registry()[name]
    model = NETWORKS[one.network].build(size, one.channels)
    if published:
        if one.file is None:
            raise ConfigError(f"{name} has no address to load from; get it from {one.page}")
        folder = Path.home() / ".cache" / "xray-captioning" / "encoders"
        load(name, model, fetch_file(one.file, folder))
    return model


def load(name: str, model: Any, path: Path) -> None:
    """Fill the network of a published encoder with the weights of a file or folder.

    A folder that is of another model than its arrays' shapes tell is a BundleError, too.
    """
    one = registry()[name]
    for about in ("config.json", "preprocessor_config.json"):
        said = read_json(path / about, "save it again") if (path / about).is_file() else {}
        for key, expected in one.folder.items():
            if said.get(key, expected) != expected:
                raise BundleError(
                    f"{path / about}: {key} is {str(said[key])[:60]}, but {expected} in {name}; "
                    "give the folder of that model"
                )
    load_pytorch(model, path, name, NETWORKS[one.network].left_out)
