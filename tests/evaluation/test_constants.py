"""No other training text is a stronger constant, by any metric."""

import numpy as np
import pytest

from xray_captioning.errors import DataError
from xray_captioning.evaluation import baselines
from xray_captioning.evaluation.baselines import CONSTANT_METRICS, constant_captions
from xray_captioning.metrics.clinical import clinical_scores
from xray_captioning.metrics.scores import score

SENTENCES = [
    "the lungs are clear .",
    "no pleural effusion or pneumothorax .",
    "the heart is enlarged .",
    "small left pleural effusion .",
    "calcified granuloma in the right upper lobe .",
    "heart size is normal .",
    "no acute disease .",
]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(SENTENCES, rng.integers(1, 6))) for _ in range(30)]


@pytest.mark.parametrize("altered", [False, True])
def test_no_other_text_scores_higher(texts: list[str], altered: bool) -> None:
    references = [" ".join(text.split()[:12]) for text in texts] if altered else texts

    def values(text: str) -> dict[str, float]:
        said = [text] * len(references)
        clinical = clinical_scores(references, said)["clinical_f1"]
        return {**score(references, said), "clinical_f1": clinical}

    every = {text: values(text) for text in set(texts)}
    for metric, best in constant_captions(texts, references).items():
        most = max(scores[metric] for scores in every.values())
        assert every[best][metric] == pytest.approx(most, abs=1e-12), metric


def test_the_order_of_the_texts_plays_no_part(texts: list[str]) -> None:
    assert constant_captions(texts) == constant_captions(texts[::-1])


def test_long_and_many_texts_are_bounded(texts: list[str], monkeypatch) -> None:
    monkeypatch.setattr(baselines, "CANDIDATES", 5)
    monkeypatch.setattr(baselines, "REFERENCES", 10)
    long = " ".join(["the heart is enlarged ."] * 40)
    found = constant_captions([*texts, *texts[:4], long])
    assert set(found) == set(CONSTANT_METRICS)
    assert set(found.values()) <= set(texts)
    assert constant_captions([long], metrics=["ROUGE-L"]) == {"ROUGE-L": long}


def test_what_has_no_score_has_no_constant() -> None:
    assert "clinical_f1" not in constant_captions(["no acute disease .", "clear lungs ."])
    assert "clinical_f1" in constant_captions(["the heart is enlarged ."])
    with pytest.raises(DataError, match="training texts"):
        constant_captions([])


def test_odd_texts_do_no_harm() -> None:
    assert set(constant_captions(["", "a", "a b c d e"]).values()) <= {"a", "a b c d e"}
