"""The model card that travels in every bundle."""

from __future__ import annotations

from typing import Any

LIMITS = """\
## What it is not for

This model is for research and teaching. It is not a medical device and must not be used to
diagnose, triage or treat. It writes fluent sentences whether or not they are true of the image;
it says nothing of findings that its training reports seldom name; it was trained and measured on
the data named above and nothing is known of how it does elsewhere. Text scores such as BLEU cannot
tell a reader of X-rays from a fixed sentence: read them beside the baselines and the clinical F1.
"""


CONFIDENCE = """\
## Confidence

A sentence's confidence is the probability that the reference report bears it out (same findings,
same sides), from its mean log-probability. It holds for studies like those below and for no others.
A study's novelty is the Mahalanobis distance of its images' mean features from the training
images', 1 being what one in a hundred studies of the same kind exceeds; what is said of a study
above 1 is not to be believed, whatever its confidence. The skill of a confidence is 0 where always
stating the share of right sentences (the base rate) has the same Brier score. ECE_by_chance is the
calibration error that true probabilities have in as many sentences.
"""


_FITTED = {"part": "", "expected_flagged": "studies of which so many have a novelty above 1"}


def model_card(values: dict[str, Any], calibration: dict[str, Any] | None = None) -> str:
    """Return the card, as Markdown.

    `values` are those of ``captioner.json``: ``kind``, ``config``, ``findings``, ``about``;
    `calibration` is what the confidence of its sentences was fitted on, and how well it does.
    """
    config, about = values["config"], values["about"]
    model = config["model"]
    lines = [
        f"# {config['name']} ({values['kind']})",
        "",
        *([about["notice"], ""] if "notice" in about else []),
        "## What it is",
        "",
        f"- encoder: `{model['encoder']}`, {config['image']['size']} px, "
        f"{config['image']['views']} view(s), `{config['image']['normalisation']}` normalisation"
        + (f"; {about['encoder']}" if "encoder" in about else ""),
    ]
    if values["kind"] == "captioner":
        lines.append(
            f"- decoder: `{model['decoder']}`, writes the {config['text']['section']}, "
            f"`{config['text']['cleaning']}` cleaning"
        )
    if values["findings"]:
        lines.append(f"- findings it classifies: {', '.join(values['findings'])}")
    data = {"source": about.get("source", "unknown"), **about.get("data", {})}
    lines += ["", "## Data", "", *_bullets(data)]
    if about.get("rows"):
        lines += ["", "## Measured on its test studies", "", table(about["rows"])]
    if about.get("metrics"):
        lines += ["", "## Measured", "", *_bullets(about["metrics"])]
    if calibration is not None:
        lines += ["", CONFIDENCE, *_confidence(calibration)]
    return "\n".join([*lines, "", LIMITS])


def _confidence(about: dict[str, Any]) -> list[str]:
    measured = about.get("measured", {})
    rows = [{"": name, **row} for name, row in measured.get("sentences", {}).items()]
    fitted = {_FITTED.get(name, name): value for name, value in about.get("fitted", {}).items()}
    fitted = {f"fitted on {name}".strip(): value for name, value in fitted.items()}
    names = {
        "source": "measured on",
        "studies": "studies of it",
        "flagged": "share of them with a novelty above 1",
    }
    found = {text: measured[name] for name, text in names.items() if name in measured}
    return [*_bullets({**fitted, **found}), *(["", table(rows)] if rows else [])]


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


def _bullets(values: dict[str, Any]) -> list[str]:
    return [f"- {name.replace('_', ' ')}: {cell(value)}" for name, value in values.items()]
