"""Whole reports into their sections, so that what was asked is never taken as seen."""

import ast
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from xray_captioning.errors import DataError
from xray_captioning.text import cleaning, headings

_Part = tuple[str, str]  # what kind of section, and its text
_CONTENT = ("findings", "impression", headings.BOTH, "addendum")
_BEFORE = ("indication", "comparison", "technique", "exam")
_NAMED = (*_CONTENT, "indication", "comparison", "technique", "organ")
_UNNAMED = ("exam", "view", "banner", "wet")
_BODY = "body"  # text that no heading names
_OPENING = 80  # characters in which a sentence says that it is about the patient
_SIGNS = {"\r\n": "\n", "\r": "\n", "\\n": "\n", "\t": "   ", "\u00a0": " ", "\uff1a": ":"}.items()
_SIGN = re.compile(r"[:\n\r\\\[<*|\uff1a]")
_SIGNED = r"\n[ ]*\n[ ]*(?:dr|prof)\b[^\n]{,60}"
_FOOTERS = "|".join(map(re.escape, headings.PHRASES["footer"]))
_FOOTER = re.compile(rf"(?i)(?:{_SIGNED}\s*)?(?:^|[.\n])[ *]*(?:{_FOOTERS})|{_SIGNED}\s*\Z")
_ITEM = re.compile(r"\s*(?:\(?\d{1,2}[.)]|([-*\u2022]))\s*\S")
_SIGN_OF_ITEM = re.compile(r"(?<![^\s:])(?:\(?(\d{1,2})[.)](?=\s|[A-Z])|[-*\u2022](?=\s))")
_NEXT = re.compile(r"(?<=\S[.?!;\n])\s*\(?(\d{1,2})[.)](?=\s|[A-Z])")
_BEFORE_WORD = " \n*_#(\\[<>\u2022|-.)0123456789"
_MARKERS = [form(phrase) for phrase in headings.PHRASES["marker"] for form in (str.upper, str.title)]
_SUBJECT = rf"(?i:{'|'.join(headings.WORDS['predicate'])})\b"  # "The final report is ..."
_MARKER = re.compile(rf"(?m)(?:^[-=~* ]*|(?<=[.?!] ))({'|'.join(_MARKERS)})\.?(?:[-=~* ]*$|(?= +(?!{_SUBJECT})\w))")


@dataclass(frozen=True)
class Sections:
    """The sections of a report; one that is absent or empty is None."""

    indication: str | None = None  # why the images were asked for, and the patient's history
    technique: str | None = None  # how they were made, or else the examination's name
    comparison: str | None = None  # what they were compared with
    findings: str | None = None
    impression: str | None = None


def split_report(text: str) -> Sections:
    """Split a report into its sections by the headings of the usual house styles.

    Headings, of words in ``headings.txt``, may be in capitals, with colon or dash, or on lines of their own. The rules
    are told in ``docs/data.md``, "Sections of a report"; a text without any heading is both findings and impression.
    Text below the examination's name is findings as in MIMIC-CXR's section parser (Johnson et al. 2019).

    Returns
    -------
    Sections
        Words with single spaces between them; items of a list stand on lines of their own.

    Raises
    ------
    DataError
        When `text` is not text.

    Examples
    --------
    >>> sections = split_report("INDICATION: r/o effusion. FINDINGS: Clear. IMPRESSION: Normal.")
    >>> sections.indication, sections.findings, sections.impression
    ('r/o effusion.', 'Clear.', 'Normal.')
    """
    if not isinstance(text, str):
        raise DataError(f"a report is not text but {type(text).__name__}; drop it or use ''")
    unnamed = Sections(findings=text.strip() or None, impression=text.strip() or None)
    # Most texts of long tables are known at once to have no heading.
    if _SIGN.search(text) is None and headings.BARE_WORDS.isdisjoint(text.split()):
        return unnamed
    plain = _lines(text)
    every = list(headings.headings(plain))
    kinds = [heading.kind for heading in every]
    if ({*_NAMED, *_UNNAMED} - ({"organ"} if kinds.count("organ") == 1 else set())).isdisjoint(kinds):
        return unnamed
    found = list(_last(plain, list(_kept(plain, every))))
    return _assembled(list(_parts(plain, found)), named=any(heading.kind in _NAMED for heading in found))


