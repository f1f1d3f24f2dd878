"""The public score, its errors, and published numbers on real texts."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from xray_captioning.errors import ConfigError, DataError
from xray_captioning.evaluation.r2gen import r2gen_hypotheses, r2gen_references, r2gen_vocabulary
from xray_captioning.metrics.scores import score, text_scores

KEYS = ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr"]
REFERENCES = ["no acute disease .", "stable right effusion with atelectasis ."]
HYPOTHESES = ["no acute disease .", "small right effusion ."]


@pytest.mark.parametrize("protocol", ["coco", "nltk", "legacy"])
def test_keys_and_types(protocol: str) -> None:
    result = score(REFERENCES, HYPOTHESES, protocol)
    assert list(result) == KEYS
    assert all(type(value) is float for value in result.values())


def test_only_bleu_depends_on_the_protocol() -> None:
    coco, nltk, legacy = (score(REFERENCES, HYPOTHESES, p) for p in ("coco", "nltk", "legacy"))
    assert len({row["BLEU-4"] for row in (coco, nltk, legacy)}) == 3
    assert len({(row["ROUGE-L"], row["CIDEr"]) for row in (coco, nltk, legacy)}) == 1


def test_text_scores_add_to_score() -> None:
    result = text_scores(REFERENCES, HYPOTHESES)
    assert {name: result[name] for name in KEYS} == score(REFERENCES, HYPOTHESES)
    assert text_scores(REFERENCES, HYPOTHESES, "legacy")["BLEU-4"] != result["BLEU-4"]
    assert all(type(value) is float for value in result.values())
    assert (result["mean_length"], result["length_ratio"]) == (4.0, 0.8)
    assert (result["distinct"], result["entropy"]) == (2.0, 1.0)
    assert (result["distinct-1"], result["distinct-2"]) == (7 / 8, 1.0)


def test_identical_texts_score_one() -> None:
    result = text_scores(REFERENCES, REFERENCES)
    for name in [*KEYS[:5], "ROUGE-1", "ROUGE-2", "ROUGE-L-F1", "length_ratio"]:
        assert result[name] == pytest.approx(1.0)
    assert result.get("chrF", 100.0) == pytest.approx(100.0)


def test_empty_texts_have_scores() -> None:
    result = text_scores(["", ""], ["", "a b"])
    assert np.isnan(result.pop("length_ratio"))
    assert all(np.isfinite(value) for value in result.values())
    assert text_scores(["a b", "c"], ["", ""])["length_ratio"] == 0


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


def test_r2gen_references_by_hand() -> None:
    vocabulary = r2gen_vocabulary(["Heart normal. Heart is big.", "heart is normal", "is small."])
    assert vocabulary == {"heart", "is", "."}
    assert r2gen_references(["The heart is normal."], vocabulary) == ["<unk> heart is <unk> ."]
    assert r2gen_references(["heart is. heart is."], vocabulary, 4) == ["heart is . heart"]
    assert len(r2gen_references(["is " * 80], vocabulary)[0].split()) == 59
    assert len(r2gen_references(["is " * 80], vocabulary, None)[0].split()) == 81
    assert r2gen_hypotheses(["The heart, is NORMAL."]) == ["the heart is normal ."]


@pytest.fixture(scope="module")
def splits(shared_data: Path) -> dict[str, list[dict[str, str]]]:
    """Studies of the published split."""
    return json.loads((shared_data / "iu" / "r2gen_annotation.json").read_text())


@pytest.fixture(scope="module")
def references(splits) -> list[str]:
    """What R2Gen scores against on the test split."""
    vocabulary = r2gen_vocabulary(study["report"] for study in splits["train"])
    return r2gen_references([study["report"] for study in splits["test"]], vocabulary)


def test_a_published_system_gets_its_published_scores(shared_data, splits, references) -> None:
    with (shared_data / "systems" / "cvt2distilgpt2_iu.csv").open(newline="") as file:
        texts = {row["study_id"]: row["cvt2distilgpt2"] for row in csv.DictReader(file)}
    result = score(references, r2gen_hypotheses(texts[study["id"]] for study in splits["test"]))
    published = [0.4734, 0.3036, 0.2240, 0.1752, 0.3761, 0.6941]
    assert [result[key] for key in KEYS] == pytest.approx(published, abs=5e-5)


def test_a_fixed_training_report_scores_as_well(splits, references) -> None:
    training = r2gen_hypotheses(study["report"] for study in splits["train"])
    ending = "old right-sided rib deformities are noted ."
    constant = next(text for text in training if text.endswith(ending) and len(text) < 200)
    result = score(references, [constant] * len(references))
    expected = [0.478, 0.300, 0.215, 0.163, 0.370]
    assert [result[key] for key in KEYS[:5]] == pytest.approx(expected, abs=5e-4)
