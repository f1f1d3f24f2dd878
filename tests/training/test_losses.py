"""Losses against their definitions."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from xray_captioning.backend import keras, ops
from xray_captioning.training.losses import MaskedBinaryCrossentropy, WordCrossentropy

PREVALENCES = np.array([0.4, 0.3, 0.1, 0.02, 0.01])


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_word_crossentropy_is_that_of_a_smoothed_target(smoothing):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 3, 5)).astype("float32")
    words = rng.integers(0, 5, (2, 3))
    weights = np.array([[1, 1, 0], [1, 0, 0]], "float32")
    target = np.eye(5)[words] * (1 - smoothing) + smoothing / 5
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    expected = (-(target * log_p).sum(axis=-1) * weights).sum() / weights.sum()
    found = float(WordCrossentropy(smoothing)(words, logits, sample_weight=weights))
    assert found == pytest.approx(expected, rel=1e-5)


def finding_labels(unknown):
    """Return labels (studies, findings); sick studies have more unknown ones, as reports do."""
    rng = np.random.default_rng(0)
    labels = (rng.random((4000, 5)) < PREVALENCES).astype(float)
    hidden = unknown * (1 + 2 * labels.any(axis=1, keepdims=True))
    return np.where(rng.random(labels.shape) < hidden, np.nan, labels).astype("float32")


@pytest.mark.parametrize("unknown", [0.0, 0.2])
@pytest.mark.parametrize("weights", [np.ones(5), (PREVALENCES / (1 - PREVALENCES)) ** -0.5])
def test_a_fit_of_biases_alone_returns_the_share_of_known_labels_that_are_present(weights, unknown):
    labels, loss = finding_labels(unknown), MaskedBinaryCrossentropy(weights)

    def mean_loss(biases):
        logits = np.broadcast_to(biases, labels.shape).astype("float32")
        return ops.convert_to_numpy(loss.call(labels, logits)).mean(dtype="float64")

    fitted = minimize(mean_loss, np.zeros(5), method="Powell").x
    probabilities = expit(fitted - np.log(weights))
    np.testing.assert_allclose(probabilities, np.nanmean(labels, axis=0), rtol=0.02)


def test_the_mean_loss_of_studies_does_not_depend_on_their_batches():
    labels, loss = finding_labels(0.2)[:50], MaskedBinaryCrossentropy(np.ones(5))
    logits = np.random.default_rng(1).normal(size=labels.shape).astype("float32")
    parts = [slice(i, i + 16) for i in range(0, 50, 16)]
    losses = [float(loss(labels[p], logits[p])) * len(labels[p]) for p in parts]
    assert sum(losses) / 50 == pytest.approx(float(loss(labels, logits)), rel=1e-5)


@pytest.mark.parametrize("loss", [WordCrossentropy(0.1), MaskedBinaryCrossentropy([1.0, 2.5])])
def test_a_loss_is_made_anew_from_its_configuration(loss):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()
