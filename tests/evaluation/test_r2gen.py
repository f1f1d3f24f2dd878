"""References of R2Gen's evaluation, and published numbers on real texts."""

import csv
import json
from pathlib import Path

import pytest

from xray_captioning.evaluation.baselines import r2gen_references, r2gen_vocabulary
from xray_captioning.metrics.scores import score
from xray_captioning.text.cleaning import clean_r2gen

KEYS = ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr"]


def test_r2gen_references_by_hand() -> None:
    vocabulary = r2gen_vocabulary(["Heart normal. Heart is big.", "heart is normal", "is small."])
    assert vocabulary == {"heart", "is", "."}
    assert r2gen_references(["The heart is normal."], vocabulary) == ["<unk> heart is <unk> ."]
    assert r2gen_references(["heart is. heart is."], vocabulary, 4) == ["heart is . heart"]
    assert len(r2gen_references(["is " * 80], vocabulary)[0].split()) == 59
    assert len(r2gen_references(["is " * 80], vocabulary, None)[0].split()) == 81


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
    result = score(references, [clean_r2gen(texts[study["id"]]) for study in splits["test"]])
    published = [0.4734, 0.3036, 0.2240, 0.1752, 0.3761, 0.6941]
    assert [result[key] for key in KEYS] == pytest.approx(published, abs=5e-5)


def test_a_fixed_training_report_scores_as_well(splits, references) -> None:
    training = [clean_r2gen(study["report"]) for study in splits["train"]]
    ending = "old right-sided rib deformities are noted ."
    constant = next(text for text in training if text.endswith(ending) and len(text) < 200)
    result = score(references, [constant] * len(references))
    expected = [0.478, 0.300, 0.215, 0.163, 0.370]
    assert [result[key] for key in KEYS[:5]] == pytest.approx(expected, abs=5e-4)
