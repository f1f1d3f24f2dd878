"""The headings of a report: what their words mean (``headings.txt``), and where they are."""

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

BOTH = "findings and impression"
# What is known from before or asked must never be taken as seen, so that such a word decides.
_FIRST = ("stop", "wet", "comparison", "indication", "addendum")
_THEN = ("impression", "findings", "recommendation", "technique", "exam")
# No TOML: a reader of it takes longer than the labeler for a hundred reports.
_TEXT = re.sub("(?m)^#.*", "", Path(__file__).with_suffix(".txt").read_text("utf-8"))
_PARTS = [part.split("]") for part in _TEXT.split("[")[1:]]
WORDS = {kind: frozenset(text.split()) for kind, text in _PARTS}  # in lower case
PHRASES = {kind: tuple(filter(None, text.split("\n"))) for kind, text in _PARTS}
_SPELLED = re.compile(r"[a-z]+|\d+")
_TITLE = ("title", "people", "filler", "comment", "change", "banner", "organ", "view", "report")
# The kind of each word; where a word is in two lists, the stronger kind.
_KINDS = {word: kind for kind in (*_TITLE, *_THEN, *_FIRST) for word in WORDS[kind]}


@cache
def kind_of(heading: tuple[str, ...]) -> str | None:
    """Return the kind of what stands below a heading of these lower-case words, None where a word is of no heading."""
    kinds = [_KINDS.get(word, "filler" if word.isdigit() else None) for word in heading]
    if None in kinds:
        return None
    found = {str(kind) for kind in kinds} - {"filler"}
    if found == {"comment"} or ("change" in found and found <= {"change", "findings", "comparison", "exam", "view"}):
        return min(found)  # "change" comes first
    found -= {"comment", "change"}
    if ("wet" in found and WORDS["final"] & {*heading}) or ("addendum" in found and {"end", "ends"} & {*heading}):
        return "banner"  # "FINAL READ"; below "ADDENDUM ENDS" the report goes on
    if {"findings", "impression"} <= found and not found.intersection(_FIRST):
        return "impression" if "of" in heading else BOTH
    if "compared" in heading and kinds[0] in ("view", "exam"):
        return kinds[0]  # "PA and lateral chest compared to ___: The lungs are clear."
    if decisive := next((kind for kind in (*_FIRST, *_THEN) if kind in found), None):
        return decisive
    if "report" in found:
        return "findings" if found == {"report"} else "banner"
    if heading == ("chest",):
        return "organ"  # of several parts of the body that a report is about
    if found and found <= {"people", "title"}:
        return "stop" if "people" in found else None
    return next((kind for kind in ("organ", "banner", "view") if kind in found), None)


def is_title(line: str) -> bool:
    """Tell whether a line only names the examination or says when and where it was made."""
    return all(word in _KINDS or word.isdigit() for word in spelled(line.translate(_FOLDED)))


def spelled(text: str) -> tuple[str, ...]:
    """Return the words and numbers of a text in lower case."""
    return tuple(_SPELLED.findall(text.lower()))


UNKNOWN = "unknown"
_SECTIONS = ("indication", "technique", "comparison", "findings", "impression", BOTH, "addendum")
_INSIDE = (*_SECTIONS, "recommendation", "stop")
_BESIDE = tuple(kind for kind in _INSIDE if kind != "comparison")
_LINES = (*_INSIDE, "exam", "banner", "wet", "comment")
_GAPS = ("\t", "   ")  # between the columns of a table
_GAP = re.compile(rf"(?<=[A-Za-z)])(?:{'|'.join(_GAPS)})(?!\s*(?i:{'|'.join(WORDS['predicate'])})\b)")
_MARK = re.compile(r"[:\n]|[-\u2013\u2014](?=[\sA-Z\u2013\u2014-])|\||\Z")
_WORD = re.compile(r"[A-Za-z]+|\d+")
_BOUNDARY = re.compile(r"[\n|]|(?:[.?!;)\]>]|//)(?=\s)|\s{3}")
_LEAD = re.compile(r"[\s*#_(\[<>\u2022|.?!;)\]/-]*(?:\d{1,2}[.)]\s+)?[*#_(\[<]*")
_NUMERAL = r"(?:\d{1,2}|I{1,3}|IV|VI{0,3}|IX|X|[A-H])[.)][ *_]*"
_NUMBERED = re.compile(rf"\s\(?(?<=[.?!:;\n]\s){_NUMERAL}\Z")
_RUN = re.compile(r"[A-Za-z0-9 ,/&()'+_.-]+")
_INDENT = re.compile(rf"[ *#_(\\[<>\u2022|.)0-9-]*(?:{_NUMERAL})?")  # what may stand before a line's first word
_FOLLOWING = re.compile(r"[\s.]*([A-Za-z]+|\d+|_)")
_TRIMMED = " *_#)]>("
# What may stand between a heading and its text; of a dash, blanks and that dash.
_SKIPPED = {":": " :-\u2013\u2014*", "": " .", "\n": "", **dict.fromkeys(_GAPS, "\t :")}
_FOLDED = {n: letter for n in range(0xC0, 0x180) if (letter := unicodedata.normalize("NFD", chr(n))[0]).isascii()}
_FOLDED |= {0x2019: "'", 0x202F: " "}
_WORDLENGTH, _WINDOW = 24, 90  # no word with its signs and no heading is longer, so that time is linear


