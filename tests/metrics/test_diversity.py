"""How much texts differ from each other."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_captioning.errors import DataError
from xray_captioning.metrics.ngrams import PackedTexts, caption_entropy, distinct_ngrams, numbered, occurrences

TEXTS = st.lists(st.lists(st.sampled_from("abc"), max_size=6).map(" ".join), min_size=1, max_size=9)


def test_by_hand() -> None:
    # Words a b a, a b: two different of five. Pairs ab ba, ab: two different of three.
    assert distinct_ngrams(["a b a", "a b"], 1) == 2 / 5
    assert distinct_ngrams(["a b a", "a b"], 2) == 2 / 3
    assert distinct_ngrams(["a", "b"], 2) == distinct_ngrams([""], 1) == 0
    assert caption_entropy(["a", "a", "b", "c"]) == 1.5


def test_a_collapsed_system_has_no_entropy() -> None:
    value = caption_entropy(["lungs clear ."] * 7)
    assert (value, math.copysign(1, value)) == (0, 1)


def test_all_different() -> None:
    assert caption_entropy([str(i) for i in range(64)]) == pytest.approx(6)
    assert distinct_ngrams([str(i) for i in range(64)], 1) == 1


@given(TEXTS)
@settings(max_examples=40)
def test_counted_one_by_one(texts: list[str]) -> None:
    for order in (1, 2):
        rows = [text.split() for text in texts]
        grams = [tuple(row[i : i + order]) for row in rows for i in range(len(row) - order + 1)]
        assert distinct_ngrams(texts, order) == (len(set(grams)) / len(grams) if grams else 0)
    assert caption_entropy(texts) == pytest.approx(caption_entropy(texts * 3))
    assert 0 <= caption_entropy(texts) <= math.log2(len(texts)) + 1e-9


@pytest.mark.parametrize("function", [caption_entropy, lambda texts: distinct_ngrams(texts, 1)])
@pytest.mark.parametrize(
    ("texts", "message"), [([], "no text"), ("a b", "one text"), (["a", None], r"texts\[1\] is not text but NoneType")]
)
def test_refuses_what_is_no_text(function, texts, message: str) -> None:
    with pytest.raises(DataError, match=message):
        function(texts)


@given(st.lists(st.text(max_size=8), max_size=6))
def test_packed_texts_are_the_texts(texts):
    packed = PackedTexts(texts)
    assert list(packed) == texts == packed[:]
    assert packed[1:4:2] == texts[1:4:2]
    assert [packed[-i] for i in range(1, len(texts) + 1)] == texts[::-1]
    with pytest.raises(IndexError):
        packed[len(texts)]


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 9), max_size=40))
def test_codes_are_numbered_by_first_appearance(codes):
    number, different = numbered(np.array(codes, dtype=np.uint64))
    assert different.tolist() == list(dict.fromkeys(codes))
    assert different[number].tolist() == codes


def test_occurrences_are_counted_by_first_appearance():
    assert occurrences(["b", "a", "b", "c", "b", "a"]).tolist() == [3, 2, 1]
