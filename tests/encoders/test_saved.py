"""Where an encoder's weights come from, and what does not fit."""

import pytest

from xray_captioning.backend import keras, ops
from xray_captioning.config import load_preset
from xray_captioning.encoders import Encoder
from xray_captioning.encoders.saved import load_weights, new_encoder, starting_encoder, weights_digest
from xray_captioning.errors import BundleError, ConfigError


def test_a_keras_file_of_the_network_without_its_top(tmp_path, tiny_config):
    trained = Encoder("phantom_cnn", 64)
    path = tmp_path / "network.weights.h5"
    trained.backbone.save_weights(path)
    found = new_encoder(tiny_config, str(path), ["Edema"])
    assert weights_digest(found.backbone) == weights_digest(trained.backbone)
    assert found.classifier.bias.shape == (1,)


def test_a_file_of_another_network_is_refused(tmp_path, tiny_config):
    path = tmp_path / "other.weights.h5"
    path.write_bytes(b"not HDF5")
    with pytest.raises(BundleError, match=r"other\.weights\.h5: does not fit the network"):
        new_encoder(tiny_config, str(path))


def test_arrays_of_another_shape_are_named_with_both_shapes(tmp_path):
    path = tmp_path / "dense.weights.h5"
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)]).save_weights(path)
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(5)])
    with pytest.raises(BundleError, match=r"2 arrays differ.*expected \(3, 5\), received \(3, 4\)"):
        load_weights(other, path)


def test_the_encoder_of_a_bundle_with_a_new_classifier(tiny_encoder_run, tiny_config):
    saved = Encoder.load(tiny_encoder_run)
    found = new_encoder(tiny_config, str(tiny_encoder_run), ["Edema", "Fracture"])
    assert weights_digest(found.backbone) == weights_digest(saved.backbone)
    assert found.findings == ("Edema", "Fracture")
    with pytest.raises(ConfigError, match="holds the encoder phantom_cnn"):
        new_encoder(load_preset("chexnet_attention"), str(tiny_encoder_run))


def test_a_decoder_may_pool_its_encoder_otherwise(tiny_encoder_run, tiny_config):
    found = starting_encoder(tiny_config.replace({"model.pool": 2}), tiny_encoder_run)
    assert found.grid == (2, 2)
    assert weights_digest(found) == weights_digest(Encoder.load(tiny_encoder_run))


@pytest.mark.parametrize("change", [{"image.size": 96}, {"image.resize": "nearest"}])
def test_images_prepared_otherwise_are_refused(tiny_encoder_run, tiny_config, change):
    with pytest.raises(ConfigError, match="choose a fitting preset or add --set image"):
        starting_encoder(tiny_config.replace(change), tiny_encoder_run)


def test_probabilities_are_those_of_the_classes(tiny_encoder_run, tiny_config, phantoms):
    """Rare findings count more in training; the saved bias takes that back."""
    from xray_captioning.data.sources.reading import read_studies
    from xray_captioning.encoders.encoding import encode_images

    encoder = Encoder.load(tiny_encoder_run)
    images = [paths[0] for paths in read_studies(phantoms)["images"]][:6]
    maps = encode_images(encoder.encode, tiny_config, images)
    features = maps.reshape(len(images), -1, encoder.channels)
    logits = encoder.classify(features, (features[..., 0] * 0 + 1) > 0)
    chance = ops.convert_to_numpy(ops.sigmoid(logits))
    assert 0 < chance.mean() < 0.5
