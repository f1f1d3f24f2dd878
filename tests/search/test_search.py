"""Search against a toy step that needs no model, and against brute force."""

import itertools

import numpy as np
import pytest

from xray_captioning.backend import keras, ops
from xray_captioning.search import Rules, beam_search, greedy_search

START, END = 1, 2


def toy(table):
    """A step whose logits depend on the last two tokens: table (batch, V, V, V)."""
    table = np.asarray(table, "float32")
    batch, vocabulary = table.shape[:2]

    def step(token, state):
        flat = state["row"] * vocabulary**2 + state["last"] * vocabulary + token
        logits = ops.take(ops.reshape(ops.convert_to_tensor(table), (-1, vocabulary)), flat, axis=0)
        return logits, {"row": state["row"], "last": token}

    state = {"row": ops.arange(batch, dtype="int32"), "last": ops.zeros((batch,), dtype="int32")}
    return state, step


def all_of(studies):
    return ops.ones((studies,), dtype="bool")


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
    found = beam_search(state, step, all_of(3), Rules(START, END, length), len(captions), penalty)
    for row in range(3):
        score = {c: log_probability(table[row], c) / ((5 + len(c)) / 6) ** penalty for c in captions}
        best = sorted(score, key=score.get, reverse=True)[:10]
        tokens = ops.convert_to_numpy(found.tokens)[row, :10]
        assert [caption(t) for t in tokens] == best
        np.testing.assert_allclose(ops.convert_to_numpy(found.scores)[row, :10], [score[c] for c in best], atol=1e-5)


def test_beam_of_one_equals_greedy():
    table = np.random.default_rng(0).normal(size=(30, 7, 7, 7)) * 2
    rules = Rules(START, END, 9, banned=(0,))
    greedy = greedy_search(*toy(table), all_of(30), rules)
    for penalty in (0.0, 1.0):
        beam = beam_search(*toy(table), all_of(30), rules, 1, penalty)
        assert np.array_equal(greedy.tokens, beam.tokens)
        np.testing.assert_allclose(greedy.log_probabilities, beam.log_probabilities, atol=1e-5)


def test_a_wider_beam_never_scores_lower_than_greedy_on_average():
    table = np.random.default_rng(3).normal(size=(50, 6, 6, 6)) * 2
    rules = Rules(START, END, 8)
    greedy = greedy_search(*toy(table), all_of(50), rules)
    beam = beam_search(*toy(table), all_of(50), rules, 4)
    gain = ops.convert_to_numpy(beam.log_probabilities)[:, 0] - ops.convert_to_numpy(greedy.log_probabilities)[:, 0]
    assert gain.mean() > 0


def test_log_probability_is_that_of_the_tokens():
    table = np.random.default_rng(1).normal(size=(4, 5, 5, 5))
    found = beam_search(*toy(table), all_of(4), Rules(START, END, 6), 3, 0.5)
    for row, beam in itertools.product(range(4), range(3)):
        tokens = caption(ops.convert_to_numpy(found.tokens)[row, beam])
        assert float(found.log_probabilities[row, beam]) == pytest.approx(log_probability(table[row], tokens), abs=1e-5)


def test_captions_of_a_beam_are_distinct():
    table = np.random.default_rng(2).normal(size=(8, 5, 5, 5))
    found = ops.convert_to_numpy(beam_search(*toy(table), all_of(8), Rules(START, END, 6), 5).tokens)
    assert all(len({tuple(t) for t in row}) == 5 for row in found)


