"""What the words of a report's headings mean; the words themselves are in ``headings.toml``."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib import resources

BOTH = "findings and impression"
# What is known from before or asked must never be taken as seen, so that such a word decides.
_FIRST = ("stop", "wet", "comparison", "indication", "addendum")
_THEN = ("impression", "findings", "recommendation", "technique", "exam")


@cache
def words() -> dict[str, frozenset[str]]:
    """Return the words of each kind of heading, in lower case."""
    return {kind: frozenset(text.split()) for kind, text in _file().items()}


@cache
def phrases(name: str) -> tuple[str, ...]:
    """Return a list of `headings.toml` that has a phrase a line."""
    return tuple(filter(None, _file()[name].splitlines()))


@cache
def kind_of(heading: tuple[str, ...]) -> str | None:
    """Return what stands below a heading of these lower-case words.

    Returns
    -------
    str or None
        None where a word is of no heading; else one of 'indication', 'technique', 'comparison',
        'findings', 'impression', `BOTH`, 'recommendation', 'addendum', 'exam', 'view', 'organ',
        'banner', 'wet', 'stop'.

    Examples
    --------
    >>> kind_of(("reason", "for", "exam"))
    'indication'
    >>> kind_of(("findings", "impression"))
    'findings and impression'
    """
    kinds = [_kinds().get(word, "filler" if word.isdigit() else None) for word in heading]
    if None in kinds:
        return None
    found = {str(kind) for kind in kinds} - {"filler"}
    if {"findings", "impression"} <= found and not found.intersection(_FIRST):
        return "impression" if "of" in heading else BOTH
    if "compared" in heading and kinds[0] in ("view", "exam"):
        return kinds[0]  # "PA and lateral chest compared to ___: The lungs are clear."
    for kind in (*_FIRST, *_THEN):
        if kind in found:
            return kind
    if "report" in found:
        return "findings" if found == {"report"} else "banner"
    if heading == ("chest",):
        return "organ"  # of several parts of the body that a report is about
    if found and found <= {"people", "title"}:
        return "stop" if "people" in found else None
    return next((kind for kind in ("organ", "banner", "view") if kind in found), None)


def is_title(line: str) -> bool:
    """Tell whether a line only names the examination or says when and where it was made."""
    known = (*_TITLE, *_FIRST, *_THEN)
    return all(_kinds().get(word) in known or word.isdigit() for word in spelled(line))


def spelled(text: str) -> tuple[str, ...]:
    """Return the words and numbers of a text in lower case."""
    return tuple(re.findall(r"[a-z]+|\d+", text.lower()))


_TITLE = ("title", "people", "filler", "banner", "organ", "view", "report")


@cache
def _kinds() -> dict[str, str]:
    """Return the kind of each word; where a word is in two lists, the stronger kind."""
    return {word: kind for kind in (*_TITLE, *_THEN, *_FIRST) for word in words()[kind]}


@cache
def _file() -> dict[str, str]:
    text = resources.files(__package__).joinpath("headings.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
