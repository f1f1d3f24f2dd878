"""Captions, scores, labels, pixels and features are what they were, whatever versions are installed."""

import pytest

from tests.golden.measured import KINDS, TOLERANCES, kept, moved, plain

RENEW = "if that is meant: python -m tests.golden.measured --renew, and a line in CHANGELOG.md that says what and why"


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_stay(kind, eagerly):
    lines = list(moved(kept(kind), plain(KINDS[kind]()), TOLERANCES[kind], kind))
    assert not lines, "\n".join([f"{len(lines)} moved", *lines[:40], RENEW])


def test_what_moved_is_named():
    before = {"a": [1.0, "x", 3], "b": {"c": None}, "d": 2.0}
    assert list(moved(before, {"a": [1.0005, "x", 3], "b": {"c": None}, "d": 2}, 1e-3)) == []
    now = {"a": [1.1, "y", 3], "b": {"c": 0}, "d": "nan"}
    assert list(moved(before, now, 1e-3, "k")) == [
        "k / a / 0: 1.0 -> 1.1",
        "k / a / 1: x -> y",
        "k / b / c: None -> 0",
        "k / d: 2.0 -> nan",
    ]
    assert list(moved({"a": 1}, {}, 0.0)) == [": {'a': 1} -> {}"]