class Heading(NamedTuple):
    """A heading of a text."""

    start: int
    content: int  # where what stands below it begins
    kind: str  # as `kind_of` has it, or `UNKNOWN`
    words: tuple[str, ...]


class _Run(NamedTuple):
    """The words between the last boundary and a mark."""

    text: str
    start: int  # of the line, if it begins one
    begin: int  # of its first word
    opens: bool  # it begins a sentence or a line
    line: bool  # it begins a line
    fresh: bool  # and nothing that goes on stands in the line above


# The forms of the words that are headings without a colon, too.
_BARE = {form(word) for word in WORDS["bare"] for form in (str, str.title, str.upper)} | WORDS["bare_capitals"]
BARE_WORDS = frozenset(form + end for form in _BARE for end in ("", ".")) | {"REPORT", "Report"}


def headings(text: str) -> Iterator[Heading]:
    """Yield the headings of a text in their order; time grows with its length."""
    text = text.translate(_FOLDED)  # of the same length
    gaps = _GAP.finditer(text) if any(gap in text for gap in _GAPS) else ()  # most texts have none
    marks = {match.start(): match[0] for match in (*_MARK.finditer(text), *gaps)}
    found = (match for match in re.finditer(r"\b[A-Za-z]{7,16}\b", text) if match[0] in _BARE)
    marks.update((m.end(), "") for m in found if marks.get(m.end()) in (None, *_GAPS) and _opens(text, m))
    contrast, floor = not (text.islower() or text.isupper()), 0
    for end in sorted(marks):
        if end >= floor and (heading := _heading(text, floor, end, marks[end], contrast)):
            yield heading
            floor = heading.content


def _opens(text: str, match: re.Match[str]) -> bool:
    """Tell whether what follows such a word can be what stands below it."""
    if (following := _FOLLOWING.match(text, match.end())) is None:
        return False
    heading, word = match[0], following[1]
    if word.lower() in WORDS["predicate"] or word.lower() in BARE_WORDS:
        return False
    if text.islower() or text.isupper() or not word.isalpha():
        return True
    if heading.isupper():
        return not word.isupper() or len(word) == 1 or word in ("PA", "AP")
    return heading[0].isupper() and word[0].isupper()


def _heading(text: str, floor: int, end: int, mark: str, contrast: bool) -> Heading | None:
    tail = text[max(floor, end - _WORDLENGTH) : end].rstrip(_TRIMMED)
    last = _WORD.findall(tail)[-1] if tail[-1:].isalnum() and tail[-1:].isascii() else ""
    if not last or (mark != ":" and last.lower() not in WORDS["noun"] and kind_of((last.lower(),)) is None):
        return None  # said at once, since most line breaks end no heading
    if last.isdigit() and text[end + 1 : end + 2].isdigit():
        return None  # a time: "one view at 10:15"
    run = _run(text, floor, end)
    content = end + len(text[end : end + 8]) - len(text[end : end + 8].lstrip(_SKIPPED.get(mark, f" {mark}")))
    if run.opens and _RUN.fullmatch(run.text) and (kind := _opening_kind(run, mark, contrast)):
        if kind == "change" and mark != ":" and not text[floor : run.start].strip():
            return None  # "REASON FOR EXAM:", below it "INTERVAL CHANGE" as what is asked
        numbered = _NUMBERED.search(text, max(floor, run.start - _WORDLENGTH), run.start)
        return Heading(numbered.start() if numbered else run.start, content, kind, spelled(run.text))
    lowered = not contrast and floor > 0  # a text in lower case, which has begun with a heading
    if mark in (":", "") and (skipped := _inside(run.text, mark, lowered)) is not None:
        name = spelled(run.text[skipped:])
        return Heading(run.begin + skipped, content, str(kind_of(name)), name)
    return None


