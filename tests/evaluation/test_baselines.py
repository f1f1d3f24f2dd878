"""Baselines are the strongest of their kind."""

import numpy as np
import pytest

from xray_captioning.errors import DataError
from xray_captioning.evaluation.baselines import (
    constant_caption,
    random_captions,
    retrieval_captions,
)
from xray_captioning.evaluation.scores import score

TEXTS = [
    "no acute disease .",
    "no acute disease .",
    "the heart is large . no acute disease .",
    "left effusion . the heart is large .",
    "clear lungs . no acute disease in the chest .",
]


def test_no_other_constant_scores_a_higher_bleu4():
    rng = np.random.default_rng(0)
    words = ["a", "b", "c", "d", "."]
    texts = [" ".join(rng.choice(words, rng.integers(4, 12))) for _ in range(60)]
    best = constant_caption(texts)

    def bleu4(text):
        return score(texts, [text] * len(texts))["BLEU-4"]

    assert bleu4(best) == pytest.approx(max(bleu4(text) for text in set(texts)), abs=1e-12)


def test_the_constant_is_a_training_text_and_needs_one():
    assert constant_caption(TEXTS) in TEXTS
    assert constant_caption(["only one ."]) == "only one ."
    with pytest.raises(DataError, match="training texts"):
        constant_caption([])


def test_random_captions_are_training_texts_and_depend_on_the_seed():
    first = random_captions(TEXTS, 50, seed=1)
    assert set(first) <= set(TEXTS)
    assert first == random_captions(TEXTS, 50, seed=1)
    assert first != random_captions(TEXTS, 50, seed=2)


def test_retrieval_gives_the_text_of_the_nearest_study():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5, 8))
    near = features[[3, 0]] + 0.01 * rng.normal(size=(2, 8))
    assert retrieval_captions(features, TEXTS, near) == [TEXTS[3], TEXTS[0]]
