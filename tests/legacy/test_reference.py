"""Files of the published layout and size answer here what they answered there."""

import json

import numpy as np
import pytest

import xray_captioning as xc
from tests.legacy.keras2_files import sigmoid, write
from xray_captioning.backend import ops
from xray_captioning.checkpoints import read_keras2
from xray_captioning.data.images import read_images
from xray_captioning.decoders import Features
from xray_captioning.encoders import Encoder
from xray_captioning.encoders.filling import densenet121_variables, load_densenet121
from xray_captioning.findings import NIH14
from xray_captioning.runtime import load

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("eagerly")]


@pytest.fixture(scope="module")
def reference(shared_data):
    """Return the published layout's file as a captioner, features, and what it has to answer."""
    folder = shared_data / "legacy"
    weights = folder / "Encoder_Decoder_global_attention.h5"
    captioner = xc.legacy.load_attention_captioner(weights, folder / "tokenizer.pkl")
    texts = json.loads((folder / "expected_captions.json").read_text("utf-8"))
    images = {path.name: path for path in (shared_data / "iu").rglob("*.png")}
    studies = [[images[name] for name in entry["images"]] for entry in texts]
    return captioner, captioner.features(studies), [entry["greedy"] for entry in texts]


@pytest.fixture(scope="module")
def expected(shared_data):
    return np.load(shared_data / "legacy" / "expected.npz")


def test_reference_captions(reference):
    captioner, features, texts = reference
    assert [caption.text for caption in captioner.caption_features(features)] == texts
    assert (captioner.tokenizer.vocabulary_size, captioner.config.model.units) == (1387, 512)


def test_reference_captions_without_keras(reference, tmp_path):
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    captioner, features, texts = reference
    captioner.export(tmp_path / "graphs")  # CheXNet's maps are compared, too
    exported = load(tmp_path / "graphs")
    assert [caption.text for caption in exported.caption_features(features)] == texts


def test_reference_features_and_probabilities(reference, expected):
    captioner, features, _ = reference
    first = Features(features.regions[:1], features.mask[:1])
    wanted = expected["encoder_features"][0]
    assert np.abs(first.regions[0, :9] - wanted).max() <= 1e-3 * np.abs(wanted).max()
    for tokens, probabilities in zip(expected["tokens"], expected["probabilities"]):
        state = captioner.model.start(first)
        for token, wanted in zip(tokens[: list(tokens).index(4) + 1], probabilities):
            logits, state = captioner.model.step(np.array([token], "int32"), state)
            assert np.abs(ops.convert_to_numpy(ops.softmax(logits))[0] - wanted).max() < 1e-4


def test_reference_chexnet(shared_data, expected):
    weights = shared_data / "legacy" / "brucechou1983_CheXNet_Keras_0.3.0_weights.h5"
    (image,) = (shared_data / "iu").rglob("*3_IM-1384-1001*.png")
    encoder = xc.legacy.load_chexnet(weights)
    assert encoder.findings == NIH14
    maps = encoder.backbone(read_images([image], 224, "nearest"))
    kernel, bias = map(ops.convert_to_numpy, encoder.classifier.weights)
    found = sigmoid(ops.convert_to_numpy(maps).mean((1, 2)) @ kernel + bias)
    np.testing.assert_allclose(found, expected["chexnet_output"][:1], atol=1e-4)


def test_the_whole_network_by_name(tmp_path):
    encoder = Encoder("chexnet", 224)
    variables = densenet121_variables(encoder)
    assert len(variables) == 604
    arrays = {name: ops.convert_to_numpy(variable) for name, variable in variables.items()}
    layers = {}
    for name, array in reversed(arrays.items()):
        layers.setdefault(name.rsplit("/", 1)[0], {})[name] = array
    for variable in variables.values():
        variable.assign(variable + 1)
    path = write(tmp_path / "densenet121.h5", layers)
    load_densenet121(encoder, path, read_keras2(path))
    for name, variable in variables.items():
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), arrays[name], err_msg=name)
