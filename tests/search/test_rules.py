"""The likeliest allowed tokens, against sorting and against plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_captioning.backend import ops
from xray_captioning.search.loop import Rules, continuations, largest, write_at


@pytest.mark.parametrize(("columns", "k"), [(7, 7), (300, 2), (1387, 1), (1387, 9), (6400, 5)])
@pytest.mark.parametrize("values", ["normal", "ties"])
def test_the_largest_are_those_of_a_stable_sort(columns, k, values):
    rng = np.random.default_rng(columns + k)
    rows = rng.normal(size=(6, columns)) if values == "normal" else rng.integers(3, size=(6, columns))
    found, where = largest(ops.convert_to_tensor(rows.astype("float32")), k)
    expected = np.argsort(-rows, axis=1, kind="stable")[:, :k]
    assert np.array_equal(where, expected)
    np.testing.assert_allclose(found, np.take_along_axis(rows, expected, axis=1), rtol=1e-6)


def allowed(tokens, time, token, banned, n):
    said = [*tokens[:time], token]
    grams = [tuple(said[i : i + n]) for i in range(len(said) - n + 1)] if n else []
    return token not in banned and (not grams or grams[-1] not in grams[:-1])


@settings(max_examples=30, deadline=None)
@given(
    tokens=st.lists(st.integers(0, 4), min_size=7, max_size=7),
    time=st.integers(0, 6),
    banned=st.sets(st.integers(0, 4), max_size=3),
    n=st.integers(0, 4),
    width=st.integers(1, 5),
)
def test_continuations_are_the_likeliest_that_the_rules_allow(tokens, time, banned, n, width):
    logits = np.random.default_rng(time).normal(size=(1, 5)).astype("float32")
    said = np.where(np.arange(7) < time, tokens, 0)[None].astype("int32")
    rules = Rules(1, 2, 7, tuple(banned), n)
    now = ops.convert_to_tensor(time, "int32")
    gains, found = continuations(ops.convert_to_tensor(logits), ops.convert_to_tensor(said), now, rules, width)
    gains, found = ops.convert_to_numpy(gains)[0], ops.convert_to_numpy(found)[0]
    free = [t for t in range(5) if allowed(tokens, time, t, banned, n)]
    best = sorted(free, key=lambda t: -logits[0, t])[:width]
    assert [t for t, gain in zip(found, gains) if gain > -1e8] == best
    total = np.log(np.exp(logits[0]).sum())
    np.testing.assert_allclose(gains[gains > -1e8], logits[0, best] - total, atol=1e-5)


def test_writing_touches_one_place():
    kept = ops.zeros((2, 3, 4), dtype="int32")
    found = ops.convert_to_numpy(write_at(kept, ops.ones((2, 4), dtype="int32"), 1, 1))
    assert found[:, 1].all()
    assert not found[:, [0, 2]].any()