def has_headings(text: str) -> bool:
    """Whether a text tells its sections, as whole reports do."""
    found = split_report(text)
    return any(part and part.split() != text.split() for part in (found.findings, found.impression))


def _lines(text: str) -> str:
    """Return a text with one kind of line break, without rules, tags and escaped breaks."""
    # A report may have been written as JSON or as Python's dictionary.
    fields = literal(text.strip()) if re.fullmatch(r"(?s)\s*\{.*\}\s*", text) else None
    if isinstance(fields, dict):
        text = "\n\n".join(f"{key}: {value}" for key, value in fields.items() if value)
    text = cleaning.without_tags(text)
    for sign, plain in _SIGNS:
        text = text.replace(sign, plain)
    text = re.sub(r"[\[<](/?)([A-Za-z /&]{3,40})[\]>]", _bracketed, text)
    if "report" in (lowered := text.lower()) or "addendum" in lowered:  # each marker has one of them
        text = _MARKER.sub(r"\n\1\n", text)
    return re.sub(r"^[ ]*([-_=*#~])\1{4,}[ ]*$", "", text, flags=re.MULTILINE)


def literal(text: str) -> Any:
    """Return the value that a text is as JSON or as Python writes it, None where it is none."""
    for read in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            return read(text)
    return None


def _bracketed(heading: re.Match[str]) -> str:
    known = headings.kind_of(headings.spelled(heading[2])) is not None
    return heading[0] if not known else "\n" if heading[1] else f"\n{heading[2]}:"


def _kept(text: str, found: list[headings.Heading]) -> Iterator[headings.Heading]:
    """Leave out words that look like a heading but are part of the section that they are in."""
    current, above = "", None
    for heading, stop in zip(found, [*(h.start for h in found[1:]), len(text)], strict=True):
        kind = heading.kind
        label = current in _CONTENT and kind in ("organ", "view", "change", headings.UNKNOWN)
        same = kind == current and len(heading.words) > 1 and headings.kind_of(heading.words) is None
        if label or same or (above and _listed(text, above, heading, stop)):
            continue  # `same` is "Other abnormal findings:" within the findings
        if kind in ("change", "comment"):
            kind = current if current in (*_CONTENT, "recommendation", "stop", "wet") else "findings"
            heading = heading._replace(kind=kind)
        yield heading
        current, above = "findings" if kind == "organ" else kind, heading


def _listed(text: str, above: headings.Heading, heading: headings.Heading, stop: int) -> bool:
    """Tell whether a heading is inside the list above it: "1. CHF. 2. History: cancer. 3. Effusion."."""
    apart = heading.kind in _CONTENT and (heading.kind, above.kind) != ("findings", "impression")
    if apart or above.kind not in (*_CONTENT, "indication") or (first := _ITEM.match(text, above.content)) is None:
        return False
    begin = heading.content - len(text[heading.start : heading.content].lstrip(_BEFORE_WORD))
    count, end, bullet = 0, above.content, first[1]
    for item in _SIGN_OF_ITEM.finditer(text, max(end, begin - _OPENING) if bullet else end, begin):
        if (item[1] or item[0]) in (str(count + 1), bullet):
            count, end = count + 1, item.end()
    if count and (below := _NEXT.search(text, heading.content, stop)) and below[1] == str(count + 1):
        return True
    own_item = end > (above.content if above.kind == "impression" else first.end())
    return own_item and not text[end:begin].strip(" *_") and heading.kind not in ("recommendation", "stop")


def _last(text: str, found: list[headings.Heading]) -> Iterator[headings.Heading]:
    """Take what is preliminary for a first look where something final follows."""
    final, end, first = headings.WORDS["final"], len(text.rstrip()), False
    last = max((h.start for h in found if h.content < end and not final.isdisjoint(h.words)), default=0)
    for heading in found:
        early = heading.start < last and not headings.WORDS["early"].isdisjoint(heading.words)
        first = (first and final.isdisjoint(heading.words)) or (early and heading.kind == "banner")
        seen = heading.kind in (*_CONTENT, "organ", "view", "banner")
        yield heading._replace(kind="wet") if seen and (first or early) else heading


