"""Cut a report into statements: sentences, items, answers of a form, but not what was known before anybody looked."""

import re
from itertools import pairwise

from xray_captioning.metrics.labels.rules import alternatives

# A full stop behind these ends no sentence.
_ABBREVIATED = re.sub(r"(\w+) ?", r"(?<!\\b\1\\.)", "vs approx poss prob pl pulm eff bilat rt lt dr incl")
# It begins with one of few characters, so that the search skips all others fast.
_SENTENCE_END = re.compile(
    rf"[.?!\n](?:(?<=\n)\s*\n|(?<!\n)[.?!]*(?=\s|$)(?:(?<![sxbltmrf]\.)|{_ABBREVIATED})"
    r"|(?<=[a-z0-9]\.)(?=[a-z]{2}|\d{1,2}[.)] ))"
)
# No radiologist writes a sentence of a thousand characters, but a broken model may. Such a sentence
# is read in pieces, so that time grows only in proportion to length.
PIECE = re.compile(r".{1,1000}(?!\S)|.{1,1000}", re.DOTALL)

_BULLET = r"(?:[-*#\u2022\u2013+>]|\(?\d{1,2}[.)])"
_ITEM = re.compile(rf"\s*\n\s*{_BULLET}\s+|,\s*\n\s*-(?=[A-Za-z])|^\s*{_BULLET}\s+")
_LINE_END = re.compile(r"[ \t\r]*\n[ \t]*")
_INLINE_ITEM = re.compile(
    r"(?:^|(?<=[\s.:]))(?:[*\u2022]\s|-(?=[A-Z][a-z]+ )|\(?(?:\d{1,2}|[a-eA-E])\)\s?|\d{1,2}\.)\s*(?=[A-Za-z])"
)
# A line that ends or begins with one of these is wrapped, not finished.
_OPEN_END = re.compile(rf"(?:[,:/&-]|\b(?:{alternatives('open end')}))$")
_OPEN_START = re.compile(rf"(?:{alternatives('open start')})\b")
_NUMBERED = re.compile(r"\d\)|\b[a-eA-E]\)")
# Most texts have none of these; "-" within a word is none.
_SIGN = re.compile(r"[-*?#+|=')](?<!\w-)")
_DASH = re.compile(r"[ \t]+(?:-{1,2}|[\u2013\u2014|])[ \t]+(?=[a-z])|=[ \t]{0,9}(?=[a-z0-9])")
# "[x] edema", "[ ] effusion"; "edema [ ]": what is not ticked is not there.
_BOX = re.compile(
    r"(?mi)(?:^[ \t|]*|((?<=[a-z)])[ \t:|]+))"
    r"(?:(\[ ?\]|[\u2610\u2717\u2718])|\[x\]|[\u2611\u2612\u2713\u2714])[ \t|]*(?(1)$)"
)
_BULLETS = dict.fromkeys(map(ord, "\u2022\u25cf\u25aa\u25a0\u25e6\u2023\u27a2"), " \u2022 ")
_ASKED_WORD = re.compile(r"(?<![a-z])\?[ \t]*(?=[a-z])")
_AND_PLUS = re.compile(r"(?:^|(?<=[,;.:]))\s*\+\s?(?=[a-z])")
# "(-) effusion (+) edema": there the signs stand before what they are of, as in "+ett, -ptx".
_SIGNED = re.compile(r"(?m)^[ \t]*(?:\([-+]\) ?[a-z].*|(?=.*\+)[-+][a-z].*[\s,;][-+][a-z].*|\+ ?[a-z].*, - ?[a-z].*)")
_BEFORE = re.compile(r"(?:^|(?<=[\s,;]))(?:-|\(-\) ?|(?<=, )- )(?=[a-z])")
_COMMA_MINUS = re.compile(r"(?<=[,;])\s*(?:-|\(-\) ?)(?=[a-z])")
_UNMARKED = re.compile(r"(?m)^(?![ \t]*-).*[,;][ \t]*(?:-|\(-\)).*")  # a list's first item has the mark of the others
_MINUS = re.compile(r"\(-\)|(?<=[a-z]) -(?:ve\b)?(?=[,;]|\.?\n|\.?\Z)")  # "effusion -, edema +"
_PLUS = re.compile(r"\s\+\s(?=[a-z])")
_ANSWERED = re.compile(rf"\s?\?\s*(?={alternatives('answer')})")
_QUESTION = re.compile(r"(?<=[a-z])\s?\?(?=[\s.,;)]|$)")
# "rib #", "# left clavicle": fractures.
_BROKEN = re.compile(
    r"(?<=rib |ibs |cle )#|(?<=no )#|#(?=s\b|\s?(?:left |right |of )*(?:ribs?|clavicle|humerus|sternum)\b)"
)
_NOT = re.compile(r"n['\u2019]t\b")

