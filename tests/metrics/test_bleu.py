"""BLEU under its three protocols."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.metrics.rows import bleu_statistics
from xray_captioning.errors import ConfigError
from xray_captioning.metrics.bleu import (
    BLEU_PROTOCOLS,
    bleu,
    bleu_from_statistics,
    bleu_of_constants,
    legacy_bleu_rows,
    nltk_bleu_rows,
)

WORDS = ["no", "acute", "effusion", ".", "heart", "normal", "the", "lungs"]
TEXT = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)


def random_pairs(number: int, most_references: int) -> tuple[list[list[str]], list[str]]:
    """Texts of 0 to 30 words from a small vocabulary; every tenth pair identical."""
    rng = random.Random(number + most_references)

    def text() -> str:
        return " ".join(rng.choices(WORDS, k=rng.choice([0, 1, 2, 3, 5, 8, 12, 30])))

    references = [[text() for _ in range(rng.randint(1, most_references))] for _ in range(number)]
    return references, [texts[0] if rng.random() < 0.1 else text() for texts in references]


@pytest.mark.parametrize("most_references", [1, 4])
def test_coco_equals_pycocoevalcap(most_references: int) -> None:
    module = pytest.importorskip("pycocoevalcap.bleu.bleu")
    references, hypotheses = random_pairs(1000, most_references)
    expected, rows = module.Bleu(4).compute_score(
        dict(enumerate(references)), {i: [h] for i, h in enumerate(hypotheses)}, verbose=0
    )
    assert bleu(references, hypotheses) == pytest.approx(expected, abs=1e-9)
    statistics = bleu_statistics(references, hypotheses)
    assert bleu_from_statistics(statistics) == pytest.approx(np.array(rows).T, abs=1e-9)


def test_statistics_by_hand() -> None:
    statistics = bleu_statistics([["a b c a", "a b"]], ["a a b x b"])
    # Matches: a a b; "a b"; none. The reference of length 4 is closer to 5 than that of 2.
    assert statistics.tolist() == [[3, 1, 0, 0, 5, 4, 3, 2, 5, 4]]
    # Two lengths equally far: the shorter counts.
    assert bleu_statistics([["a b c d", "a b"]], ["a b c"])[0, 9] == 2


def test_clipping_and_brevity_by_hand() -> None:
    assert bleu(["the cat is on the mat"], ["the the the the the the the"])[0] == pytest.approx(2 / 7)
    assert bleu(["a b c d e f g h"], ["a b c d"]) == pytest.approx([math.exp(-1)] * 4)


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=8))
@settings(deadline=None, max_examples=15)
def test_rows_add_up_and_order_does_not_matter(pairs: list[tuple[str, str]]) -> None:
    references, hypotheses = map(list, zip(*pairs, strict=True))
    statistics = bleu_statistics(references, hypotheses)
    alone = [bleu_statistics([r], [h])[0] for r, h in pairs]
    assert statistics.tolist() == np.array(alone).tolist()
    for protocol in BLEU_PROTOCOLS:
        values = bleu(references, hypotheses, protocol)
        backwards = bleu(references[::-1], hypotheses[::-1], protocol)
        assert values == pytest.approx(backwards, abs=1e-12)
        assert np.all((values >= 0) & (values <= 1 + 1e-9))


def test_a_bootstrap_is_one_matrix_product() -> None:
    references, hypotheses = random_pairs(50, 1)
    statistics = bleu_statistics(references, hypotheses)
    draws = np.random.default_rng(0).integers(0, 50, (20, 50))
    scores = bleu_from_statistics(statistics[draws].sum(axis=1))
    chosen = draws[7]
    again = bleu([references[i] for i in chosen], [hypotheses[i] for i in chosen])
    assert scores.shape == (20, 4)
    assert scores[7] == pytest.approx(again)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        # Two rows of the older project's published table, each word replaced by a letter.
        ("a b c d e f g .", "h d f i . j k l m n .", [0.272727, 0.522233, 0.651314, 0.722657]),
        ("h d f i . h p q r s .", "h d f t .", [0.240955, 0.190492, 0.154909, 0.182004]),
        ("a b c d", "a b c d", [1, 1, 1, 1]),
        ("a b c d", "x y", [0, 0, 0, 0]),
        ("a b c d", "", [0, 0, 0, 0]),
        ("", "a", [0, 0, 0, 0]),
        ("", "", [0, 0, 0, 0]),
        # Half the length, and no third order to match: only the brevity penalty is left.
        ("a b c d", "a b", [math.exp(-1)] * 4),
        # One word in four: BLEU-4 exceeds BLEU-1.
        ("a x y z", "a b c d", [0.25, 0.5, 0.25**0.33, 0.25**0.25]),
    ],
)
def test_legacy_rows(reference: str, hypothesis: str, expected: list[float]) -> None:
    assert bleu([reference], [hypothesis], "legacy") == pytest.approx(expected, abs=1e-6)


def test_legacy_equals_nltk_where_every_order_matches() -> None:
    references, hypotheses = random_pairs(400, 3)
    statistics = bleu_statistics(references, hypotheses)
    every = statistics[:, 3] > 0
    assert every.sum() > 20
    legacy, nltk = legacy_bleu_rows(statistics), nltk_bleu_rows(references, hypotheses)
    assert legacy[every][:, [0, 1, 3]] == pytest.approx(nltk[every][:, [0, 1, 3]], abs=1e-12)


def test_nltk_equals_one_call_a_weight_and_is_quiet(recwarn: pytest.WarningsRecorder) -> None:
    from nltk.translate.bleu_score import sentence_bleu

    reference, hypothesis = "no acute effusion .", "no acute disease ."
    rows = nltk_bleu_rows([reference], [hypothesis])
    assert not recwarn.list
    weights = [(1,), (0.5, 0.5), (1 / 3,) * 3, (0.25,) * 4]
    expected = [sentence_bleu([reference.split()], hypothesis.split(), w) for w in weights]
    assert rows[0] == pytest.approx(expected, abs=1e-12)
    assert rows[0, 3] < 1e-50
    assert nltk_bleu_rows(["", "a", ""], ["", "", "a"]).tolist() == [[0.0] * 4] * 3


def test_one_text_said_of_every_study() -> None:
    references, hypotheses = random_pairs(60, 1)
    targets = [texts[0] for texts in references]
    expected = [bleu(targets, [text] * 60) for text in hypotheses[:20]]
    assert bleu_of_constants(targets, hypotheses[:20]) == pytest.approx(np.array(expected))


def test_unknown_protocol() -> None:
    with pytest.raises(ConfigError, match="coco, nltk, legacy"):
        bleu(["a"], ["a"], "sacrebleu")
