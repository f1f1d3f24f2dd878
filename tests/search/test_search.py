"""Search against a toy step that needs no model, and against brute force."""

import itertools

import numpy as np
import pytest

from xray_captioning.backend import keras, ops
from xray_captioning.search import Rules, beam_search, greedy_search, replay

START, END = 1, 2


def toy(table):
    """A step whose logits depend on the last two tokens: table (batch, V, V, V)."""
    table = np.asarray(table, "float32")
    batch, vocabulary = table.shape[:2]

    def step(token, state):
        flat = state["row"] * vocabulary**2 + state["last"] * vocabulary + token
        logits = ops.take(ops.reshape(ops.convert_to_tensor(table), (-1, vocabulary)), flat, axis=0)
        return logits, {"row": state["row"], "last": token}

    state = {
        "row": ops.arange(batch, dtype="int32"),
        "last": ops.zeros((batch,), dtype="int32"),
    }
    return state, step


def log_probability(table, tokens):
    last, token, total = 0, START, 0.0
    for t in tokens:
        logits = table[last, token]
        total += logits[t] - np.log(np.exp(logits).sum())
        last, token = token, t
    return total


def every_caption(vocabulary, length):
    words = [w for w in range(vocabulary) if w != END]
    for n in range(length):
        yield from ((*body, END) for body in itertools.product(words, repeat=n))
    yield from itertools.product(words, repeat=length)


def caption(row):
    row = [int(t) for t in row]
    return tuple(row[: row.index(END) + 1]) if END in row else tuple(row)


@pytest.mark.parametrize("penalty", [0.0, 0.7])
def test_wide_beam_equals_brute_force(penalty):
    vocabulary, length = 4, 4
    table = np.random.default_rng(0).normal(size=(3, vocabulary, vocabulary, vocabulary)) * 2
    captions = list(every_caption(vocabulary, length))
    state, step = toy(table)
    found = beam_search(state, step, 3, Rules(START, END, length), len(captions), penalty)
    for row in range(3):
        score = {
            c: log_probability(table[row], c) / ((5 + len(c)) / 6) ** penalty for c in captions
        }
        best = sorted(score, key=score.get, reverse=True)[:10]
        tokens = ops.convert_to_numpy(found.tokens)[row, :10]
        assert [caption(t) for t in tokens] == best
        np.testing.assert_allclose(
            ops.convert_to_numpy(found.scores)[row, :10], [score[c] for c in best], atol=1e-5
        )


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_beam_of_one_equals_greedy(seed, penalty):
    table = np.random.default_rng(seed).normal(size=(6, 7, 7, 7)) * 2
    rules = Rules(START, END, 9, banned=(0,))
    greedy = greedy_search(*toy(table), 6, rules)
    beam = beam_search(*toy(table), 6, rules, 1, penalty)
    assert np.array_equal(greedy.tokens, beam.tokens)
    np.testing.assert_allclose(greedy.log_probabilities, beam.log_probabilities, atol=1e-5)


def test_a_wider_beam_never_scores_lower_than_greedy_on_average():
    table = np.random.default_rng(3).normal(size=(50, 6, 6, 6)) * 2
    rules = Rules(START, END, 8)
    greedy = greedy_search(*toy(table), 50, rules)
    beam = beam_search(*toy(table), 50, rules, 4)
    gain = (
        ops.convert_to_numpy(beam.log_probabilities)[:, 0]
        - ops.convert_to_numpy(greedy.log_probabilities)[:, 0]
    )
    assert gain.mean() > 0


def test_log_probability_is_that_of_the_tokens():
    table = np.random.default_rng(1).normal(size=(4, 5, 5, 5))
    found = beam_search(*toy(table), 4, Rules(START, END, 6), 3, 0.5)
    for row, beam in itertools.product(range(4), range(3)):
        tokens = caption(ops.convert_to_numpy(found.tokens)[row, beam])
        assert float(found.log_probabilities[row, beam]) == pytest.approx(
            log_probability(table[row], tokens), abs=1e-5
        )


def test_captions_of_a_beam_are_distinct():
    table = np.random.default_rng(2).normal(size=(8, 5, 5, 5))
    found = ops.convert_to_numpy(beam_search(*toy(table), 8, Rules(START, END, 6), 5).tokens)
    assert all(len({tuple(t) for t in row}) == 5 for row in found)


@pytest.mark.parametrize("search", ["greedy", "beam"])
def test_banned_tokens_and_repeated_ngrams_are_never_chosen(search):
    table = np.zeros((2, 5, 5, 5))
    table[..., 3] = 5  # would say 3 for ever
    table[..., 0] = 9
    table[..., END] = -30
    rules = Rules(START, END, 10, banned=(0,), no_repeat_ngram=2)
    found = (
        greedy_search(*toy(table), 2, rules)
        if search == "greedy"
        else beam_search(*toy(table), 2, rules, 3)
    )
    for row in ops.convert_to_numpy(found.tokens)[:, 0]:
        said = [t for t in caption(row) if t]
        pairs = list(itertools.pairwise(said))
        assert len(pairs) == len(set(pairs))
        assert said[:2] == [3, 3]
    assert not (ops.convert_to_numpy(found.log_probabilities) < -1e6).any()


def test_a_finished_study_is_not_changed_by_a_longer_neighbour():
    table = np.random.default_rng(5).normal(size=(5, 6, 6, 6)) * 3
    rules = Rules(START, END, 7)
    together = beam_search(*toy(table), 5, rules, 3)
    for row in range(5):
        alone = beam_search(*toy(table[row : row + 1]), 1, rules, 3)
        assert np.array_equal(alone.tokens[0], together.tokens[row])


def test_replay_gives_back_the_search_total():
    table = np.random.default_rng(6).normal(size=(4, 6, 6, 6))
    found = greedy_search(*toy(table), 4, Rules(START, END, 6))
    state, step = toy(table)
    gains, attention = replay(state, step, found.tokens[:, 0], START)
    real = ops.convert_to_numpy(found.tokens)[:, 0] > 0
    real |= np.cumsum(ops.convert_to_numpy(found.tokens)[:, 0] == END, axis=1) == 0
    total = (ops.convert_to_numpy(gains) * real).sum(axis=1)
    np.testing.assert_allclose(total, found.log_probabilities[:, 0], atol=1e-5)
    assert attention.shape == (4, 6, 0)


def test_search_runs_compiled():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("compiles with tf.function")
    import tensorflow as tf

    table = np.random.default_rng(7).normal(size=(4, 6, 6, 6))
    state, step = toy(table)
    rules = Rules(START, END, 6, no_repeat_ngram=2)
    eager = beam_search(state, step, 4, rules, 3)
    for jit in (False, True):
        run = tf.function(lambda s: beam_search(s, step, 4, rules, 3), jit_compile=jit)
        assert np.array_equal(run(state).tokens, eager.tokens)
