"""The model card that travels in every bundle: ``card.jinja``, filled in."""

from __future__ import annotations

from importlib import resources
from typing import Any

_FITTED = {"part": "", "expected_flagged": "studies of which so many have a novelty above 1"}
_MEASURED = {
    "source": "measured on",
    "studies": "studies of it",
    "flagged": "share of them with a novelty above 1",
}


def model_card(values: dict[str, Any], calibration: dict[str, Any] | None = None) -> str:
    """Return the card, as Markdown.

    `values` are those of ``captioner.json``: ``kind``, ``config``, ``findings``, ``about``;
    `calibration` is what the confidence of its sentences was fitted on, and how well it does.
    """
    from jinja2 import Environment

    text = resources.files("xray_captioning.bundles").joinpath("card.jinja").read_text("utf-8")
    card = Environment(trim_blocks=True, keep_trailing_newline=True).from_string(text)
    about, found = values["about"], calibration or {}
    rows = found.get("measured", {}).get("sentences", {})
    return card.render(
        **values,
        data={"source": about.get("source", "unknown"), **about.get("data", {})},
        calibration=calibration,
        calibrated=_calibrated(found.get("fitted", {}), found.get("measured", {})),
        sentences=[{"": name, **row} for name, row in rows.items()],
        bullets=_bullets,
        table=table,
    )


def _calibrated(fitted: dict[str, Any], measured: dict[str, Any]) -> dict[str, Any]:
    on = {f"fitted on {_FITTED.get(name, name)}".strip(): x for name, x in fitted.items()}
    return on | {text: measured[name] for name, text in _MEASURED.items() if name in measured}


def table(rows: list[dict[str, Any]]) -> str:
    """Return dictionaries with the same keys as a Markdown table."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    lines += ["| " + " | ".join(cell(row.get(name)) for name in names) + " |" for row in rows]
    return "\n".join(lines)


def cell(value: Any) -> str:
    """Return a table's text for a number, a name or nothing."""
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _bullets(values: dict[str, Any]) -> str:
    return "\n".join(f"- {name.replace('_', ' ')}: {cell(value)}" for name, value in values.items())
