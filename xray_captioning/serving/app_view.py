"""HTML of the app, from the macros of ``app.html``."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2.environment import TemplateModule

SHADE = (0, 114, 178)  # blue of Okabe and Ito: told from grey with every kind of colour vision
DEEPEST = 0.42  # opacity of the surest sentence's shade


def html(part: str, *values: Any) -> str:
    """Return a part of the page.

    Parameters
    ----------
    part : {"style", "note", "caption", "attention", "findings", "alternatives"}
        A macro of ``app.html``.
    *values
        What the macro takes. Text is escaped.
    """
    return str(getattr(_macros(), part)(*values)).strip()


def opacity(probability: float) -> float:
    """Return how opaque the shade of a sentence is: the surer, the more."""
    return round(DEEPEST * min(max(probability, 0.0), 1.0), 3)


def shade(probability: float | None) -> str:
    """Return the colour behind a sentence, in CSS; clear where nothing is known."""
    return f"rgba{(*SHADE, opacity(probability or 0.0))}"


@cache
def _macros() -> TemplateModule:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("xray_captioning.serving", "")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    environment.filters["shade"] = shade
    return environment.get_template("app.html").module
