"""ROUGE-L as COCO computes it, and ROUGE-1, ROUGE-2 and ROUGE-L as rouge-score does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.metrics.rows import rouge_score_rows
from tests.metrics.test_bleu import random_pairs
from xray_captioning.metrics.ngrams import Words
from xray_captioning.metrics.rouge import _common, rouge_l_of_constants, rouge_l_rows

WORDS = st.lists(st.sampled_from("abcd"), max_size=12)


@pytest.mark.parametrize("most_references", [1, 4])
def test_equals_pycocoevalcap(most_references: int) -> None:
    module = pytest.importorskip("pycocoevalcap.rouge.rouge")
    references, hypotheses = random_pairs(1000, most_references)
    mean, rows = module.Rouge().compute_score(dict(enumerate(references)), {i: [h] for i, h in enumerate(hypotheses)})
    assert rouge_l_rows(references, hypotheses) == pytest.approx(rows, abs=1e-9)
    assert rouge_l_rows(references, hypotheses).mean() == pytest.approx(mean, abs=1e-9)


def by_table(first: list[str], second: list[str]) -> int:
    """Fill the textbook table."""
    table = np.zeros((len(first) + 1, len(second) + 1), dtype=int)
    for i, word in enumerate(first):
        for j, other in enumerate(second):
            best = max(table[i, j + 1], table[i + 1, j])
            table[i + 1, j + 1] = table[i, j] + 1 if word == other else best
    return int(table[-1, -1])


@given(st.lists(WORDS, min_size=1, max_size=4), WORDS)
@settings(deadline=None, max_examples=50)
def test_longest_common_subsequences_equal_the_table(texts: list[list[str]], words: list[str]) -> None:
    """Of pairs of texts, and of one text with several."""
    said = [*texts[1:], words]
    found = _common(Words([*texts, *said]), np.arange(len(texts), 2 * len(texts)), np.arange(len(texts)))
    assert found.tolist() == [by_table(*pair) for pair in zip(texts, said, strict=True)]
    f1 = [rouge_l_rows([" ".join(text)], [" ".join(words)])[0] for text in texts]
    alone = rouge_l_of_constants([" ".join(text) for text in texts], [" ".join(words)])
    assert alone[0] == pytest.approx(np.mean(f1), abs=1e-12)


def test_one_text_said_of_every_study() -> None:
    references, hypotheses = random_pairs(60, 1)
    targets, long = [texts[0] for texts in references], " ".join(hypotheses)
    expected = [rouge_l_rows(targets, [text] * 60).mean() for text in [*hypotheses[:20], long]]
    found = rouge_l_of_constants(targets, [*hypotheses[:20], long])
    assert found == pytest.approx(expected, abs=1e-12)


def test_by_hand() -> None:
    # Three common words, precision 3/4, recall 3/5.
    precision, recall = 3 / 4, 3 / 5
    expected = (1 + 1.44) * precision * recall / (recall + 1.44 * precision)
    assert rouge_l_rows(["a b c d e"], ["a c x e"])[0] == pytest.approx(expected)


def test_empty_texts_count_as_one_empty_word() -> None:
    assert rouge_l_rows(["", "a", "", " \t"], ["", "", "a", ""]).tolist() == [1.0, 0.0, 0.0, 1.0]


def by_rouge_score(references: list[list[str]], hypotheses: list[str]) -> np.ndarray:
    scorer = pytest.importorskip("rouge_score.rouge_scorer")
    names = ["rouge1", "rouge2", "rougeL"]
    scorer = scorer.RougeScorer(names)
    rows = [scorer.score_multi(*pair) for pair in zip(references, hypotheses, strict=True)]
    return np.array([[row[name].fmeasure for name in names] for row in rows])


@pytest.mark.parametrize("most_references", [1, 3])
def test_equals_rouge_score(most_references: int) -> None:
    references, hypotheses = random_pairs(100, most_references)
    expected = by_rouge_score(references, hypotheses)
    assert rouge_score_rows(references, hypotheses) == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.tuples(st.text(max_size=12), st.text(max_size=12)), min_size=1, max_size=5))
@settings(deadline=None, max_examples=40)
def test_equals_rouge_score_on_any_characters(pairs: list[tuple[str, str]]) -> None:
    references, hypotheses = [[one] for one, _ in pairs], [other for _, other in pairs]
    expected = by_rouge_score(references, hypotheses)
    assert rouge_score_rows(references, hypotheses) == pytest.approx(expected, abs=1e-9)


def test_rouge_score_takes_other_words_than_coco() -> None:
    assert rouge_score_rows(["No right-sided effusion."], ["no right sided effusion"])[0, 2] == 1
    assert rouge_l_rows(["No right-sided effusion."], ["no right sided effusion"])[0] == 0
    # Two of three words, one of two pairs; the order is kept.
    assert rouge_score_rows(["a b c"], ["a b d ."])[0] == pytest.approx([2 / 3, 1 / 2, 2 / 3])
    assert rouge_score_rows(["", "a", "", "."], ["", "", "a", "."]).tolist() == [[0.0] * 3] * 4
    assert rouge_score_rows(["a"], ["a"]).tolist() == [[1.0, 0.0, 1.0]]
