"""The public score and its errors."""

import numpy as np
import pytest

from xray_captioning.errors import ConfigError, DataError
from xray_captioning.metrics.scores import score

KEYS = ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr"]
REFERENCES = ["no acute disease .", "stable right effusion with atelectasis ."]
HYPOTHESES = ["no acute disease .", "small right effusion ."]


def test_only_bleu_depends_on_the_protocol() -> None:
    coco, nltk, legacy = (score(REFERENCES, HYPOTHESES, p) for p in ("coco", "nltk", "legacy"))
    assert list(coco) == list(nltk) == list(legacy) == KEYS
    assert all(type(value) is float for row in (coco, nltk, legacy) for value in row.values())
    assert len({row["BLEU-4"] for row in (coco, nltk, legacy)}) == 3
    assert len({(row["ROUGE-L"], row["CIDEr"]) for row in (coco, nltk, legacy)}) == 1


def test_identical_texts_score_one() -> None:
    result = score(REFERENCES, REFERENCES)
    assert [result[name] for name in KEYS[:5]] == pytest.approx([1.0] * 5)


def test_splits_at_any_whitespace() -> None:
    assert score(["no  acute\tdisease\n."], ["no acute disease ."])["ROUGE-L"] == 1.0


def test_columns_of_any_kind() -> None:
    pandas = pytest.importorskip("pandas")
    expected = score(REFERENCES, HYPOTHESES)
    assert score(pandas.Series(REFERENCES), pandas.Series(HYPOTHESES)) == expected
    assert score(np.array(REFERENCES), np.array(HYPOTHESES)) == expected
    assert score(tuple(REFERENCES), tuple(HYPOTHESES)) == expected
    assert score([[r] for r in REFERENCES], HYPOTHESES) == expected


@pytest.mark.parametrize(
    ("references", "hypotheses", "message"),
    [
        (["a"], ["a", "b"], "1 references and 2 hypotheses"),
        ([], [], "empty"),
        ("a b", "a b", "references is one text"),
        (["a"], "a", "hypotheses is one text"),
        (["a", float("nan")], ["a", "b"], r"references\[1\] is not text but float"),
        (["a", "b"], ["a", None], r"hypotheses\[1\] is not text but NoneType"),
        (["a", "b"], ["a", ["b"]], r"hypotheses\[1\] is not text but list"),
        ([["a", 3]], ["a"], r"references\[0\] is not text but int"),
        ([[]], ["a"], r"references\[0\] is an empty list"),
    ],
)
def test_wrong_columns_name_the_row(references, hypotheses, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        score(references, hypotheses)
    assert "\n" not in str(caught.value)


def test_unknown_protocol() -> None:
    with pytest.raises(ConfigError, match="coco, nltk, legacy"):
        score(["a"], ["a"], "r2gen")
