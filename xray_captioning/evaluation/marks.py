"""The words of a text that decided its labels, marked where they stand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import pairwise
from typing import NamedTuple

from xray_captioning.metrics.labeler import Mention, convention_of, explain_report, find_mentions
from xray_captioning.metrics.labels.layout import statements
from xray_captioning.metrics.labels.normal import normal
from xray_captioning.metrics.labels.rules import rules

_WORD = re.compile(r"[^\W_]+")


class Piece(NamedTuple):
    """A part of a text and, where it decided a label, why; "" elsewhere."""

    text: str
    why: str = ""


def marked(text: str, shown: str) -> list[Piece]:
    """Return what is shown of a text, its beginning, in pieces: words that decided stand alone.

    Examples
    --------
    >>> text = "Small effusion, no PTX."
    >>> [piece for piece in marked(text, text) if piece.why]  # doctest: +NORMALIZE_WHITESPACE
    [Piece(text='effusion', why='Pleural Effusion: present'),
     Piece(text='PTX', why='Pneumothorax: denied by “no”')]
    """
    deciding = set(explain_report(text).values())
    mentions = [m for m in dict.fromkeys(find_mentions(shown)) if m in deciding]
    reasons: dict[tuple[int, int], list[str]] = {}
    for mention, span in zip(mentions, _spans(shown, mentions), strict=True):
        reasons.setdefault(span, []).append(_why(mention))
    pieces, last = [], 0
    for (start, end), why in sorted(reasons.items()):
        if last <= start < end:
            pieces += [Piece(shown[last:start]), Piece(shown[start:end], "; ".join(why))]
            last = end
    return [piece for piece in (*pieces, Piece(shown[last:])) if piece.text]


def _why(mention: Mention) -> str:
    cue = "" if mention.cue in ("", mention.words) else f" by “{mention.cue}”"
    return f"{mention.finding}: {mention.status}{cue}"


def _spans(text: str, mentions: Sequence[Mention]) -> list[tuple[int, int]]:
    """Return where a text, as it was written, has the words of mentions; (0, 0) is nowhere.

    Mentions are of sentences in standard spelling, whose words are aligned with those written.
    """
    spelling = rules(convention_of()).spelling
    sentences = [normal(statement, spelling) for statement in statements(text)]
    written = list(_WORD.finditer(text))
    read = [(words, i, word) for i, words in enumerate(sentences) for word in _WORD.finditer(words)]
    places = _aligned([w.group().lower() for w in written], [w.group() for *_, w in read])
    first = {words: i for i, words in reversed(list(enumerate(sentences)))}
    spans = []
    for mention in mentions:
        found = [
            written[k]
            for (words, i, word), place in zip(read, places, strict=True)
            if words == mention.sentence and i == first[words]
            if mention.start <= word.start() < mention.end
            for k in place
        ]
        spans.append((found[0].start(), found[-1].end()) if found else (0, 0))
    return spans


def _aligned(written: list[str], read: list[str]) -> list[range]:
    """Return which of the written words each word that was read stands for."""
    places = []
    for _, a, b, c, d in SequenceMatcher(None, written, read, autojunk=False).get_opcodes():
        ends = [a + j * (b - a) // max(d - c, 1) for j in range(d - c + 1)]
        places += [range(one, min(max(one + 1, two), b)) for one, two in pairwise(ends)]
    return places