# Headings of what was known or asked before, and of what was seen.
_ASKED = ("indication", "technique", "comparison", "exam", "recommendation", "stop")
_MADE = ("technique", "comparison", "exam")  # one sentence, as a rule
_FINDINGS = ("findings", "findings and impression", "organ")
_SEEN = (*_FINDINGS, "impression", "addendum", "wet")
_FIRST_SENTENCE = re.compile(r"(?s)\A.*?(?:(?:[.!]|(?<=[A-Za-z])\?)\s+(?=\S)|\n(?=[A-Z])|\Z)")
_SHORT = range(4, 42)  # letters of a line that may be a heading


def statements(text: str) -> list[str]:
    """Return the statements of a report in lower case, those of aims and comparisons left out."""
    if "[" in text or not text.isascii():
        text = _BOX.sub(lambda box: (": " if box[1] else "\n\n") + "no " * bool(box[2]), text)
        text = text.translate(_BULLETS)
    above = text.split("\n")[:-1]
    if ":" in text or any(len(line) in _SHORT and line[-1] != "." for line in above):
        text = _seen(text)
    if above and "\n" in text.replace("\n\n", ""):
        text = _lines(text)
    text = text.lower() if text.isascii() and not _SIGN.search(text) else _signs(text)
    return [raw for raw in map(str.strip, _SENTENCE_END.split(text)) if raw]


def _signs(text: str) -> str:
    """Return a text in lower case, with words instead of the signs that a form or a list has."""
    text = text.replace(" - ", "\n\n") if text.startswith("- ") else text  # lines that were joined
    if "*" in text or "\u2022" in text or " -" in text or (")" in text and _NUMBERED.search(text)):
        text = _INLINE_ITEM.sub("\n\n", text)
    text = text.lower()
    if "?" in text:
        text = _ANSWERED.sub(" : ", text)
        text = _QUESTION.sub(" is questioned.", _ASKED_WORD.sub("question ", text))
    if "'t" in text or "\u2019t" in text:
        text = _NOT.sub(" not", text.replace("can't", "cannot").replace("can\u2019t", "cannot"))
    if "#" in text:
        text = _BROKEN.sub("fracture", text)
    if "+" in text or " -" in text or "(-)" in text or text.startswith("-") or ",-" in text:
        text = text.replace("+/-", " , possible ")
        text = _SIGNED.sub(lambda line: _BEFORE.sub("; no ", line[0]).replace("(+)", "; "), text)
        text = _MINUS.sub(": none,", _UNMARKED.sub(lambda line: _COMMA_MINUS.sub("; no ", line[0]), text))
        text = _PLUS.sub(" and ", _AND_PLUS.sub("; ", text))
    if " -" in text or " |" in text or "=" in text or not text.isascii():
        text = _DASH.sub(" : ", text)
    return text


def _seen(text: str) -> str:
    """Return a report without what was known or asked before anybody looked at the image."""
    # Findings without a heading begin at an empty line, or behind the first sentence ("Reason: fever.").
    from xray_captioning.text.headings import headings  # reads its words, which few texts need

    # "Compared to the prior study: the effusion is larger" is a sentence.
    found = [h for h in headings(text) if h.words[0] != "compared" or len(h.words) < 3]
    kinds = {heading.kind for heading in found}
    if kinds.isdisjoint(_ASKED):
        return text
    parts, asked = [text[: found[0].start]], False
    for heading, end in zip(found, [*[h.start for h in found[1:]], len(text)], strict=True):
        asked = heading.kind in _ASKED or (asked and heading.kind == "unknown")
        if not asked:
            parts.append(text[heading.start : end])
        elif kinds.isdisjoint(_FINDINGS):
            first, _, rest = text[heading.content : end].lstrip(": \n\t*").partition("\n\n")
            if heading.kind in _MADE or not (rest or kinds.intersection(_SEEN)):
                parts.append(_FIRST_SENTENCE.sub("", first))
            parts.append(rest)
    seen = "\n\n".join(parts)
    # "Examination: right effusion." is a sentence where nothing else is there.
    return seen if seen.strip() or kinds != {"exam"} else text


def _lines(text: str) -> str:
    """Put an empty line between the items of a list, and a blank where a line is only wrapped."""
    text = _ITEM.sub("\n\n", text)
    lines = _LINE_END.split(text)
    flowing = text.isupper() or text.islower()
    joined = [lines[0]]
    for before, line in pairwise(lines):
        joined += ["\n" if _finished(before, line, flowing) else " ", line]
    return re.sub(r"\n(?!\n)", "\n\n", "".join(joined))


def _finished(before: str, line: str, flowing: bool) -> bool:
    """Whether a new statement begins with `line`, to judge by how the lines end and begin."""
    if not before or not line:
        return not before.endswith(":")
    if _OPEN_END.search(before.lower()) or _OPEN_START.match(line.lower()):
        return False
    if flowing:  # all in capitals, or all in small letters: short lines are items
        return max(len(before), len(line)) <= 45 and before[-1] != "." and "." not in line
    return line[0].isupper() and not (len(before) > 60 and before[-1].isalnum())
