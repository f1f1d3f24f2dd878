import pytest

from xray_captioning.bundles.bundle import model_card
from xray_captioning.config import Config


def values(kind: str = "captioner", **about: object) -> dict[str, object]:
    return {"kind": kind, "config": Config().to_dict(), "findings": ["Edema"], "about": about}


def test_a_captioner() -> None:
    rows = [{"system": "mine", "BLEU-4": 0.12345}, {"system": "constant", "BLEU-4": None}]
    card = model_card(values(notice="made for tests", data={"training_studies": 12}, rows=rows, metrics={"n": 3}))
    assert "\n---\n\n# custom (captioner)\n" in card
    for text in (
        "made for tests",
        "`global_attention`, writes the impression",
        "findings it classifies: Edema",
        "- training studies: 12",
        "| system | BLEU-4 |\n| --- | --- |\n| mine | 0.123 |\n| constant |  |",
        "- n: 3",
        "not a medical device",
    ):
        assert text in card


def test_an_encoder_writes_nothing() -> None:
    card = model_card(values("encoder"))
    assert "\n---\n\n# custom (encoder)\n" in card
    assert "decoder" not in card.split("## What it is not for")[0]
    assert "not a medical device" in card


def test_a_calibrated_captioner() -> None:
    sentences = {"calibrated": {"n": 3, "ece": 0.25}}
    measured = {"source": "phantoms", "studies": 8, "flagged": 0.5, "sentences": sentences}
    fitted = {"part": "val", "studies": 9, "expected_flagged": 0.1}
    card = model_card(values(), {"measured": measured, "fitted": fitted})
    for text in (
        "## Confidence",
        "- fitted on: val",
        "- fitted on studies: 9",
        "- fitted on studies of which so many have a novelty above 1: 0.100",
        "- measured on: phantoms",
        "- share of them with a novelty above 1: 0.500",
        "| calibrated | 3 | 0.250 |",
    ):
        assert text in card


def test_the_head_is_what_the_hub_reads() -> None:
    hub = pytest.importorskip("huggingface_hub")
    row = {"system": 'chest: "words"', "search": "greedy", "BLEU-4": 0.25, "CIDEr": None, "n": 3}
    rows = [row, {**row, "search": "beam-3", "BLEU-4": 0.5}, {**row, "system": "chest (no indication)"}]
    rows.append({**row, "system": "constant", "search": None, "BLEU-4": 0.125})
    told = {
        "name": row["system"],
        "version": "1.2",
        "licence": "mit",
        "source": "hf://datasets/me/iu@abc",
        "rows": rows,
    }
    card = hub.ModelCard(model_card(values(**told)))
    head = card.data.to_dict()
    assert (head["license"], head["language"], head["datasets"]) == ("mit", ["en"], ["me/iu"])
    assert head["pipeline_tag"] == "image-to-text"
    assert "not-for-clinical-use" in head["tags"]
    assert card.data.model_name == row["system"]
    found = [(one.metric_type, one.metric_name, one.metric_value, one.task_name) for one in card.data.eval_results]
    names = [f"Chest X-ray captions, {search}" for search in ("greedy", "beam-3")]
    assert found == [("bleu", "BLEU-4", 0.25, names[0]), ("bleu", "BLEU-4", 0.5, names[1])]
    assert "- version: 1.2; preset: `custom`" in card.text
    assert "## What it is not for" in card.text


def test_the_head_of_an_encoder() -> None:
    hub = pytest.importorskip("huggingface_hub")
    head = hub.ModelCard(model_card(values("encoder", rows=[{"finding": "Edema", "n": 3}]))).data.to_dict()
    assert (head["pipeline_tag"], head["license"], head["datasets"]) == ("image-classification", "unknown", ["unknown"])
    assert "model-index" not in head
