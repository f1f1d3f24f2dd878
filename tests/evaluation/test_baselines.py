"""Baselines are the strongest of their kind."""

import numpy as np
import pytest

from xray_captioning.errors import DataError
from xray_captioning.evaluation.baselines import (
    BASELINES,
    CONSTANTS,
    DRAWS,
    PHRASES,
    baseline_systems,
    constant_caption,
    merged_rows,
    most_frequent_caption,
    oracle_captions,
    random_captions,
    retrieval_captions,
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


def _baselines(pooled, quick=False):
    systems = baseline_systems(TEXTS, TEXTS, TEXTS[2:], pooled, quick, seed=1)
    assert all(system.kind == "baseline" for system in systems)
    return {system.name: system.runs for system in systems}


def test_every_baseline_writes_of_every_study():
    features = np.eye(5)
    found = _baselines({"a": [(features, features[2:])]})
    assert set(found) <= set(BASELINES)
    assert {len(texts) for runs in found.values() for texts in runs} == {3}
    assert found["retrieval"] == [TEXTS[2:]]
    assert found["random"] == [random_captions(TEXTS, 3, (1, draw)) for draw in range(DRAWS)]
    assert set(found["constant"][0]) == {constant_caption(TEXTS)}
    quick = _baselines({}, quick=True)
    assert quick == {name: found[name] for name in ("constant", "constant-clinical_f1", "random")}
    # Where no text scores, the first training text is the constant.
    empty = baseline_systems(["", ""], ["x", "y"], ["c"], {})
    assert (empty[0].name, empty[0].texts) == ("constant", [""])


def test_each_model_has_a_retrieval_of_its_own():
    """A row of one model's features says nothing of another's."""
    features = np.eye(5)
    pooled = {"a": [(features, features[2:])], "b": [(features, features[:3])] * 2}
    found = _baselines(pooled, quick=True)
    assert "retrieval" not in found
    assert found["retrieval a"] == [TEXTS[2:]]
    assert found["retrieval b"] == [TEXTS[:3]] * 2


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


def test_fixed_reports_that_score_the_same_are_one_row_for_people():
    names = ["mine", *CONSTANTS[:3], "constant-CIDEr", "most-frequent", "random"]
    values = [0.3, 0.5, 0.5, 0.5, 0.7, 0.7, 0.7]
    rows = [{"system": n, "search": None, "BLEU-1": v} for n, v in zip(names, values, strict=True)]
    shown = [(row["system"], row["BLEU-1"]) for row in merged_rows(rows)]
    assert shown == [
        ("mine", 0.3),
        ("constant (BLEU-4, BLEU-1, BLEU-2)", 0.5),
        ("constant-CIDEr, most-frequent", 0.7),
        ("random", 0.7),
    ]
    alike = [{"system": name, "BLEU-1": 0.5} for name in CONSTANTS[:5]]
    assert [row["system"] for row in merged_rows(alike)] == ["constant (BLEU-1 to 4, ROUGE-L)"]
    alike = [{"system": name, "BLEU-1": float("nan")} for name in (*CONSTANTS, "mine")]
    assert [row["system"] for row in merged_rows(alike)] == ["constant (every metric)", "mine"]
