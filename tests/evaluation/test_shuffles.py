"""The permutation test keeps its size, has power, and says the same whatever the seed."""

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import binomtest

from xray_captioning.errors import DataError
from xray_captioning.evaluation.claims import shuffle_test, shuffled_orders
from xray_captioning.metrics.clinical import clinical_scores

FINDINGS = ("cardiomegaly", "left effusion", "scoliosis")


def written(present: np.ndarray) -> list[str]:
    """Return a text a row of (studies, 3)."""
    texts = [" . ".join(np.array(FINDINGS)[row]) for row in present]
    return [f"{text} ." if text else "clear lungs ." for text in texts]


def drawn(rng: np.random.Generator, studies: int = 60) -> np.ndarray:
    return rng.random((studies, 3)) < 0.25


def test_every_patient_gets_the_captions_of_one():
    patients = ["b", "a", "b", "c", "b", "a"]
    for order in shuffled_orders(patients, 50, seed=0):
        donors = np.array(patients)[order]
        assert len(set(donors[[0, 2, 4]])) == len(set(donors[[1, 5]])) == 1
        assert sorted({donors[0], donors[1], donors[3]}) == ["a", "b", "c"]
    single = list(shuffled_orders(range(20), 30, seed=1))
    assert all(sorted(order) == list(range(20)) for order in single)
    assert any((order == np.arange(20)).any() for order in single)  # a study may keep its own


def test_p_is_the_share_of_all_permutations():
    """Few studies have few permutations; p of random ones comes near the share of all."""
    rng = np.random.default_rng(3)
    present = drawn(rng, 6)
    references = written(present)
    texts = written(np.where(rng.random((6, 3)) < 0.6, present, drawn(rng, 6)))
    own = clinical_scores(references, texts)["clinical_f1"]
    scores = [clinical_scores(references, [texts[i] for i in order])["clinical_f1"] for order in permutations(range(6))]
    test = shuffle_test(references, [texts], range(6), seed=1)
    assert test.score == pytest.approx(own)
    assert test.shuffled == pytest.approx(np.mean(scores), abs=0.02)
    assert test.p == pytest.approx(np.mean(np.array(scores) >= own - 1e-9), abs=0.03)


@pytest.mark.parametrize("words", [False, True])
def test_no_captions_have_a_lower_p_than_the_references(words):
    """Shuffles among studies of the same findings change no score, whatever the captions."""
    rng = np.random.default_rng(5)
    for seed in range(20):
        present = drawn(rng, 6)
        references, texts = written(present), written(drawn(rng, 6))
        if words:
            references, texts = ([t.replace("c", "x").replace("e", "y") for t in c] for c in (references, texts))
        patients = np.repeat(range(6), 1 + seed % 2)
        references, texts = ([c[i] for i in patients] for c in (references, texts))
        test = shuffle_test(references, [texts], patients, seed, 199)
        best = shuffle_test(references, [references], patients, seed, 199)
        assert test.least_p == best.least_p == best.p <= test.p


def test_captions_that_do_not_look_are_found_out_whatever_the_seed():
    """A clear case has one verdict: that of one shuffle was another for 9 of 16 seeds."""
    rng = np.random.default_rng(11)
    present = drawn(rng, 200)
    references, blind = written(present), written(drawn(rng, 200))
    reads = written(np.where(rng.random((200, 3)) < 0.3, present, drawn(rng, 200)))
    for seed in range(20):
        assert shuffle_test(references, [blind], range(200), seed, 399).p > 0.05
        assert shuffle_test(references, [reads], range(200), seed, 399).p < 0.05


@pytest.mark.parametrize("studies_each", [1, 4])
def test_size(studies_each):
    """Of collapsed systems at most one in twenty is let pass, also where patients repeat.

    The findings of a patient's studies are alike, and so are the captions, of which those of
    four studies were taken for independent: one in four was let pass.
    """
    rng, silent, trials = np.random.default_rng(0), 0, 300
    patients = np.repeat(np.arange(120 // studies_each), studies_each)
    for _ in range(trials):
        references, blind = (written(drawn(rng, 120 // studies_each)[patients]) for _ in range(2))
        silent += shuffle_test(references, [blind], patients, 1, 99).p <= 0.05
    assert binomtest(silent, trials, 0.05, "greater").pvalue > 0.01


def test_the_score_of_several_runs_is_their_mean():
    rng = np.random.default_rng(2)
    present = drawn(rng)
    references = written(present)
    runs = [written(np.where(rng.random((60, 3)) < q, present, drawn(rng))) for q in (0.2, 0.8)]
    both = shuffle_test(references, runs, range(60), 0, 99)
    each = [shuffle_test(references, [run], range(60), 0, 99) for run in runs]
    assert both.score == pytest.approx(np.mean([test.score for test in each]))
    assert both.shuffled == pytest.approx(np.mean([test.shuffled for test in each]))


def test_a_perfect_system_has_all_that_is_possible():
    references = written(drawn(np.random.default_rng(4)))
    test = shuffle_test(references, [references], range(60), 0, 99)
    assert (test.score, test.p) == (1, 0.01)
    assert test.share == pytest.approx(1)


def test_one_patient_cannot_be_dealt():
    with pytest.raises(DataError, match="at least two"):
        shuffle_test(["a", "b"], [["a", "b"]], ["p", "p"])
