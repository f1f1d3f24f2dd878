"""What the data files say: words that name findings, and words that decide what is said of them.

``findings.txt`` and ``cues.txt`` are meant to be read and edited; each explains its notation. What
can begin with a word is put together when that word is first met, and a line becomes a pattern when
the next word is one with which it goes on: reports need few of them.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache, cached_property
from importlib import resources
from typing import NamedTuple

from xray_captioning.metrics.labels.spelling import Spelling

# How a line of findings.txt begins, and what that makes of its words.
_MARKS = {"": "", "-": "absent", "?": "borderline", "~": "sign", "=": "stable", "!": "other"}
_GAP = " ... "


class Phrase(NamedTuple):
    """What the lines of one section and kind say."""

    kind: str  # a finding's value of `_MARKS`; a cue's "denied", "possible", ...
    reach: str  # of a cue: "before", "beside", "after", "next" or "stop"; empty for a finding
    findings: tuple[str, ...]  # empty for a cue


class Rest:
    """What a line says behind its first word."""

    def __init__(self, text: str, gap: str):
        self.text = text
        self.apart = text.startswith(_GAP)  # the words it goes on with come sooner or later
        self.seconds = _seconds(text[len(_GAP) - 1 :] if self.apart else text)
        self._between = rf"(?: (?!{gap}\b)[^ ;]+){{0,8}}? "

    @cached_property
    def fits(self) -> Callable[[str, int], re.Match[str] | None]:
        """Tell whether it is at a place in a sentence, where the first word ends."""
        return re.compile(rf"(?:{self.text.replace(_GAP, self._between)})(?!\w)").match


Lines = list[tuple[Phrase, list[Rest | None]]]
"""Of each section and kind what to try until one fits; None is a line of one word."""


class Word:
    """The lines that begin with a word, by the word behind it."""

    def __init__(self) -> None:
        self.lines: dict[Phrase, list[Rest | None]] = {}

    @cached_property
    def followed(self) -> dict[str, Lines]:
        """What to try in front of a word with which some line goes on."""
        rests = [rest for rests in self.lines.values() for rest in rests if rest]
        seconds = {word for rest in rests if not rest.apart for word in rest.seconds or ()}
        return {second: self._lines(second) for second in seconds}

    @cached_property
    def otherwise(self) -> Lines:
        """What to try in front of any other word."""
        return self._lines("")

    def _lines(self, second: str) -> Lines:
        found = []
        for phrase, rests in self.lines.items():
            own = [r for r in rests if not r or r.apart or not r.seconds or second in r.seconds]
            if own:  # those of most words first
                own.sort(key=lambda rest: _least_words(rest.text if rest else ""), reverse=True)
                found.append((phrase, own))
        return found


class Rules(NamedTuple):
    """All data files: phrases by their first word, and words that no cue reaches across."""

    words: dict[str, Word]
    blocked: frozenset[str]
    spelling: Spelling


@cache
def rules(convention: str) -> Rules:
    """Read the data files, leaving out the lines of other conventions."""
    cues, findings = sections("cues.txt"), sections("findings.txt")
    gap = cues.pop("gap")[0]
    blocked = frozenset(cues.pop("blocked")[0].strip("()").split("|"))
    rest_of = cache(lambda text: Rest(text, gap) if text else None)
    words: dict[str, Word] = {}
    for about, lines in [*_findings(findings), *_cues(cues)]:
        for kind, line in _held(lines, convention):
            phrase = Phrase(about.kind or kind, *about[1:])
            for word, text in _begun(line):
                own = words.get(word) or words.setdefault(word, Word())
                own.lines.setdefault(phrase, []).append(rest_of(text))
    return Rules(words, blocked, _spelling((findings, cues)))


def _findings(findings: dict[str, list[str]]) -> Iterator[tuple[Phrase, list[str]]]:
    for heading, lines in findings.items():
        yield Phrase("", "", tuple(heading.split(", "))), lines


def _cues(cues: dict[str, list[str]]) -> Iterator[tuple[Phrase, list[str]]]:
    for heading, lines in cues.items():
        kind, _, reach = heading.rpartition(" ")
        yield Phrase(kind or reach, reach if kind else "stop", ()), lines


def _held(lines: list[str], convention: str) -> Iterator[tuple[str, str]]:
    """Yield the lines that hold under a convention, each behind its kind."""
    for line in lines:
        if line[0] == "<":
            only, line = line[1:].split("> ", 1)
            if only != convention:
                continue
        mark = line[0] if line[1] == " " and line[0] in _MARKS else ""
        yield _MARKS[mark], line[2:] if mark else line


_STEP = re.compile(
    r" ?(?:\((?P<choices>[a-z0-9?| ]+)\)(?P<many>[?*]?)|(?P<word>[a-z0-9]+\??)(?= |\(|$))"
)


def _seconds(rest: str) -> frozenset[str] | None:
    """Return the words that can come first in what follows a word, None where that is not plain."""
    found: set[str] = set()
    place, optional = 0, True
    while optional:
        step = _STEP.match(rest, place)
        if step is None:
            return None
        choices = (step["choices"] or step["word"]).split("|")
        found.update(form for choice in choices for form in _forms(choice.split()[0]))
        place, optional = step.end(), bool(step["many"])
    return frozenset(found)


_GROUP = re.compile(r"\((?P<look>\?[=!<:][=!]?)?(?P<choices>[^()]*)\)(?P<many>[?*]|\{[^}]*\}\??)?")


def _least_words(rest: str) -> tuple[int, int]:
    """Return how many words a line has at least, and letters: the shortest choice of each group."""
    while group := _GROUP.search(rest):
        left_out = group["many"] or (group["look"] or "?:") != "?:"
        shortest = min(group["choices"].split("|"), key=lambda choice: choice.count(" "))
        rest = rest[: group.start()] + ("" if left_out else shortest) + rest[group.end() :]
    return rest.count(" "), len(rest)


def _begun(line: str) -> Iterator[tuple[str, str]]:
    """Yield each word that a line can begin with, and what follows it.

    "(a|b c) d" begins with "a" and goes on with " d", or begins with "b" and goes on with " c d";
    "words?" begins with "word" or "words".
    """
    head = re.match(r"(?:\(([^()]+)\)|[a-z0-9]+\??|[,:;/])(?= |\(|$)", line)
    if head is None:
        raise ValueError(f"a line begins with a word or with words in brackets, not {line!r}")
    for choice in (head.group(1) or head.group()).split("|"):
        word, blank, rest = choice.partition(" ")
        rest = blank + rest + line[head.end() :]
        yield from ((form, rest) for form in _forms(word))


def _forms(word: str) -> tuple[str, ...]:
    return (word[:-1], word[:-2]) if word.endswith("?") else (word,)


def _spelling(files: tuple[dict[str, list[str]], ...]) -> Spelling:
    """Read ``spelling.txt``; every word of the other files is known."""
    lists = sections("spelling.txt")
    pairs = [line.partition(" = ") for line in lists["expand"]]
    known = {word for file in files for lines in file.values() for word in _letters(lines)}
    known.update(lists["known"], _letters([long for _, _, long in pairs]))
    return Spelling({short: long for short, _, long in pairs}, lists["terms"], known)


def _letters(lines: list[str]) -> list[str]:
    """Return the words of lines, "effusions?" as "effusion" and "effusions"."""
    text = " ".join(lines)
    words = re.findall(r"[a-z]+", text)
    return words + [word[:-1] for word in re.findall(r"[a-z]+(?=\?)", text)]


def sections(name: str) -> dict[str, list[str]]:
    """Return the headings of a data file with the lines below each, without comments."""
    found: dict[str, list[str]] = {}
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    for line in text.splitlines():
        line = line.partition("#")[0].strip()
        if line.startswith("["):
            own = found[line.strip("[]")] = []
        elif line:
            own.append(line)
    return found
