"""Vision Transformers: equal to keras-hub's where that is installed, and what happens without."""

import sys

import numpy as np
import pytest

from xray_captioning.backend import keras, ops
from xray_captioning.config import Config
from xray_captioning.encoders import Encoder
from xray_captioning.encoders import vision_transformers as vit
from xray_captioning.encoders.saved import load_weights, new_encoder, weights_digest
from xray_captioning.encoders.vision_transformers import _resized, vision_transformer
from xray_captioning.errors import BundleError, ConfigError, MissingExtraError

WIDTH, BLOCKS, HEADS = 12, 2, 3


@pytest.fixture
def hub():
    return pytest.importorskip("keras_hub", reason="compared with keras-hub, which is not here")


@pytest.fixture
def small(monkeypatch):
    """Make ViT and CLIP small."""
    for name, value in (("WIDTH", WIDTH), ("BLOCKS", BLOCKS), ("HEADS", HEADS)):
        monkeypatch.setattr(vit, name, value)


def pixels(size=32):
    return np.random.default_rng(0).random((2, size, size, 3), dtype=np.float32)


def shaken(model):
    """Give every weight, biases and norms too, a value of its own."""
    rng = np.random.default_rng(1)
    for weight in model.trainable_weights:
        weight.assign(weight + 0.1 * rng.standard_normal(weight.shape))
    return model


def hub_vit(hub, size=32):
    return shaken(
        hub.models.ViTBackbone(
            image_shape=(size, size, 3),
            patch_size=16,
            num_layers=BLOCKS,
            num_heads=HEADS,
            hidden_dim=WIDTH,
            mlp_dim=4 * WIDTH,
        )
    )


def hub_clip(hub, size=32):
    tower = hub.models.CLIPVisionEncoder(16, WIDTH, BLOCKS, HEADS, 4 * WIDTH, image_shape=(size, size, 3))
    tower.embedding.position_ids.assign(np.arange((size // 16) ** 2 + 1)[None])
    text = hub.models.CLIPTextEncoder(9, 4, WIDTH, 1, HEADS, WIDTH, max_sequence_length=5)
    return shaken(hub.models.CLIPBackbone(tower, text, projection_dim=4))


def test_positions_of_another_grid_are_interpolated():
    rows, columns = np.mgrid[:4, :4].reshape(2, -1)
    table = np.concatenate([[[9.0, -9.0]], np.stack([rows, columns], -1)]).astype("float32")
    np.testing.assert_array_equal(_resized(table, np.zeros((17, 2))), table)
    halves = _resized(table, np.zeros((5, 2)))
    np.testing.assert_allclose(halves, [[9, -9], [0.5, 0.5], [0.5, 2.5], [2.5, 0.5], [2.5, 2.5]])
    doubled = _resized(table, np.zeros((65, 2)))[1:].reshape(8, 8, 2)
    np.testing.assert_allclose(doubled[1:-1, 3, 0], np.arange(6) / 2 + 0.25)


def test_a_patch_sees_its_place_and_the_others():
    keras.utils.set_random_seed(0)
    model = vision_transformer(48, WIDTH, BLOCKS, HEADS)
    same = np.full((1, 48, 48, 3), 0.5, "float32")
    first = ops.convert_to_numpy(model(same))[0]
    assert first.shape == (3, 3, WIDTH)
    assert np.abs(first[0, 1] - first[1, 0]).max() > 1e-4
    same[:, 32:, 32:] = 1.0
    assert np.abs(ops.convert_to_numpy(model(same))[0, 0, 0] - first[0, 0]).max() > 1e-6


@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_a_saved_network_for_other_images_is_refused(tmp_path):
    config = Config().replace({"model.encoder": "vit_tiny", "image.size": 48})
    path = tmp_path / "network.weights.h5"
    Encoder("vit_tiny", 32).backbone.save_weights(path)
    with pytest.raises(BundleError, match="does not fit the network vit_tiny"):
        new_encoder(config, str(path))


def test_a_bundle_for_other_images_is_refused(monkeypatch):
    monkeypatch.setattr(Encoder, "load", lambda name: Encoder("vit_tiny", 32))
    config = Config().replace({"model.encoder": "vit_tiny", "image.size": 48})
    with pytest.raises(ConfigError, match="for images of 32 px, but this run asks for 48; add --set"):
        new_encoder(config, "runs/vit")


def test_without_keras_hub_published_weights_and_clip_are_refused(monkeypatch, small):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    monkeypatch.setattr(vit, "BLOCKS", 1)
    with pytest.raises(MissingExtraError, match=r"\[hub\]', or .*--weights random"):
        Encoder("vit", 32, weights="imagenet")
    for weights in ("random", "imagenet"):
        with pytest.raises(MissingExtraError, match=r"pip install 'xray-captioning\[hub\]'$"):
            Encoder("clip", 32, weights=weights)


def test_vit_equals_keras_hub(hub, small, tmp_path, monkeypatch):
    theirs = hub_vit(hub)
    theirs.save_to_preset(str(tmp_path / "vit"))
    monkeypatch.setattr(vit, "VIT_PRESET", str(tmp_path / "vit"))
    encoder = Encoder("vit", 32, weights="imagenet")
    tokens = ops.convert_to_numpy(theirs(pixels()))[:, 1:]
    found = ops.convert_to_numpy(encoder(pixels()[:, None]))
    np.testing.assert_allclose(found, tokens, atol=1e-4)


def test_clip_equals_keras_hub(hub, small, tmp_path, monkeypatch):
    theirs = hub_clip(hub)
    theirs.save_to_preset(str(tmp_path / "clip"))
    monkeypatch.setattr(vit, "CLIP_PRESET", str(tmp_path / "clip"))
    encoder = Encoder("clip", 32, weights="imagenet")
    tokens = ops.convert_to_numpy(theirs.vision_encoder({"images": pixels()}))[:, 1:]
    found = ops.convert_to_numpy(encoder(pixels()[:, None]))
    np.testing.assert_allclose(found, tokens, atol=1e-4)


@pytest.mark.parametrize("name", ["vit", "clip"])
def test_published_positions_fit_other_images(name, hub, small, tmp_path, monkeypatch):
    make = {"vit": hub_vit, "clip": hub_clip}[name]
    make(hub).save_to_preset(str(tmp_path / name))
    monkeypatch.setattr(vit, f"{name.upper()}_PRESET", str(tmp_path / name))
    encoder = Encoder(name, 64, weights="imagenet")
    assert encoder(pixels(64)[:, None]).shape == (2, 16, WIDTH)


@pytest.mark.parametrize("name", ["vit", "clip"])
def test_without_a_network_published_weights_are_refused_and_random_ones_saved(name, hub, small, tmp_path, monkeypatch):
    monkeypatch.setattr(vit, f"{name.upper()}_PRESET", str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match=f"published weights of {name} cannot be had .*random"):
        Encoder(name, 32, weights="imagenet")
    encoder = Encoder(name, 32)
    encoder.save_weights(tmp_path / "encoder.weights.h5")
    other = Encoder(name, 32)
    load_weights(other, tmp_path / "encoder.weights.h5")
    assert weights_digest(other) == weights_digest(encoder)
    np.testing.assert_array_equal(other(pixels()[:, None]), encoder(pixels()[:, None]))
