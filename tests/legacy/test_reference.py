"""Files of the published layout and size answer here what they answered there."""

import json

import numpy as np
import pytest

import xray_captioning as xc
from tests.legacy.keras2_files import sigmoid, write
from xray_captioning.backend import ops
from xray_captioning.data.images import read_images
from xray_captioning.encoders import Encoder
from xray_captioning.encoders.chexnet import densenet121_variables
from xray_captioning.findings import NIH14

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reference(shared_data):
    """Return the published layout's file as a captioner, and what it has to answer."""
    folder = shared_data / "legacy"
    weights = folder / "Encoder_Decoder_global_attention.h5"
    captioner = xc.legacy.load_attention_captioner(weights, folder / "tokenizer.pkl")
    texts = json.loads((folder / "expected_captions.json").read_text("utf-8"))
    images = {path.name: path for path in (shared_data / "iu").rglob("*.png")}
    studies = [[images[name] for name in entry["images"]] for entry in texts]
    return captioner, studies, [entry["greedy"] for entry in texts]


@pytest.fixture(scope="module")
def expected(shared_data):
    return np.load(shared_data / "legacy" / "expected.npz")


def test_reference_captions(reference):
    captioner, studies, texts = reference
    assert [caption.text for caption in captioner.caption(studies)] == texts
    assert (captioner.tokenizer.vocabulary_size, captioner.config.model.units) == (1387, 512)


def test_reference_features_and_probabilities(reference, expected):
    captioner, studies, _ = reference
    features = captioner.features(studies[:1])
    wanted = expected["encoder_features"][0]
    assert np.abs(features.regions[0, :9] - wanted).max() <= 1e-3 * np.abs(wanted).max()
    for tokens, probabilities in zip(expected["tokens"], expected["probabilities"]):
        state = captioner.model.start(features)
        for token, wanted in zip(tokens[: list(tokens).index(4) + 1], probabilities):
            logits, state = captioner.model.step(np.array([token], "int32"), state)
            assert np.abs(ops.convert_to_numpy(ops.softmax(logits))[0] - wanted).max() < 1e-4


def test_reference_chexnet(shared_data, expected, reference):
    weights = shared_data / "legacy" / "brucechou1983_CheXNet_Keras_0.3.0_weights.h5"
    encoder = xc.legacy.load_chexnet(weights)
    assert encoder.findings == NIH14
    maps = encoder.backbone(read_images(reference[1][0][:1], 224, "nearest"))
    kernel, bias = map(ops.convert_to_numpy, encoder.classifier.weights)
    found = sigmoid(ops.convert_to_numpy(maps).mean((1, 2)) @ kernel + bias)
    np.testing.assert_allclose(found, expected["chexnet_output"][:1], atol=1e-4)


def test_the_whole_network_by_name(tmp_path):
    variables = densenet121_variables(Encoder("chexnet", 224))
    assert len(variables) == 604
    layers = {}
    for name, variable in reversed(variables.items()):
        layers.setdefault(name.rsplit("/", 1)[0], {})[name] = ops.convert_to_numpy(variable)
    top = {"kernel": np.ones((1024, 14), "float32"), "bias": np.ones(14, "float32")}
    layers["chexnet_output"] = {f"chexnet_output/{name}": array for name, array in top.items()}
    encoder = xc.legacy.load_chexnet(write(tmp_path / "chexnet.h5", layers))
    for name, variable in densenet121_variables(encoder).items():
        found, wanted = (ops.convert_to_numpy(v) for v in (variable, variables[name]))
        np.testing.assert_array_equal(found, wanted, err_msg=name)
