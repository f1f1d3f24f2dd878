"""The model card that travels in every bundle: ``card.jinja``, filled in."""

import json
from pathlib import Path
from typing import Any


def model_card(values: dict[str, Any], calibration: dict[str, Any] | None = None) -> str:
    """Return the card, as Markdown, from ``captioner.json`` and a calibration's ``about``."""
    from jinja2 import Environment

    text = Path(__file__).with_name("card.jinja").read_text("utf-8")
    card = Environment(trim_blocks=True, keep_trailing_newline=True).from_string(text)
    return card.render(**values, calibration=calibration)


def write_texts(aside: Path, values: dict[str, Any], tokenizer: Any, calibration: Any) -> None:
    """Write what a bundle and an exported folder hold beside the networks of a captioner."""
    (aside / "captioner.json").write_text(json.dumps(values, indent=2) + "\n", "utf-8")
    tokenizer.to_json(aside / "tokenizer.json")
    (aside / "README.md").write_text(model_card(values, calibration.about if calibration else None), "utf-8")
    if calibration is not None:
        calibration.save(aside)