@pytest.mark.parametrize("search", ["greedy", "beam"])
def test_banned_tokens_and_repeated_ngrams_are_never_chosen(search):
    table = np.zeros((2, 5, 5, 5))
    table[..., 3] = 5  # would say 3 for ever
    table[..., 0] = 9
    table[..., END] = -30
    rules = Rules(START, END, 10, banned=(0,), no_repeat_ngram=2)
    found = (
        greedy_search(*toy(table), all_of(2), rules)
        if search == "greedy"
        else beam_search(*toy(table), all_of(2), rules, 3)
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
    together = beam_search(*toy(table), all_of(5), rules, 3)
    for row in (1, 4):
        alone = beam_search(*toy(table[row : row + 1]), all_of(1), rules, 3)
        assert np.array_equal(alone.tokens[0], together.tokens[row])


@pytest.mark.parametrize("search", [greedy_search, lambda *args: beam_search(*args, 3, 0.5)])
def test_gains_are_those_of_the_tokens_and_add_up(search):
    table = np.random.default_rng(1).normal(size=(4, 5, 5, 5))
    found = search(*toy(table), all_of(4), Rules(START, END, 6))
    for row in range(4):
        tokens = caption(ops.convert_to_numpy(found.tokens)[row, 0])
        steps = [log_probability(table[row], tokens[:n]) for n in range(len(tokens) + 1)]
        expected = np.pad(np.diff(steps), (0, 6 - len(tokens)))
        np.testing.assert_allclose(found.gains[row, 0], expected, atol=1e-5)
    sums = ops.sum(found.gains, axis=2)
    np.testing.assert_allclose(sums, found.log_probabilities, atol=1e-5)


@pytest.mark.parametrize("search", [greedy_search, lambda *args: beam_search(*args, 3)])
def test_attention_is_that_of_the_best_caption(search):
    table = np.random.default_rng(8).normal(size=(6, 7, 7, 7))
    state, step = toy(table)
    state["attention"] = ops.zeros((6, 7))

    def looking(token, state):  # at the region with the number of the token it reads
        logits, after = step(token, state)
        return logits, {**after, "attention": ops.one_hot(token, 7)}

    found = search(state, looking, all_of(6), Rules(START, END, 9))
    for tokens, maps in zip(ops.convert_to_numpy(found.tokens)[:, 0], found.attention):
        read = (START, *caption(tokens))[:-1]
        assert np.argmax(maps, axis=1)[: len(read)].tolist() == list(read)


def test_a_state_leaf_that_no_step_changes_is_the_same_for_all_beams():
    table = np.random.default_rng(9).normal(size=(4, 6, 6, 6))
    rules = Rules(START, END, 7)
    state, step = toy(table)

    def rebuilding(token, state):
        logits, after = step(token, state)
        return logits, {**after, "row": after["row"] + 0}

    kept = beam_search(state, step, all_of(4), rules, 3)
    moved = beam_search(state, rebuilding, all_of(4), rules, 3)
    assert np.array_equal(kept.tokens, moved.tokens)


def counting(state, step):
    """The same search, whose attention tells how many steps there were."""

    def counted(token, state):
        logits, after = step(token, {name: state[name] for name in ("row", "last")})
        return logits, {**after, "attention": state["attention"] + 1}

    return {**state, "attention": ops.zeros((state["row"].shape[0], 1))}, counted


SEARCHES = {"greedy": greedy_search, "beam": lambda *args: beam_search(*args, 3)}


@pytest.mark.parametrize("search", SEARCHES)
def test_a_token_costs_one_step_and_the_last_end_is_the_last_step(search):
    table = np.random.default_rng(4).normal(size=(8, 6, 6, 6))
    table[..., END] += 3
    found = SEARCHES[search](*counting(*toy(table)), all_of(8), Rules(START, END, 40))
    longest = max(len(caption(t)) for t in ops.convert_to_numpy(found.tokens)[:, 0])
    steps = int(np.max(found.attention))
    assert steps < 40
    assert steps == longest if search == "greedy" else steps >= longest


@pytest.mark.parametrize("search", SEARCHES)
def test_padding_is_finished_before_it_begins(search):
    table = np.zeros((5, 6, 6, 6))
    table[:2, ..., END] = 30  # the first two studies end at once, the others never would
    table[2:, ..., END] = -30
    real = ops.convert_to_tensor([True, True, False, False, False])
    found = SEARCHES[search](*counting(*toy(table)), real, Rules(START, END, 40))
    assert int(np.max(found.attention)) < 5
    assert not ops.convert_to_numpy(found.tokens)[2:].any()


@pytest.mark.parametrize("search", SEARCHES)
def test_the_unfinished_quarter_of_a_large_batch_continues_alone(search):
    table = np.random.default_rng(5).normal(size=(70, 6, 6, 6)) * 2
    table[..., END] += 5
    table[::7, ..., END] -= 14  # ten long captions
    rules, rows = Rules(START, END, 12), set()
    state, step = toy(table)

    def seen(token, state):
        rows.add(token.shape[0])
        return step(token, state)

    together = SEARCHES[search](state, seen, all_of(70), rules)
    beams = 1 if search == "greedy" else 3
    assert rows == {70 * beams, 17 * beams}
    alone = [SEARCHES[search](*toy(table[i : i + 35]), all_of(35), rules) for i in (0, 35)]
    for name in ("tokens", "log_probabilities", "gains"):
        expected = np.concatenate([getattr(part, name) for part in alone])
        np.testing.assert_allclose(getattr(together, name), expected, atol=1e-5)


def test_search_runs_compiled():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("compiles with tf.function")
    import tensorflow as tf

    table = np.random.default_rng(7).normal(size=(4, 6, 6, 6))
    state, step = toy(table)
    rules = Rules(START, END, 6, no_repeat_ngram=2)
    eager = beam_search(state, step, all_of(4), rules, 3)
    run = tf.function(lambda s: beam_search(s, step, all_of(4), rules, 3), jit_compile=True)
    assert np.array_equal(run(state).tokens, eager.tokens)
