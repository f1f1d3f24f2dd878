"""Corrected p values, rivals that the test studies do not choose, and a statement with a level."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xray_captioning.evaluation.baselines import System
from xray_captioning.evaluation.claims import beats_every_baseline, fixed_rival, holm, paired_tests
from xray_captioning.evaluation.jackknife import COMPARED, Jackknife

probabilities = st.lists(st.floats(0, 1), max_size=12)


def by_definition(p: list[float]) -> list[float]:
    """Holm's corrected value: the largest of (m - k) p(k) up to its own rank, at most 1."""
    ranked = sorted(p)
    steps = [min(1.0, (len(p) - k) * value) for k, value in enumerate(ranked)]
    return [max(steps[: ranked.index(value) + 1]) for value in p]


@given(probabilities)
def test_holm_is_its_definition(p):
    assert holm(p) == pytest.approx(by_definition(p))


def test_holm_of_a_published_example_and_of_nothing():
    # R: p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm")
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert holm([0.01, float("nan"), 0.04]) == pytest.approx([0.02, float("nan"), 0.04], nan_ok=True)
    assert holm([]) == []


def jackknife_of(means: dict[str, float], error: float = 0.05) -> Jackknife:
    rng, patients = np.random.default_rng(0), 100
    scores = {name: dict.fromkeys(COMPARED, mean) for name, mean in means.items()}
    spread = error * np.sqrt(patients)
    pseudo = {
        name: {m: mean + spread * rng.standard_normal(patients) for m in COMPARED} for name, mean in means.items()
    }
    support = dict.fromkeys((*COMPARED, "micro_f1"), patients)
    return Jackknife(scores, pseudo, dict.fromkeys(means, support))


def systems_of(*names: str) -> list[System]:
    base = ("constant", "constant-BLEU-1", "random", "label-oracle")
    return [System(n, None, [], "baseline" if n in base else "system") for n in names]


def test_the_fixed_rival_is_chosen_by_the_training_texts():
    systems = systems_of("a", "constant", "constant-BLEU-1")
    assert fixed_rival(systems, "BLEU-1") == "constant-BLEU-1"
    assert fixed_rival(systems, "clinical_f1") == "constant"
    assert fixed_rival(systems[:1], "clinical_f1") is None
    found = jackknife_of({"a": 0.5, "constant": 0.1, "constant-BLEU-1": 0.9})
    rivals = {row["rival"] for row in paired_tests(systems, found)}
    assert rivals == {"constant"}  # although the other is the strongest on these studies


def test_each_metric_is_a_family():
    systems = systems_of("a", "b", "c", "constant")
    found = jackknife_of({"a": 0.5, "b": 0.45, "c": 0.3, "constant": 0.25})
    rows = paired_tests(systems, found)
    for metric in COMPARED:
        family = [row for row in rows if row["metric"] == metric]
        assert len(family) == 6
        assert [row["p_holm"] for row in family] == pytest.approx(holm([r["p"] for r in family]))
    assert any(row["p"] <= 0.05 < row["p_holm"] for row in rows)


def test_beats_every_baseline_is_said_only_where_every_test_says_so():
    """An intersection-union test: all rivals at .05; the oracle, shown the answer, is none."""
    names = ("good", "near", "constant", "random", "label-oracle")
    means = {"good": 0.6, "near": 0.35, "constant": 0.3, "random": 0.1, "label-oracle": 1.0}
    found = jackknife_of(means)
    rows = beats_every_baseline(systems_of(*names), found)
    assert {row["system"] for row in rows} == {"good"}
    assert [row["metric"] for row in rows] == list(COMPARED)
    tests = [found.compare("good", rival, "BLEU-4").p for rival in ("constant", "random")]
    assert rows[1] == {
        "system": "good",
        "metric": "BLEU-4",
        "rivals": ["constant", "random"],
        "p": max(tests),
        "level": 0.05,
    }
    assert beats_every_baseline(systems_of("good"), found) == []
