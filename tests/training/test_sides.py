"""Sides: what an encoder can learn of beside the findings."""

import numpy as np
import pytest

from xray_captioning.backend import keras, ops
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.encoders import Encoder
from xray_captioning.errors import DataError
from xray_captioning.training.encoder import FindingsInTraining, train_encoder
from xray_captioning.training.labels import finding_labels, side_labels

pytestmark = pytest.mark.usefixtures("eagerly")


def test_sides_are_those_of_the_words(phantoms):
    studies = read_studies(phantoms)[:4]
    texts = [
        "Small left effusion. Bilateral opacities.",
        "Right effusion. No left effusion.",
        "Effusion.",
        "Left effusion?",
    ]
    problems = [["Pleural Effusion", "Lung Opacity"], ["Pleural Effusion"], ["Pleural Effusion"], []]
    studies = studies.assign(impression=texts, findings=None, problems=problems)
    names, labels = finding_labels(studies)
    assert names == ["Lung Opacity", "Pleural Effusion"]
    sides = side_labels(studies, names, labels)  # opacities left and right, effusions left and right
    np.testing.assert_array_equal(sides, [[1, 1, 1, 0], [0, 0, 0, 1], [0, 0, np.nan, np.nan], [0, 0, 0, 0]])


def check_added_loss(model, inputs):
    """The loss that a model of two findings adds is learned, and is there in training only."""
    model.compile(keras.optimizers.Adam(0.003), lambda truth, logits: 0 * ops.sum(logits, axis=-1))

    def added():
        model(inputs, training=True)
        return float(model.losses[0])

    before = added()
    for _ in range(8):
        model.train_on_batch(inputs, np.full((4, 2), 0.5, "float32"))
    assert added() < 0.8 * before
    model(inputs)
    assert not model.losses


def test_a_loss_of_sides_is_added_in_training_only():
    """It falls, and neither the logits nor the encoder have more than before."""
    keras.utils.set_random_seed(0)
    encoder, rng = Encoder("phantom_cnn", 32, findings=["Edema", "Fracture"]), np.random.default_rng(0)
    model = FindingsInTraining(3, (1, 0), encoder)
    inputs = {
        "images": rng.normal(size=(4, 2, 32, 32, 3)).astype("float32"),
        "mask": np.array([[True, True], [True, False]] * 2),
        "sides": np.array([[1, 0, 0], [0, np.nan, 1]] * 2, "float32"),
    }
    weights = len(model.encoder.weights)
    check_added_loss(model, inputs)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))  # for callbacks that save
    assert [weight.shape for weight in again.weights] == [weight.shape for weight in model.weights]
    assert len(model.encoder.weights) == weights


def test_a_run_learns_sides_and_leaves_an_encoder_as_any(phantoms, tiny_config, tiny_cache, tmp_path):
    config = tiny_config.replace({"encoder_training.side_weight": 1, "encoder_training.epochs": 1})
    studies = read_studies(phantoms)
    trained, _ = train_encoder(studies, config, tmp_path / "run", "random", cache=tiny_cache)
    again, plain = Encoder.load(tmp_path / "run"), Encoder("phantom_cnn", 64, findings=trained.findings)
    assert [w.shape for w in again.weights] == [w.shape for w in plain.weights]
    unsided = studies.assign(findings="Effusion.", impression=None)
    with pytest.raises(DataError, match=r"no report says on which side a finding is; leave encoder_training\.side_w"):
        train_encoder(unsided, config, tmp_path / "refused", "random", cache=tiny_cache)
    assert not (tmp_path / "refused").exists()