def _run(text: str, floor: int, end: int) -> _Run:
    base = max(floor, end - _WINDOW)
    window = text[base:end].rstrip(_TRIMMED)
    boundaries = list(_BOUNDARY.finditer(window))
    first = boundaries[-1].start() if boundaries else 0
    lead = _LEAD.match(window, first)
    start = lead.end() if lead else first
    _, broken, indent = window[:start].rpartition("\n")
    line = (bool(broken) or base == 0) and _INDENT.fullmatch(indent) is not None
    above = window[: len(window[:start]) - len(indent)].rstrip(" ")
    fresh = not above.strip() or above.endswith("\n\n") or above.rstrip()[-1] in ".?!:"
    whole = base + start - line * len(indent)  # with its item number
    return _Run(window[start:], whole, base + start, bool(boundaries) or base == 0, line, fresh)


def _opening_kind(run: _Run, mark: str, contrast: bool) -> str | None:
    """Return the kind of a heading that begins a sentence or a line."""
    kind, capital = kind_of(spelled(run.text)), not run.text[0].islower()
    if mark == ":":
        if not capital and run.line and run.start and contrast:
            return None  # prose that goes on in the next line: "with the following\nfindings: ..."
        return kind or (_contained(run.text) if run.line else None)
    if kind is None or not (capital or not contrast):
        return None
    fits = kind in _SECTIONS or (kind == "organ" and run.line and mark not in ("", *_GAPS))
    if mark == "\n" or (mark in _GAPS and not run.line):
        fits = run.line and _stands_alone(run, kind, contrast)
    return kind if fits else None


def _stands_alone(run: _Run, kind: str, contrast: bool) -> bool:
    """Tell whether a line without a colon is a heading and not the end of a sentence."""
    name = spelled(run.text)
    long = (not contrast and len(name) > 2) or name[0] in ("prior", "previous")
    if (run.text.isupper() and not run.fresh and long) or run.text.endswith("."):
        return False  # "COMPARED WITH\nPRIOR STUDIES"
    return kind in _LINES or (kind in ("view", "change") and run.text.isupper() and len(name) > 1)


def _contained(text: str) -> str | None:
    """Return the kind of a line's heading that has unknown words, too: "SALIENT FINDINGS"."""
    name = _WORD.findall(text)
    if len(name) > 6 or any(w.islower() and w not in WORDS["filler"] for w in name):
        return None
    known = tuple(w.lower() for w in name if kind_of((w.lower(),)) is not None)
    return kind if (kind := kind_of(known)) in (*_INSIDE, "organ") else UNKNOWN


def _inside(text: str, mark: str, lowered: bool) -> int | None:
    """Return where a heading in the middle of a sentence begins: "... with cough FINDINGS: ..."."""
    spans = list(_WORD.finditer(text))
    capitals, first = spans[-1][0].isupper(), len(spans)
    while first:
        word = spans[first - 1][0]
        known = kind_of((word.lower(),)) is not None and (word.isupper() or not capitals)
        if not known and word.lower() not in WORDS["filler"]:
            break
        first -= 1
    name = [match[0].lower() for match in spans[first:]]
    skipped = _first_of(name)
    if capitals and not lowered and kind_of(tuple(name)) == "change":
        skipped = 0
    elif skipped is None or kind_of(tuple(name[skipped:])) not in _INSIDE:
        return None
    before = spans[first - 1][0] if (first := first + skipped) else ""
    if mark == "" and (not capitals or (before.isupper() and len(before) > 1)):
        return None  # "NO FINDINGS were made"
    return spans[first].start() if lowered or spans[first][0][0].isupper() else None


def _first_of(name: list[str]) -> int | None:
    """Return where the heading begins in words whose first may end what stands above."""
    # "PRIOR CHEST X-RAY FINDINGS:" has the heading "FINDINGS", "REASON FOR CHEST X-RAY:" is whole.
    if not (heads := [n for n, word in enumerate(name) if kind_of((word,)) in _INSIDE]):
        return None
    first = last = heads[-1]
    while first and (kind_of((name[first - 1],)) in _BESIDE or name[first - 1] in WORDS["filler"]):
        first -= 1
    while name[first] in WORDS["filler"] and first < last:
        first += 1
    return first
