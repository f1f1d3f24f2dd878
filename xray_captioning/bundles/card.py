"""The model card that travels in every bundle: ``card.jinja``, filled in."""

from pathlib import Path
from typing import Any


def model_card(values: dict[str, Any], calibration: dict[str, Any] | None = None) -> str:
    """Return the card, as Markdown, from ``captioner.json`` and a calibration's ``about``."""
    from jinja2 import Environment

    text = Path(__file__).with_name("card.jinja").read_text("utf-8")
    card = Environment(trim_blocks=True, keep_trailing_newline=True).from_string(text)
    return card.render(**values, calibration=calibration)
