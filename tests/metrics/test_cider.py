"""CIDEr as pycocoevalcap computes it."""

import math

import numpy as np
import pytest

from tests.metrics.rows import cider_rows
from tests.metrics.test_bleu import random_pairs
from xray_captioning.metrics import cider as module
from xray_captioning.metrics import ngrams
from xray_captioning.metrics.cider import cider_of_constants


@pytest.mark.parametrize("most_references", [1, 4])
def test_equals_pycocoevalcap(most_references: int) -> None:
    peer = pytest.importorskip("pycocoevalcap.cider.cider")
    references, hypotheses = random_pairs(1000, most_references)
    mean, rows = peer.Cider().compute_score(dict(enumerate(references)), {i: [h] for i, h in enumerate(hypotheses)})
    assert cider_rows(references, hypotheses) == pytest.approx(rows, abs=1e-9)
    assert cider_rows(references, hypotheses).mean() == pytest.approx(mean, abs=1e-9)


def test_identical_and_disjoint_texts() -> None:
    references = ["a b c d", "e f g h", "i j k l"]
    assert cider_rows(references, references) == pytest.approx([10.0] * 3)
    assert cider_rows(references, references[1:] + references[:1]).tolist() == [0.0] * 3
    # Only orders 1 and 2 exist in a text of two words.
    assert cider_rows(["a b", "c d"], ["a b", "c d"]).mean() == pytest.approx(5.0)


def test_by_hand() -> None:
    # "a" is in both references and weighs nothing; "b" is in one and weighs log 2.
    rows = cider_rows(["a b", "a c"], ["b", "x"])
    # Order 1: cosine 1. One word pair fewer: Gaussian of width 6. Mean of 4 orders, times 10.
    assert rows == pytest.approx([10 / 4 * math.exp(-1 / 72), 0.0])


def test_words_of_every_study_weigh_exactly_nothing() -> None:
    for number in (1, 2, 3, 7, 49, 590):
        texts = ["no acute disease ."] * number
        assert cider_rows(texts, texts).tolist() == [0.0] * number


def test_empty_texts() -> None:
    assert cider_rows(["", "a", ""], ["", "", "a"]).tolist() == [0.0] * 3
    assert cider_rows([""], [""]).tolist() == [0.0]


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    references, hypotheses = random_pairs(60, 3)
    whole = cider_rows(references, hypotheses)
    monkeypatch.setattr(ngrams, "BLOCK", 7)
    assert np.allclose(cider_rows(references, hypotheses), whole, rtol=0, atol=1e-12)


def test_one_text_said_of_every_study(monkeypatch: pytest.MonkeyPatch) -> None:
    references, hypotheses = random_pairs(60, 1)
    targets = [texts[0] for texts in references]
    expected = [cider_rows(targets, [text] * 60).mean() for text in hypotheses[:20]]
    monkeypatch.setattr(module, "_CANDIDATES", 7)
    assert cider_of_constants(targets, hypotheses[:20]) == pytest.approx(expected)
