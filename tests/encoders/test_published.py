"""Networks of other libraries: against plain NumPy, their published sizes, and the libraries."""

import importlib
import json
import re

import numpy as np
import pytest

from benchmarks import parity
from tests.checkpoints import golden
from tests.encoders.encoded import encode_files
from xray_captioning.backend import keras, ops
from xray_captioning.cli import main
from xray_captioning.cli.options import make_config
from xray_captioning.config import NORMALISATION, RESIZE, RESIZES, load_preset
from xray_captioning.data.images import normalise, read_images
from xray_captioning.data.resizing import seen_part
from xray_captioning.encoders import ENCODERS, saved, torch_networks
from xray_captioning.encoders.encoding import encoder_config
from xray_captioning.encoders.filling import load_pytorch
from xray_captioning.encoders.saved import new_encoder
from xray_captioning.encoders.torch_networks import normalised
from xray_captioning.errors import BundleError
from xray_captioning.hub.fetch import registry

pytestmark = pytest.mark.usefixtures("eagerly")
RNG = np.random.default_rng(0)


def convolution(x, kernel, stride):
    """x (rows, columns, channels), kernel as PyTorch has it, padded by half of it on all sides."""
    side = kernel.shape[-1]
    x = np.pad(x, [(side // 2, side // 2)] * 2 + [(0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(x, (side, side), (0, 1))
    return np.einsum("xycij,ocij->xyo", windows[::stride, ::stride], kernel)


def block(arrays, x, name, stride):
    def layer(x, conv, norm, stride=1):
        gain, bias, mean, variance = (
            arrays[f"{name}.{norm}.{n}"] for n in ("weight", "bias", "running_mean", "running_var")
        )
        y = convolution(x, arrays[f"{name}.{conv}.weight"], stride)
        return (y - mean) / np.sqrt(variance + 1e-5) * gain + bias

    y = np.maximum(layer(x, "conv1", "bn1"), 0)
    y = np.maximum(layer(y, "conv2", "bn2", stride), 0)
    return np.maximum(layer(y, "conv3", "bn3") + layer(x, "downsample.0", "downsample.1", stride), 0)


def pytorch_arrays(model):
    """Random arrays by the names and with the axes that PyTorch would save."""
    names = {"kernel": "weight", "gamma": "weight", "beta": "bias", "moving_mean": "running_mean"}
    arrays = {}
    for layer in model.layers:
        for variable in layer.weights:
            name = f"{layer.name}.{names.get(variable.name, 'running_var')}"
            values = RNG.uniform(0.5, 1.5, variable.shape).astype("f4")
            if values.ndim == 4:
                values = ((values - 1) / np.sqrt(values[..., 0].size)).transpose(3, 2, 0, 1)
            arrays[name] = np.ascontiguousarray(values)
    return arrays


@pytest.mark.parametrize("prefix", ["", "module.", "model.backbone."])
def test_a_bottleneck_is_what_numpy_computes(tmp_path, prefix):
    image = keras.layers.Input((9, 9, 8))  # an odd side: Keras' own padding would differ
    model = keras.Model(image, torch_networks._bottleneck(image, 4, 2, "layer2.0"))
    arrays = pytorch_arrays(model)
    extra = {"classifier.weight": np.ones(3, "f4")} if prefix else {"fc.bias": np.ones(3, "f4")}
    named = {f"{prefix}{name}": values for name, values in arrays.items()}
    load_pytorch(model, golden.npz(tmp_path / "w.npz", **named, **extra), "it", r"fc\..*")
    x = RNG.normal(size=(9, 9, 8)).astype("f4")
    wanted = block(arrays, x, "layer2.0", 2)
    found = ops.convert_to_numpy(model(x[None]))[0]
    assert found.shape == wanted.shape == (5, 5, 16)
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())


# torchvision's num_params, less those of the classifier, and for one channel less in the stem.
SIZES = {"torchvision-densenet121": 7_978_856 - 1_025_000, "resnet50-res512-all": 25_557_032 - 2_049_000 - 2 * 64 * 49}


@pytest.mark.parametrize("name", SIZES)
def test_published_sizes_and_files(tmp_path, name):
    model = ENCODERS[name].build(64, False)
    counted = [v for layer in model.layers for v in layer.weights if "moving" not in v.name]
    assert sum(np.prod(v.shape) for v in counted) == SIZES[name]
    assert model.output_shape[1:3] == (2, 2)
    assert any(layer.name.startswith(ENCODERS[name].last_block) for layer in model.layers)
    arrays = pytorch_arrays(model)
    if "densenet" in name:  # as torchvision's file of 2017 has them
        parts = (("norm1", "norm.1"), ("norm2", "norm.2"), ("conv1", "conv.1"), ("conv2", "conv.2"))
        for new, old in parts:
            arrays = {n.replace(f".{new}.", f".{old}."): v for n, v in arrays.items()}
    ENCODERS[name].read(model, golden.npz(tmp_path / "w.npz", **arrays))
    last = list(arrays.values())[-1]
    np.testing.assert_array_equal(ops.convert_to_numpy(counted[-1]), list(arrays.values())[-3])
    assert last.dtype == np.float32
    arrays.popitem()
    with pytest.raises(BundleError, match=rf"does not fit {name}: .* is missing"):
        ENCODERS[name].read(model, golden.npz(tmp_path / "less.npz", **arrays))


@pytest.mark.slow
@pytest.mark.parametrize("name", parity.ROWS)
def test_features_of_the_library(name, monkeypatch):
    pytest.importorskip("torch", reason="compares with PyTorch")
    try:
        importlib.import_module(parity.ROWS[name][0])
    except (ImportError, RuntimeError) as error:  # one built for another PyTorch
        pytest.skip(f"compares with {parity.ROWS[name][0]}: {error}")
    monkeypatch.setattr(parity, "SHAPES", ((301, 260), (100, 91)))
    assert max(parity.differences(name)) < 1e-4


def test_a_square_is_cut_as_each_project_does(tmp_path):
    pixels = np.zeros((10, 5), "u1")
    pixels[3:8] = 255  # torchxrayvision: 10 // 2 - 5 // 2
    assert read_images([pixels], 5, "xrv").min() == 1
    pixels = np.zeros((5, 12), "u1")
    pixels[:, 3:8] = 255  # transformers: 7 // 2
    assert read_images([pixels], 5, "rad-dino").min() == 1


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("shape", [(300, 200), (150, 400)])
def test_the_part_that_is_seen_is_where_it_is_said(resize, shape):
    """A bright spot is found where it must be in the square, whatever was cut off or added."""
    size, (y, x) = 64, (shape[0] // 2 + 20, shape[1] // 2 - 30)
    pixels = np.zeros(shape, "u1")
    pixels[y - 8 : y + 8, x - 8 : x + 8] = 255
    seen = read_images([pixels], size, resize)[0, ..., 0]
    found = [(seen.sum(1 - a) * (np.arange(size) + 0.5)).sum() / seen.sum() for a in (0, 1)]
    top, left, height, width = seen_part(*shape, size, resize)
    wanted = [(y / shape[0] - top) / height * size, (x / shape[1] - left) / width * size]
    if resize == "xrv":  # what lies outside is grey there
        found = np.unravel_index(seen.argmax(), seen.shape)
    np.testing.assert_allclose(found, wanted, atol=4 if resize == "xrv" else 1.5)


def test_pixels_of_torchxrayvision_outside_the_image_are_grey():
    found = normalise(read_images([np.eye(8, dtype="u1") * 255], 8, "xrv"), "xrv")
    np.testing.assert_array_equal(found[0, ..., 0], np.eye(8) * 2048 - 1024)
    pixels = np.full((64, 64), 255, "u1")
    pixels[:16] = 0  # or all would have one value, which is refused
    assert read_images([pixels], 8, "xrv")[0, -1, -1, 0] < 0.9


@pytest.mark.parametrize(
    ("how", "short", "filter_", "whole"), [("rad-dino", 64, "BICUBIC", int), ("torchvision", 73, "BILINEAR", round)]
)
def test_pixels_of_pillow(how, short, filter_, whole):
    from PIL import Image

    pixels = RNG.integers(0, 256, (90, 70, 3)).astype("u1")
    image = Image.fromarray(pixels)
    image = image.resize((short, int(short * 90 / 70)), Image.Resampling[filter_])
    top, left = whole((image.height - 64) / 2), whole((image.width - 64) / 2)
    wanted = np.asarray(image)[top : top + 64, left : left + 64] / 255
    np.testing.assert_allclose(read_images([pixels], 64, how)[0], wanted, atol=1e-6)
    deep = read_images([pixels.astype("u2") * 257], 64, how)[0]  # 16 bits are not rounded
    assert np.abs(deep - wanted).mean() < 1 / 255
    assert 0 <= deep.min() <= deep.max() <= 1


def test_pixels_of_chexzero_are_grey(tmp_path):
    from PIL import Image

    colour = Image.fromarray(RNG.integers(0, 256, (320, 200, 3)).astype("u1"))
    colour.save(tmp_path / "colour.png")
    wanted = read_images([np.asarray(colour.convert("L"))], 64, "chexzero")
    for given in (str(tmp_path / "colour.png"), np.asarray(colour)):
        np.testing.assert_array_equal(read_images([given], 64, "chexzero"), wanted)
    deep = read_images([np.asarray(colour).astype("u2") * 257], 64, "chexzero")
    np.testing.assert_allclose(deep, wanted, atol=1 / 255)


def test_the_registry_says_what_is_known():
    for name, one in registry().items():
        assert one.page.startswith("https://")
        assert name in ENCODERS
        assert re.fullmatch(RESIZE, one.resize)
        assert re.fullmatch(NORMALISATION, one.normalisation)
        assert one.verified != "not here"
    eight = [n for n in registry() if n.startswith(("densenet121-res224-", "resnet50-res512-"))]
    assert len(eight) == 8
    assert all(len(registry()[name].outputs) == 18 for name in eight)


def test_the_commands(tmp_path, capsys):
    assert main(["encoders"]) == 0
    assert "densenet121-res224-mimic_nb\n  network: densenet121" in capsys.readouterr().out
    paths = parity.pictures(tmp_path)
    studies = [f"{paths[0]},{paths[1]}", paths[2]]
    out = tmp_path / "f.npz"
    given = ["--encoder", "phantom_cnn", "--weights", "random", "--out", str(out)]
    assert main(["encode", *studies, *given]) == 0
    with np.load(out) as file:
        assert file["regions"].shape == (2, 2, 14, 14, 96)
        assert file["views"].tolist() == [[True, True], [True, False]]
        assert not file["regions"][1, 1].any()
        assert list(file["ids"]) == studies
        assert json.loads(str(file["about"]))["image"]["resize"] == "area"
    whole = out.read_bytes()
    assert main(["encode", *studies, *given]) == 0
    assert out.read_bytes() == whole  # random weights are the same ones in every process
    assert main(["encode", *studies, *given[:-1], str(tmp_path / "f.h5")]) == 2
    assert "written as .npz" in capsys.readouterr().err
    assert main(["encode", "--encoder", "phantom_cnn", "--out", str(out)]) == 2


def test_other_pixels_than_those_of_the_weights_are_told(tmp_path):
    config = encoder_config("torchvision-resnet50", 1).replace({"image.resize": "area"})
    path = golden.npz(tmp_path / "w.npz", **{"conv1.weight": np.ones(3, "f4")})
    config = config.replace({"image.size": 64, "image.normalisation": "unit"})
    with pytest.raises(BundleError, match="is not torchvision-resnet50"):
        new_encoder(config, str(path))
    with pytest.warns(UserWarning, match="expect image") as told:
        saved._warn_of_pixels(config)
    advice = [str(one.message).rpartition("image.")[2] for one in told]
    assert advice == ["normalisation=imagenet", "resize=torchvision", "size=224"]


def test_probabilities_are_bent_as_torchxrayvision_does():
    """Its ``op_norm``, written out: below the operating point half of the way to it."""
    points = [0.2, 0.8, None]
    found = normalised(np.array([[0.1, 0.9, 0.3], [0.6, 0.4, 0.9]]), points)
    wanted = [[0.25, 0.75, 0.5], [1 - 0.4 / 1.6, 0.25, 0.5]]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize("own", [False, True])
def test_a_classifier_is_written_beside_the_features(tmp_path, own, capsys):
    from scipy.special import expit

    name = "densenet121-res224-all"
    arrays = pytorch_arrays(ENCODERS[name].build(64, False))
    top = {"classifier.weight": RNG.normal(size=(18, 1024)).astype("f4") / 100}
    top["classifier.bias"] = np.float32([-2000, *RNG.normal(size=17)])
    points = np.linspace(0.1, 0.9, 18) if own else registry()[name].operating_points
    top |= {"op_threshs": np.float32(points)} if own else {}
    path = golden.npz(tmp_path / "w.npz", **arrays, **top)
    paths = parity.pictures(tmp_path)
    out, given = tmp_path / "f.npz", ["--encoder", name, "--weights", str(path)]
    given += ["--set", "image.size=64"]
    assert main(["encode", *paths[:2], *given, "--out", str(out)]) == 0
    with np.load(out) as file:
        features = file["regions"].mean((2, 3))
        logits = features @ top["classifier.weight"].T + top["classifier.bias"]
        np.testing.assert_allclose(file["logits"], logits, rtol=1e-4)
        wanted = normalised(expit(logits), points)
        np.testing.assert_allclose(file["probabilities"], wanted, rtol=1e-4)
        assert json.loads(str(file["about"]))["outputs"] == list(registry()[name].outputs)
    assert "overflow" not in capsys.readouterr().err
    golden.npz(tmp_path / "w.npz", **arrays)
    assert not encode_files([[paths[0]]], name, str(path), {"image.size": 64}).outputs


def test_a_named_encoder_brings_its_images_into_training():
    preset = ("chexnet_attention", [], None)
    config = make_config(*preset, encoder="densenet121-res224-all")
    image = config.image
    assert (image.size, image.resize, image.normalisation) == (224, "xrv", "xrv")
    config = make_config(preset[0], ["model.encoder=resnet50-res512-all", "image.size=64"], None)
    assert (config.image.size, config.image.resize) == (64, "xrv")
    assert make_config(*preset, encoder="microsoft/rad-dino").image.size == 518
    assert make_config(*preset).image == load_preset("chexnet_attention").image
    phantom = make_config("phantom_attention", ["model.encoder=vit_tiny"], None)
    assert phantom.image == load_preset("phantom_attention").image  # which has no published ones


def test_a_folder_of_hugging_face_is_a_file_of_weights(tmp_path):
    model = ENCODERS["torchvision-resnet50"].build(224, False)
    arrays = pytorch_arrays(model)
    (tmp_path / "config.json").write_text("{}")
    golden.npz(tmp_path / "model.safetensors", **arrays)
    image = RNG.integers(0, 256, (300, 250)).astype("u1")
    found = encode_files([[image]], "torchvision-resnet50", str(tmp_path))
    ENCODERS["torchvision-resnet50"].read(model, tmp_path)
    pixels = normalise(read_images([image], 224, "torchvision"), "imagenet")
    wanted = ops.convert_to_numpy(model(pixels))
    np.testing.assert_allclose(found.regions[:, 0], wanted, atol=1e-5 * np.abs(wanted).max())


def test_the_licence_is_said_before_weights_are_downloaded(tmp_path, monkeypatch, capsys):
    """Once: not of a file that is there already."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(torch_networks, "fetch_file", lambda file, folder: folder / file.name)
    path = torch_networks.published_file("rad-dino")
    said = capsys.readouterr().err
    assert "rad-dino: licence MIT" in said
    assert "huggingface.co/microsoft/rad-dino" in said
    path.parent.mkdir(parents=True)
    path.touch()
    torch_networks.published_file("rad-dino")
    assert not capsys.readouterr().err
