"""Cut a report into statements: sentences, items of a list, answers of a form.

What stands under a heading such as "Indication" or "Comparison" was known or asked before anybody
looked at the image, so it is no statement about it.
"""

import re
from itertools import pairwise

# A full stop behind these ends no sentence.
_ABBREVIATED = "".join(
    rf"(?<!\b{word}\.)"
    for word in (
        "vs",
        "approx",
        "poss",
        "prob",
        "pl",
        "pulm",
        "eff",
        "bilat",
        "rt",
        "lt",
        "dr",
        "incl",
    )
)
# It begins with one of few characters, so that the search skips all others fast.
_SENTENCE_END = re.compile(
    rf"[.?!\n](?:(?<=\n)\s*\n|(?<!\n)[.?!]*{_ABBREVIATED}(?=\s|$)"
    r"|(?<=[a-z0-9]\.)(?=[a-z]{2}|\d{1,2}[.)] ))"
)
# No radiologist writes a sentence of a thousand characters, but a broken model may. Such a sentence
# is read in pieces, so that time grows only in proportion to length.
_PIECE = re.compile(r".{1,1000}(?!\S)|.{1,1000}", re.DOTALL)
LONGEST = 300
"""Characters of the longest statement that is looked up among those already read."""

_BULLET = r"(?:[-*#\u2022\u2013+>]|\(?\d{1,2}[.)])"
_ITEM = re.compile(rf"\s*\n\s*{_BULLET}\s+|^\s*{_BULLET}\s+")
_LINE_END = re.compile(r"[ \t\r]*\n[ \t]*")
_INLINE_ITEM = re.compile(
    r"(?:^|(?<=[\s.:]))(?:[*\u2022]\s|\(?(?:\d{1,2}|[a-eA-E])\)\s?|\d{1,2}\.)\s*(?=[A-Za-z])"
)
# A line that ends or begins with one of these is wrapped, not finished.
_OPEN_END = re.compile(
    r"(?:[,/&-]|\b(?:a|an|the|of|in|on|at|to|for|from|by|and|or|nor|no|not|with|without|is|are|was"
    r"|were|be|been|has|have|may|mild|small|large|left|right|upper|lower|acute|focal|pleural"
    r"|pulmonary|significant|definite|new|stable|than|that|which))$"
)
_OPEN_START = re.compile(
    r"(?:and|or|nor|of|in|on|at|to|for|from|by|with|without|is|are|was|were|than|that|which|but)\b"
)
_NUMBERED = re.compile(r"\d\)|\b[a-eA-E]\)")
_DASH = re.compile(r"\s+(?:-{1,2}|[\u2013\u2014|=])\s+(?=[a-z])")
_ASKED_WORD = re.compile(r"(?<![a-z])\?[ \t]*(?=[a-z])")
_AND_PLUS = re.compile(r"(?:^|(?<=[,;.:]))\s*\+\s?(?=[a-z])")
_PLUS = re.compile(r"\s\+\s(?=[a-z])")
_ANSWERED = re.compile(r"\s?\?\s*(?=(?:no|none|yes|nil|negative|absent|present)\b[.,;]?(?:\s|$))")
_QUESTION = re.compile(r"(?<=[a-z])\s?\?(?=[\s.,;)]|$)")
_NOT = re.compile(r"n['\u2019]t\b")

# Headings of what was known or asked before, and of what was seen; the second of each pair is a
# heading only at the beginning of a sentence.
_AIMS = (
    r"(?:clinical|brief|pertinent|relevant|medical|patient) (?:clinical )?(?:indications?|history"
    r"|hx|question|info|information|context|details|statement|data|notes?|concern|summary|background"
    r"|presentation|problem)"
    r"|indications?(?: for (?:the |this )?[a-z]+)?|history of present illness"
    r"|reasons? for (?:the |this )?[a-z]+(?: [a-z]+)?|techniques?"
)
_AIMS_ALONE = (
    r"(?:clinical )?(?:history|hx)|clinical|question|information|hpi|symptoms|reason|purpose"
    r"|request|referral|background|(?:presenting |chief )?complaints?|admitting diagnosis"
    r"|exam(?:ination)?s?(?: [a-z]+)?|study|procedure|protocol|technical factors"
    r"|priors?(?: (?:exam|study|studies|exams|films?))?"
    r"|comparisons?(?: (?:exam|study|studies|exams|films?))?|compared?(?: to| with)?"
)
_RESULTS = "findings?|interpretation"
_RESULTS_ALONE = (
    r"results?|report|body|wet read|final report|observations?"
    r"|(?:the )?(?:lungs?|heart|pleura|mediastinum|bones?|lines|tubes|devices|airways?|diaphragm)"
    r"(?:(?: and |/| & |, )\w+)*(?: \w+)?"
)
_LONGEST_HEADING = 60
_SUMMARIES = "impressions?|conclusions?|opinion|summary"
_AIMS, _AIMS_ALONE, _RESULTS_ALONE = (
    words.replace(" ", r"\s+") for words in (_AIMS, _AIMS_ALONE, _RESULTS_ALONE)
)
_HEADING = re.compile(
    rf"(?<![a-z])(?:(?P<aim>{_AIMS})|(?P<results>{_RESULTS})|(?:{_SUMMARIES}))(?=\W{{0,3}}:)"
    rf"|(?:^|(?<=\n)|(?<=[.?!:;] ))[\s#*_\u2022-]*"
    rf"(?:(?P<aim_alone>{_AIMS_ALONE})|(?P<results_alone>{_RESULTS_ALONE}))(?=\W{{0,3}}:)"
)
_BARE_HEADING = re.compile(
    rf"\W*(?:{_AIMS}|{_RESULTS}|{_SUMMARIES}|history|comparison)\W*", re.IGNORECASE
)


