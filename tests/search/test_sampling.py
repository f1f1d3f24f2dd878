"""Words drawn at random come out as often as they should."""

import numpy as np
import pytest
from scipy.stats import chisquare

from tests.search.test_search import END, START, all_of, caption, toy
from xray_captioning.backend import ops
from xray_captioning.search import Rules, Sampling, greedy_search, sample_search

LOGITS = np.array([0.3, -1.0, 0.5, 2.0, 1.0, -0.5, 0.0, 1.5])
DRAWS = 4000


def first_words(sampling, rules=None):
    """Draw the first word of many captions."""
    rules = rules or Rules(START, END, 1)

    def step(token, state):
        return ops.zeros((token.shape[0], 1)) + LOGITS.astype("float32"), state

    noise = np.random.default_rng(sampling.seed).random((DRAWS, 1), dtype="float32")
    found = sample_search({"none": ops.zeros((DRAWS,))}, step, all_of(DRAWS), rules, sampling, noise)
    return np.bincount(ops.convert_to_numpy(found.tokens)[:, 0, 0], minlength=8), found


def probabilities(temperature=1.0, among=range(8)):
    weights = np.where(np.isin(range(8), list(among)), np.exp(LOGITS / temperature), 0)
    return weights / weights.sum()


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(seed=1), probabilities()),
        (Sampling(temperature=0.5, seed=2), probabilities(0.5)),
        (Sampling(temperature=3.0, seed=3), probabilities(3.0)),
        (Sampling(top_k=3, seed=4), probabilities(among=(3, 7, 4))),
        (Sampling(top_k=99, seed=5), probabilities()),
        # .39 and .24 are less than .7; with .14 they are more.
        (Sampling(top_p=0.7, seed=6), probabilities(among=(3, 7, 4))),
        (Sampling(top_p=0.01, seed=7), probabilities(among=(3,))),
        (Sampling(temperature=0.5, top_k=4, top_p=0.8, seed=8), probabilities(0.5, (3, 7))),
    ],
)
def test_words_are_drawn_as_often_as_they_should(sampling, expected):
    counts, found = first_words(sampling)
    assert not counts[expected == 0].any()
    possible = expected > 0
    pvalue = chisquare(counts[possible], DRAWS * expected[possible]).pvalue
    assert not pvalue < 1e-3  # not a number where one word only is possible
    # What is told of a word is the model's own probability, whatever it was drawn from.
    tokens = ops.convert_to_numpy(found.tokens)[:, 0, 0]
    np.testing.assert_allclose(found.log_probabilities[:, 0], np.log(probabilities())[tokens], atol=1e-5)


def test_forbidden_words_are_never_drawn():
    counts, _ = first_words(Sampling(seed=9), Rules(START, END, 1, banned=(3, 0)))
    allowed = [1, 2, 4, 5, 6, 7]
    assert counts[allowed].sum() == DRAWS
    expected = DRAWS * probabilities(among=allowed)[allowed]
    assert chisquare(counts[allowed], expected).pvalue > 1e-3


def drawn(table, sampling, noise):
    studies = len(table)
    rules = Rules(START, END, 9, no_repeat_ngram=2)
    found = sample_search(*toy(table), all_of(studies), rules, sampling, noise)
    return ops.convert_to_numpy(found.tokens)[:, 0]


def test_nearly_no_temperature_is_greedy():
    table = np.random.default_rng(0).normal(size=(6, 7, 7, 7))
    noise = np.random.default_rng(1).random((6, 9), dtype="float32")
    greedy = greedy_search(*toy(table), all_of(6), Rules(START, END, 9, no_repeat_ngram=2))
    found = drawn(table, Sampling(temperature=1e-4), noise)
    assert np.array_equal(found, ops.convert_to_numpy(greedy.tokens)[:, 0])


def test_a_study_draws_the_same_alone_and_in_a_batch():
    table = np.random.default_rng(2).normal(size=(70, 6, 6, 6))
    noise = np.random.default_rng(3).random((70, 9), dtype="float32")
    together = drawn(table, Sampling(top_p=0.9), noise)
    assert len({caption(row) for row in together}) > 30
    for i in (0, 1, 69):
        alone = drawn(table[i : i + 1], Sampling(top_p=0.9), noise[i : i + 1])
        assert np.array_equal(alone[0], together[i])
