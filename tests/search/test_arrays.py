"""Searches over NumPy's arrays find what the same searches over Keras' tensors find."""

import subprocess
import sys

import numpy as np
import pytest

from xray_captioning.backend import ops
from xray_captioning.search import Rules, Sampling, beam_search, greedy_search, sample_search
from xray_captioning.search.loop import array_namespace, map_structure, numpy_ops

START, END, VOCABULARY, STUDIES, LENGTH = 1, 2, 9, 70, 7
RULES = [Rules(START, END, LENGTH), Rules(START, END, LENGTH, (0, START), 2)]


def toy(table, namespace):
    """A step that knows the token before and how often it was called, and looks somewhere."""
    kept = namespace.convert_to_tensor(table)

    def step(token, state):
        row = state["study"]["row"]
        row = namespace.repeat(row, token.shape[0] // row.shape[0])
        logits = namespace.take(kept, row * VOCABULARY + token, axis=0) + state["seen"]
        looked = namespace.softmax(logits[:, :3], axis=-1)
        return logits, {**state, "seen": state["seen"] * 0.5 + logits, "attention": looked}

    zeros = namespace.convert_to_tensor(np.zeros((STUDIES, VOCABULARY), "float32"))
    state = {
        "seen": zeros,
        "attention": namespace.convert_to_tensor(np.zeros((STUDIES, 3), "float32")),
        "study": {"row": namespace.convert_to_tensor(np.arange(STUDIES, dtype="int32"))},
    }
    return state, step, namespace.convert_to_tensor(np.arange(STUDIES) < STUDIES - 2)


def table(seed):
    values = np.random.default_rng(seed).normal(size=(STUDIES * VOCABULARY, VOCABULARY))
    values[:, END] += np.repeat(np.arange(STUDIES) / 20, VOCABULARY)  # most are short, some long
    return values.astype("float32")


SEARCHES = {
    "greedy": greedy_search,
    "beam": lambda *known: beam_search(*known, 3, 0.7),
    "sampling": lambda *known: sample_search(
        *known, Sampling(0.8, 4, 0.9), np.random.default_rng(0).random((STUDIES, LENGTH), "float32")
    ),
}


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("rules", RULES, ids=["plain", "rules"])
def test_arrays_give_what_tensors_give(name, rules):
    found, expected = (SEARCHES[name](*toy(table(3), namespace), rules) for namespace in (numpy_ops, ops))
    said = found.tokens[:, 0, :, None] > 0
    for one, other in zip(found, expected):
        other = ops.convert_to_numpy(other)
        if one is found.attention:  # behind the end it means nothing
            one, other = np.where(said, one, 0), np.where(said, other, 0)
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_a_study_that_is_done_leaves_the_batch():
    """Nothing is compiled for another size of it, so that long captions alone are read on."""
    state, step, real = toy(table(3), numpy_ops)
    read = []
    result = greedy_search(state, lambda token, state: (read.append(len(token)), step(token, state))[1], real, RULES[0])
    lengths = (result.tokens[:, 0] > 0).sum(axis=1)
    assert len(read) == lengths.max()
    assert read == sorted(read, reverse=True)
    assert sum(read) < 0.9 * STUDIES * len(read)


@pytest.mark.parametrize("columns", [5, 1000])
def test_of_equal_values_the_first_comes_first(columns):
    values = np.random.default_rng(0).integers(0, 4, (6, columns)).astype("float32")
    for one, other in zip(numpy_ops.top_k(values, 3), ops.top_k(values, 3)):
        np.testing.assert_array_equal(one, ops.convert_to_numpy(other))


def test_namespace_is_that_of_the_first_leaf():
    assert array_namespace({"a": [(np.zeros(1),)]}) is numpy_ops
    assert array_namespace({"a": ops.zeros(1)}) is ops


def test_structure_is_kept():
    tree = {"a": [1, (2, 3)], "b": 4}
    assert map_structure(lambda x, y: x + y, tree, tree) == {"a": [2, (4, 6)], "b": 8}


def test_search_over_arrays_loads_no_keras():
    code = (
        "import sys, numpy as np\nfrom xray_captioning.search import Rules, greedy_search\n"
        "step = lambda token, state: (np.eye(4, dtype='float32')[token], state)\n"
        "greedy_search({'a': np.zeros((2, 1))}, step, np.ones(2, bool), Rules(1, 2, 3))\n"
        "assert not {'keras', 'tensorflow', 'jax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
