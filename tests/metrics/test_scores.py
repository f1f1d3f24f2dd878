"""The public score and its errors."""

import numpy as np
import pytest

from tests.metrics.rows import cider_rows, rouge_score_rows
from xray_captioning.errors import ConfigError, DataError
from xray_captioning.evaluation.jackknife import study_statistics
from xray_captioning.metrics.bleu import bleu, nltk_bleu_rows
from xray_captioning.metrics.clinical import clinical_scores, confusion, contradictions, finding_table
from xray_captioning.metrics.mentions import compare_mentions
from xray_captioning.metrics.rouge import rouge_l_rows
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
    assert score([[r] for r in REFERENCES], [[h] for h in HYPOTHESES]) == expected
    assert score(iter(REFERENCES), (text for text in HYPOTHESES)) == expected


def test_dictionaries_are_matched_by_id() -> None:
    gts, res = dict(enumerate([[text] for text in REFERENCES])), dict(enumerate(HYPOTHESES))
    expected = score(REFERENCES, HYPOTHESES)
    assert score(gts, res) == expected
    assert score(gts, dict(reversed(res.items()))) == expected
    assert score(gts, {str(key): [text] for key, text in res.items()}) == expected  # out of JSON
    assert score({7: ["edema"]}, {7: ["clear lungs"]})["BLEU-1"] < 0.01
    two = score({7: ["edema", "clear lungs"], 8: ["x"]}, {8: "x", 7: "clear lungs"})
    assert two["BLEU-2"] == pytest.approx(1.0)


EACH = {
    "bleu": bleu,
    "nltk": nltk_bleu_rows,
    "cider": cider_rows,
    "rouge-l": rouge_l_rows,
    "rouge": rouge_score_rows,
    "confusion": confusion,
    "clinical": clinical_scores,
    "contradictions": contradictions,
    "findings": finding_table,
    "mentions": compare_mentions,
    "statistics": study_statistics,
}


@pytest.mark.parametrize("name", EACH)
def test_every_metric_takes_the_same_columns(name: str) -> None:
    metric, ids = EACH[name], ["b", "a"]
    expected = metric(REFERENCES, HYPOTHESES)
    res = dict(zip(reversed(ids), reversed(HYPOTHESES)))
    np.testing.assert_equal(metric(dict(zip(ids, REFERENCES)), res), expected)
    for references, hypotheses in [
        (REFERENCES, res),
        (res, HYPOTHESES),
        (dict(zip(ids, REFERENCES)), {"b": "x", "c": "y"}),
        (REFERENCES, set(HYPOTHESES)),
        (REFERENCES, [HYPOTHESES[0], float("nan")]),
        (REFERENCES, [HYPOTHESES[0], b"edema"]),
        (REFERENCES, "edema"),
    ]:
        with pytest.raises(DataError):
            metric(references, hypotheses)


def test_columns_of_tables_are_matched_by_position_where_their_indexes_agree() -> None:
    pandas = pytest.importorskip("pandas")
    references = pandas.Series(REFERENCES, index=["a", "b"])
    hypotheses = pandas.Series(HYPOTHESES, index=["a", "b"])
    assert score(references, hypotheses) == score(REFERENCES, HYPOTHESES)
    assert score(references, HYPOTHESES) == score(REFERENCES, HYPOTHESES)
    for metric in (score, clinical_scores):
        with pytest.raises(DataError, match="different indexes"):
            metric(references, hypotheses[::-1])
        with pytest.raises(DataError, match="references is a table of 2 dimensions"):
            metric(references.to_frame(), HYPOTHESES)
        with pytest.raises(DataError, match="is not text but float"):
            metric(REFERENCES, pandas.Series(["a", None], dtype=object).fillna(float("nan")))


@pytest.mark.parametrize(
    ("references", "hypotheses", "message"),
    [
        (["a"], ["a", "b"], "1 references and 2 hypotheses"),
        ([], [], "empty"),
        ("a b", "a b", "references is one text"),
        (["a"], "a", "hypotheses is one text"),
        (["a", float("nan")], ["a", "b"], r"references\[1\] is not text but float"),
        (["a", "b"], ["a", None], r"hypotheses\[1\] is not text but NoneType"),
        (["a", "b"], ["a", ["b", "c"]], r"hypotheses\[1\] is 2 texts"),
        (["a", "b"], ["a", b"b"], r"hypotheses\[1\] is not text but bytes"),
        (["a"], b"a", "hypotheses is one text"),
        (["a", "b"], {"a", "b"}, "hypotheses is a set, which does not say which text"),
        ({"1": "a"}.values(), {"1": "a"}.values(), "references is a dict_values, which does not"),
        ({"1": "a"}.items(), {"1": "a"}.items(), "references is a dict_items, which does not"),
        (["a"], 3, "hypotheses is a int, which does not"),
        ({"1": "a"}, ["a"], "hypotheses is no dictionary"),
        (["a"], {"1": "a"}, "references is no dictionary"),
        ({}, {}, "empty"),
        ({"1": "a", "2": "b"}, {"1": "a", "3": "b"}, "1 only in references, such as 2 and 1 only"),
        ({"1": "a"}, {"1": "a", "3": "b"}, "0 only in references and 1 only in hypotheses, such"),
        ({1: "a", "1": "b"}, {"1": "a"}, "references has an id as a number and as text"),
        ({"x": "a"}, {"x": None}, r"hypotheses\[x\] is not text but NoneType"),
        ({"x": "a"}, {"x": ["a", "b"]}, r"hypotheses\[x\] is 2 texts"),
        ({"x": {"caption": "a"}}, {"x": "a"}, r"references\[x\] is not text but dict"),
        (np.array([["a", "b"]]), ["a"], "references is a table of 2 dimensions"),
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


@pytest.mark.parametrize(
    ("references", "first"),
    [
        (["a b", "", " "], r"references\[1\]"),
        ([["a b"], ["c", ""], [""]], r"references\[1\]"),
        ({"x": "a b", "y": "", "z": "\n"}, "y"),
        ({7: ["a b"], 8: [""], 9: [""]}, "8"),
    ],
)
def test_empty_references_are_told(references, first: str) -> None:
    said = dict.fromkeys(references, "a b") if isinstance(references, dict) else ["a b"] * 3
    with pytest.warns(
        UserWarning, match=f"^2 of 3 studies have an empty reference, the first {first}; nothing"
    ) as told:
        score(references, said)
    assert [one.filename for one in told] == [__file__]


def test_of_texts_that_are_empty_nothing_is_told(recwarn) -> None:
    score(["a b", "c"], ["", "c"])  # as of a model in its first epoch
    assert not recwarn
