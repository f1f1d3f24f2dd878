"""What published weights expect of pixels, against the libraries that publish them."""

import numpy as np
import pytest

from xray_captioning.backend import keras
from xray_captioning.config import Config
from xray_captioning.data.images import normalise
from xray_captioning.encoders import ENCODERS
from xray_captioning.encoders.saved import new_encoder

PREPROCESSING = {
    "densenet121": keras.applications.densenet.preprocess_input,
    "resnet50": keras.applications.resnet.preprocess_input,
    "resnet50v2": keras.applications.resnet_v2.preprocess_input,
    "mobilenetv2": keras.applications.mobilenet_v2.preprocess_input,
}


@pytest.fixture
def images():
    return np.random.default_rng(0).random((2, 32, 32, 3), dtype=np.float32)


@pytest.mark.parametrize("name", PREPROCESSING)
def test_keras_prepares_pixels_alike(name, images):
    found = normalise(images, ENCODERS[name].normalisation)
    np.testing.assert_allclose(found, PREPROCESSING[name](images * 255), rtol=1e-4, atol=1e-4)
    assert found.dtype == np.float32


def test_the_first_layers_of_efficientnet_are_the_imagenet_scheme(images):
    network = keras.applications.EfficientNetV2B0(include_top=False, weights=None, input_shape=(32, 32, 3))
    first = keras.Model(network.input, network.get_layer("normalization").output)
    found = normalise(images, ENCODERS["efficientnetv2b0"].normalisation)
    np.testing.assert_allclose(found, first(images * 255), rtol=1e-4, atol=1e-4)


def test_clip_and_vit_pixels():
    mean = [[0.48145466, 0.4578275, 0.40821073]]
    np.testing.assert_allclose(normalise(mean, "clip"), 0, atol=1e-6)
    np.testing.assert_allclose(normalise(np.ones((1, 3)), "clip"), [[1.930, 2.075, 2.146]], rtol=1e-3)
    np.testing.assert_array_equal(normalise([[0.0, 0.5, 1.0]], "signed"), [[-1, 0, 1]])


def test_one_warning_names_what_is_expected_and_what_is_given(monkeypatch, recwarn):
    small = ENCODERS["phantom_cnn"]._replace(normalisation="caffe")
    monkeypatch.setitem(ENCODERS, "phantom_cnn", small)
    config = Config().replace({"model.encoder": "phantom_cnn", "image.size": 32})
    new_encoder(config, "random")
    new_encoder(config.replace({"image.normalisation": "caffe"}), "imagenet")
    assert not recwarn.list
    with pytest.warns(UserWarning, match="expect image.normalisation 'caffe', but it is 'imagenet'"):
        new_encoder(config, "imagenet")
