"""Losses against their definitions."""

import numpy as np
import pytest

from xray_captioning.training.losses import WordCrossentropy


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