def _parts(text: str, found: list[headings.Heading]) -> Iterator[_Part]:
    """Yield what stands before the first heading and below each, without the text's end."""
    starts = [heading.start for heading in found]
    yield (_BODY, _without_footer(text[: [*starts, len(text)][0]]))
    for heading, stop in zip(found, [*starts[1:], len(text)], strict=True):
        # The label of an organ says where something is.
        content = _without_footer(text[heading.start if heading.kind == "organ" else heading.content : stop])
        if "summary" in heading.words and (heading.words[-1].isdigit() or re.match(r"\s*\d-[A-Z]{4}", content)):
            continue  # Stanford's code of urgency: "SUMMARY: 2-ABNORMAL, PREVIOUSLY REPORTED"
        if heading.kind == "view":
            yield ("exam", text[heading.start : heading.content].rstrip(" :"))
        seen = "exam" if heading.kind == "organ" and headings.is_title(content) else "findings"
        yield (seen if heading.kind == "organ" else heading.kind, content)


def _without_footer(text: str) -> str:
    found = _FOOTER.search(text)
    return text if found is None else text[: found.start() + text[found.start()].count(".")]


def _assembled(parts: list[_Part], named: bool) -> Sections:
    """Return the sections that parts make; `named` says whether any heading told a section."""
    parts = list(_moved(parts, named))
    findings = _joined(parts, "findings", headings.BOTH) or _joined(parts, _BODY)
    impression = _joined(parts, "impression", headings.BOTH) if named else findings
    if findings is None and impression is None:
        findings = impression = _joined(parts, "wet")
    if impression is None and findings is not None:
        findings = _sum(findings, _joined(parts, "addendum"))
    else:
        impression = _sum(impression, _joined(parts, "addendum"))
    technique = _joined(parts, "technique") or _joined(parts, "exam")
    return Sections(_joined(parts, "indication"), technique, _joined(parts, "comparison"), findings, impression)


def _moved(parts: list[_Part], named: bool) -> Iterator[_Part]:
    """Yield parts of which those without a heading of their own are called what they are."""
    described = any(kind in ("findings", headings.BOTH) and text.strip() for kind, text in parts)
    last = max(number for number, (kind, _) in enumerate(parts) if kind not in _CONTENT)
    for number, (kind, text) in enumerate(parts):
        paragraphs = [part for part in re.split(r"\n[ ]*\n", text) if part.strip()]
        if kind in (_BODY, "view", "banner") or (kind == "exam" and not named):
            yield from ((_kind_of_paragraph(paragraph, kind), paragraph) for paragraph in paragraphs)
        elif kind in _BEFORE and not described and number == last:
            first, *rest = paragraphs or [""]
            yield (kind, first)
            yield from ((_kind_of_paragraph(paragraph), paragraph) for paragraph in rest)
        else:
            yield (kind, text)


def _kind_of_paragraph(text: str, kind: str = _BODY) -> str:
    """Tell whether a paragraph below no section's heading is asked, a title, or what is seen."""
    if any(phrase in text[:_OPENING].lower() for phrase in headings.PHRASES["asked"]):
        return "indication"
    if not (prose := [line for line in text.splitlines() if not headings.is_title(line)]):
        return "exam"
    if kind == "view":
        return "findings"
    return _BODY if prose[-1].rstrip(" *_").endswith(".") or kind == "exam" else "letterhead"


def _joined(parts: list[_Part], *kinds: str) -> str | None:
    return _sum(*(_flowing(text) for kind, text in parts if kind in kinds))


def _sum(*texts: str | None) -> str | None:
    """Join texts, each of which begins a sentence; None where all are empty."""
    *ended, last = [text for text in texts if text] or [""]
    ended = [text if text[-1] in ".?!:;" else f"{text}." for text in ended]
    return " ".join([*ended, last]) or None


def _flowing(text: str) -> str:
    """Return a section without its line breaks, except before the items of a list."""
    lines = [" ".join(line.split()) for line in text.strip(" \n*#:|>").splitlines()]
    flowing = "".join(("\n" if _ITEM.match(line) else " ") + line for line in lines if line)
    if len(flowing) < _OPENING and " ".join(re.findall("[a-z]+", flowing.lower())) in headings.PHRASES["pointer"]:
        return ""
    return flowing.strip()
