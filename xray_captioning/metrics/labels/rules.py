"""What the data files say: words that name findings, and words that decide what is said of them.

``findings.txt`` and ``cues.txt`` are meant to be read and edited; each explains its notation.
"""

import re
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from functools import cache
from importlib import resources
from typing import NamedTuple

from xray_captioning.metrics.labels.spelling import Spelling

# How a line of findings.txt begins, and what that makes of its words.
_MARKS = {"": "", "-": "absent", "?": "borderline", "~": "sign", "=": "stable", "!": "other"}
_MARK = re.compile(r"(?:<(?P<convention>\w+)> )?(?:(?P<mark>[-?~=!]) )?(?P<words>.+)")


Fits = Callable[[str, int], re.Match[str] | None]


class Phrase(NamedTuple):
    """What the lines of one section and kind say that begin with the same word."""

    fits: Fits  # tells whether one of the lines is at a place in a sentence
    seconds: frozenset[str] | None  # the words with which the lines go on; None: hard to say
    kind: str  # a finding's value of `_MARKS`; a cue's "denied", "possible", ...
    reach: str  # of a cue: "before", "beside", "after", "next" or "stop"; empty for a finding
    findings: tuple[str, ...]  # empty for a cue


class Word(NamedTuple):
    """All phrases that begin with a word: those that are no more than it, and the others."""

    alone: list[Phrase]
    others: list[Phrase]


class Rules(NamedTuple):
    """All data files: phrases by their first word, and words that no cue reaches across."""

    words: dict[str, Word]
    blocked: frozenset[str]
    spelling: Spelling


class _Lines(NamedTuple):
    """Lines of one section and kind, and what they are about."""

    kind: str
    reach: str
    findings: tuple[str, ...]
    lines: list[str]


@cache
def rules(convention: str) -> Rules:
    """Read the data files, leaving out the lines of other conventions."""
    cues, findings = dict(sections("cues.txt")), dict(sections("findings.txt"))
    gap = cues.pop("gap")[0]
    blocked = frozenset(cues.pop("blocked")[0].strip("()").split("|"))
    parts = [
        _Lines(kind, "", tuple(heading.split(", ")), words)
        for heading, lines in findings.items()
        for kind, words in _kinds(lines, convention).items()
    ]
    for heading, lines in cues.items():
        kind, _, reach = heading.rpartition(" ")
        about = (kind, reach) if kind else (reach, "stop")
        parts += [_Lines(*about, (), words) for words in _kinds(lines, convention).values()]
    return Rules(_words(parts, gap), blocked, _spelling((findings, cues)))


def _words(parts: list[_Lines], gap: str) -> dict[str, Word]:
    """Compile the lines of each part into one pattern for each word that they can begin with."""
    step = rf"(?: (?!{gap}\b)[^ ;]+){{0,8}}? "
    table: dict[str, list[tuple[_Lines, list[str]]]] = {}
    for part in parts:
        grouped: dict[str, list[str]] = {}
        for line in part.lines:
            for word, rest in _begun(line.replace(" ... ", step)):
                grouped.setdefault(word, []).append(rest)
        for word, rests in grouped.items():
            table.setdefault(word, []).append((part, rests))
    return {word: _word(word, groups) for word, groups in table.items()}


def _word(word: str, groups: list[tuple[_Lines, list[str]]]) -> Word:
    phrases = [
        (set(rests) == {""}, Phrase(_pattern(word, rests), _seconds(rests), *part[:3]))
        for part, rests in groups
    ]
    return Word([p for alone, p in phrases if alone], [p for alone, p in phrases if not alone])


_STEP = re.compile(
    r" ?(?:\((?P<choices>[a-z0-9?| ]+)\)(?P<many>[?*]?)|(?P<word>[a-z0-9]+\??)(?= |\(|$))"
)


def _seconds(rests: list[str]) -> frozenset[str] | None:
    """Return the words that can come first in what follows a word, None where that is not plain."""
    found: set[str] = set()
    for rest in rests:
        place, optional = 0, True
        while optional:
            step = _STEP.match(rest, place)
            if step is None:
                return None
            choices = (step["choices"] or step["word"]).split("|")
            found.update(form for choice in choices for form in _forms(choice.split()[0]))
            place, optional = step.end(), bool(step["many"])
    return frozenset(found)


def _pattern(word: str, rests: list[str]) -> Fits:
    # Those of most words first, since the first that fits counts.
    longest = "|".join(sorted(rests, key=_least_words, reverse=True))
    return re.compile(rf"{re.escape(word)}(?:{longest})(?!\w)").match


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


def _kinds(lines: list[str], convention: str) -> dict[str, list[str]]:
    """Return the lines that hold under a convention, by kind."""
    kinds: dict[str, list[str]] = {}
    for line in lines:
        parts = _MARK.fullmatch(line)
        if parts and parts["convention"] in (None, convention):
            kinds.setdefault(_MARKS[parts["mark"] or ""], []).append(parts["words"])
    return kinds


def _spelling(files: tuple[dict[str, list[str]], ...]) -> Spelling:
    """Read ``spelling.txt``; every word of the other files is known."""
    lists = dict(sections("spelling.txt"))
    pairs = [line.partition(" = ") for line in lists["expand"]]
    known = {word for file in files for lines in file.values() for word in _letters(lines)}
    known.update(lists["known"], _letters([long for _, _, long in pairs]))
    return Spelling({short: long for short, _, long in pairs}, lists["terms"], known)


def _letters(lines: list[str]) -> list[str]:
    """Return the words of lines, "effusions?" as "effusion" and "effusions"."""
    text = " ".join(lines)
    words = re.findall(r"[a-z]+", text)
    return words + [word[:-1] for word in re.findall(r"[a-z]+(?=\?)", text)]


def sections(name: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the headings of a data file with the lines below each, without comments."""
    # For configparser a heading is a section and each line a key without a value.
    parser = ConfigParser(
        allow_no_value=True, delimiters=("\0",), inline_comment_prefixes=("#",), interpolation=None
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(resources.files(__package__).joinpath(name).read_text(encoding="utf-8"))
    for heading in parser.sections():
        yield heading, list(parser[heading])
