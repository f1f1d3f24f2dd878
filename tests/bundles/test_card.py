from xray_captioning.bundles.bundle import model_card
from xray_captioning.config import Config


def values(kind: str = "captioner", **about: object) -> dict[str, object]:
    return {"kind": kind, "config": Config().to_dict(), "findings": ["Edema"], "about": about}


def test_a_captioner() -> None:
    rows = [{"system": "mine", "BLEU-4": 0.12345}, {"system": "constant", "BLEU-4": None}]
    card = model_card(values(notice="made for tests", data={"training_studies": 12}, rows=rows, metrics={"n": 3}))
    assert card.startswith("# custom (captioner)\n")
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
    assert card.startswith("# custom (encoder)\n")
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