def statements(text: str) -> list[str]:
    """Return the statements of a report in lower case, those of aims and comparisons left out."""
    if "\n" in text and ("\n" in text.replace("\n\n", "") or _has_bare_heading(text)):
        text = _lines(text)
    if "*" in text or "\u2022" in text or (")" in text and _NUMBERED.search(text)):
        text = _INLINE_ITEM.sub("\n\n", text)
    text = text.lower()
    if "?" in text:
        text = _ANSWERED.sub(" : ", text)
        text = _QUESTION.sub(" is questioned.", _ASKED_WORD.sub("question ", text))
    if "'t" in text or "\u2019t" in text:
        text = _NOT.sub(" not", text.replace("can't", "cannot").replace("can\u2019t", "cannot"))
    if "+" in text or "(-)" in text:
        text = _PLUS.sub(" and ", _AND_PLUS.sub("; ", text.replace("(-)", ": none")))
    if " -" in text or " |" in text or " =" in text or not text.isascii():
        text = _DASH.sub(" : ", text)
    return _described(text) if ":" in text else _sentences(text)


def pieces(statement: str) -> list[str]:
    """Return the parts in which an endless statement is read."""
    return _PIECE.findall(statement)


def _sentences(text: str) -> list[str]:
    return [raw for raw in map(str.strip, _SENTENCE_END.split(text)) if raw]


def _described(text: str) -> list[str]:
    """Return the sentences that are not under a heading of what was known or asked before.

    Where the findings have no heading of their own, they begin at an empty line or behind the first
    sentence: "Reason: fever. The lungs are clear."
    """
    headings = _headings(text)
    ends = [*[heading.start() for heading in headings], len(text)][1:]
    named = any(heading["results"] or heading["results_alone"] for heading in headings)
    found = _sentences(text[: headings[0].start()] if headings else text)
    for heading, end in zip(headings, ends, strict=True):
        part = text[heading.end() : end]
        if not (heading["aim"] or heading["aim_alone"]):
            found += _sentences(heading.group() + part)
        elif not named:
            found += _sentences(_rest(part))
    return found


def _headings(text: str) -> list[re.Match[str]]:
    """Return the headings, each with a colon behind it."""
    found, last = [], 0
    for colon in re.finditer(":", text):
        start = max(last, colon.start() - _LONGEST_HEADING)
        heading = _HEADING.search(text, start, colon.end())
        if heading:
            found.append(heading)
        last = colon.end()
    return found


def _rest(part: str) -> str:
    """Return what comes behind the first paragraph of a part, or else its first sentence."""
    first, _, rest = part.lstrip(": \n\t*").partition("\n\n")
    return rest or " ".join(_SENTENCE_END.split(first, maxsplit=1)[1:])


def _has_bare_heading(text: str) -> bool:
    parts = text.split("\n\n")
    short = [part for part in parts if len(part) < _LONGEST_HEADING and part[-1:] != "."]
    return any(map(_BARE_HEADING.fullmatch, short))


def _lines(text: str) -> str:
    """Put an empty line between the items of a list, and a blank where a line is only wrapped."""
    text = _ITEM.sub("\n\n", text)
    lines = [
        f"{line}:" if line and line[-1] != ":" and _BARE_HEADING.fullmatch(line) else line
        for line in _LINE_END.split(text)
    ]
    flowing = text.isupper() or text.islower()
    joined = [lines[0]]
    for before, line in pairwise(lines):
        joined += ["\n" if _finished(before, line, flowing) else " ", line]
    return re.sub(r"\n(?!\n)", "\n\n", "".join(joined))


def _finished(before: str, line: str, flowing: bool) -> bool:
    """Whether a new statement begins with `line`, to judge by how the lines end and begin."""
    if before.endswith(":"):
        return False
    if not before or not line:
        return True
    if _OPEN_END.search(before.lower()) or _OPEN_START.match(line.lower()):
        return False
    if flowing:  # all in capitals, or all in small letters: short lines are items
        return (
            max(len(before), len(line)) <= 45
            and not before.endswith((".", ":"))
            and (line.count(".") == 0)
        )
    return line[0].isupper() and not (len(before) > 60 and before[-1].isalnum())
