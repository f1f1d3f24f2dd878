"""chrF as sacrebleu prints it."""

import random
import sys

import numpy as np
import pytest

from tests.metrics.test_bleu import random_pairs
from xray_captioning.errors import DataError, MissingExtraError
from xray_captioning.metrics.chrf import chrf_from_statistics, chrf_statistics

EDGES = [
    ("", ""),
    ("", "a"),
    ("a", ""),
    ("abc", "abc"),
    ("abcdefg", "a"),
    ("ab", " a b\t"),
    ("é", "e"),
]


def chrf(references: list, hypotheses: list[str]) -> float:
    return chrf_from_statistics(chrf_statistics(references, hypotheses).sum(axis=0))


def sacrebleu_score(references: list[list[str]], hypotheses: list[str]) -> float:
    metrics = pytest.importorskip("sacrebleu.metrics")
    most = max(map(len, references))
    columns = [[(texts + [None] * most)[i] for texts in references] for i in range(most)]
    return metrics.CHRF().corpus_score(hypotheses, columns).score


@pytest.mark.parametrize("most_references", [1, 3])
def test_equals_sacrebleu_on_random_texts(most_references: int) -> None:
    references, hypotheses = random_pairs(200, most_references)
    expected = sacrebleu_score(references, hypotheses)
    assert chrf(references, hypotheses) == pytest.approx(expected, abs=1e-9)


def test_equals_sacrebleu_on_edge_cases() -> None:
    for reference, hypothesis in EDGES:
        expected = sacrebleu_score([[reference]], [hypothesis])
        assert chrf([reference], [hypothesis]) == pytest.approx(expected, abs=1e-9)
    references, hypotheses = map(list, zip(*EDGES))
    expected = sacrebleu_score([[text] for text in references], hypotheses)
    assert chrf(references, hypotheses) == pytest.approx(expected, abs=1e-9)


def test_a_resample_needs_only_sums() -> None:
    pytest.importorskip("sacrebleu")
    references, hypotheses = random_pairs(20, 1)
    statistics = chrf_statistics(references, hypotheses)
    assert statistics.shape == (20, 6, 3)
    chosen = random.Random(0).choices(range(20), k=20)
    again = chrf([references[i] for i in chosen], [hypotheses[i] for i in chosen])
    both = chrf_from_statistics(np.stack([statistics.sum(0), statistics[chosen].sum(0)]))
    assert both == pytest.approx([chrf(references, hypotheses), again])


def test_by_hand() -> None:
    # "ab" against "abc": orders 1 and 2 have precision 1, recall 2/3 and 1/2; "ab" has no order 3.
    counts = np.zeros((6, 3), dtype=int)
    counts[:3] = [[2, 3, 2], [1, 2, 1], [0, 1, 0]]
    precision, recall = 1.0, (2 / 3 + 1 / 2) / 2
    expected = 100 * 5 * precision * recall / (4 * precision + recall)
    assert chrf_from_statistics(counts) == pytest.approx(expected)
    assert chrf_from_statistics(np.zeros((2, 6, 3))).tolist() == [0.0, 0.0]


def test_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    with pytest.raises(MissingExtraError, match=r"xray-captioning\[metrics\]"):
        chrf(["a"], ["a"])


def test_checks_its_columns_first() -> None:
    with pytest.raises(DataError, match="1 references and 2 hypotheses"):
        chrf(["a"], ["a", "b"])
