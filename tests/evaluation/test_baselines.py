"""Baselines are the strongest of their kind."""

import numpy as np
import pytest

from xray_captioning.errors import DataError
from xray_captioning.evaluation.baselines import (
    BASELINES,
    PHRASES,
    baseline_captions,
    constant_caption,
    most_frequent_caption,
    oracle_captions,
    random_captions,
    retrieval_captions,
    shuffled_captions,
)
from xray_captioning.findings import FINDINGS
from xray_captioning.metrics.clinical import label_matrix

TEXTS = [
    "no acute disease .",
    "no acute disease .",
    "the heart is large . no acute disease .",
    "left effusion . the heart is large .",
    "clear lungs . no acute disease in the chest .",
]


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


def test_the_most_frequent_text():
    assert most_frequent_caption(TEXTS) == "no acute disease ."
    assert most_frequent_caption(["b .", "a ."]) == "a ."


def test_every_baseline_writes_of_every_study():
    features = np.eye(5)
    found = baseline_captions(TEXTS, TEXTS, TEXTS[2:], (features, features[2:]), seed=1)
    assert set(found) <= set(BASELINES)
    assert {len(texts) for texts in found.values()} == {3}
    assert found["retrieval"] == TEXTS[2:]
    assert found["random"] == random_captions(TEXTS, 3, seed=1)
    assert set(found["constant"]) == {constant_caption(TEXTS)}
    quick = baseline_captions(TEXTS, TEXTS, TEXTS[2:], quick=True, seed=1)
    assert quick == {name: found[name] for name in ("constant", "random")}
    # Where no text scores, the first training text is the constant.
    assert baseline_captions(["", ""], ["x", "y"], ["c"])["constant"] == [""]


def test_no_study_keeps_its_own_caption():
    for count, seed in ((2, 0), (3, 1), (40, 5)):
        texts = [str(i) for i in range(count)]
        shuffled = shuffled_captions(texts, seed)
        assert sorted(shuffled) == sorted(texts)
        assert all(one != other for one, other in zip(texts, shuffled))
        assert shuffled == shuffled_captions(texts, seed)


def test_one_caption_cannot_be_given_to_others():
    with pytest.raises(DataError, match="at least two"):
        shuffled_captions(["a"])


def test_the_oracle_knows_every_finding_and_nothing_else():
    references = [PHRASES[name] for name in FINDINGS[1:]]
    references += ["clear lungs .", f"{PHRASES['Cardiomegaly']} {PHRASES['Scoliosis']}"]
    texts = [*TEXTS, "left effusion . no pneumothorax ."]
    said = oracle_captions(texts, references)
    wanted, found = (np.isin(label_matrix(column), (1, -1)) for column in (references, said))
    assert (wanted == found).all()


def test_the_oracle_uses_training_sentences_and_contradicts_nothing():
    normal = "the heart is normal in size . no pleural effusion . bones are intact ."
    texts = [normal] * 4 + ["moderate cardiomegaly . no pleural effusion ."] * 3
    said = oracle_captions(texts, ["cardiomegaly .", "all is well .", "effusion ."])
    assert said == [
        "moderate cardiomegaly . no pleural effusion . bones are intact .",
        normal,
        "there is a pleural effusion . the heart is normal in size . bones are intact .",
    ]
