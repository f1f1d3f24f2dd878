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
        self._gap = gap

    @cached_property
    def seconds(self) -> frozenset[str] | None:
        """The words with which it goes on; None where that is hard to say."""
        return _seconds(self.text[len(_GAP) - 1 :] if self.apart else self.text)

    @cached_property
    def single(self) -> bool:
        """Whether it is one word, which is one of `seconds`."""
        return _ONE_WORD.fullmatch(self.text) is not None

    @cached_property
    def fits(self) -> Callable[[str, int], re.Match[str] | None]:
        """Tell whether it is at a place in a sentence, where the first word ends."""
        between = rf"(?: (?!{self._gap}\b)[^ ;]+){{0,8}}? "
        return re.compile(rf"(?:{self.text.replace(_GAP, between)})(?!\w)").match


Lines = list[tuple[Phrase, list[Rest]]]
"""What to try, by section and kind; of those that fit the longest counts."""


class Word(dict[str, Lines]):
    """The lines that begin with a word, by the word behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[Phrase, list[Rest]] = {}

    @cached_property
    def seconds(self) -> frozenset[str]:
        """Words with which some line goes on."""
        rests = [rest for rests in self.lines.values() for rest in rests if not rest.apart]
        return frozenset().union(*[rest.seconds for rest in rests if rest.seconds])

    @cached_property
    def otherwise(self) -> Lines:
        """What to try in front of any other word."""
        return self["."]

    def __missing__(self, second: str) -> Lines:
        found = []
        for phrase, rests in self.lines.items():
            own = [r for r in rests if r.apart or r.seconds is None or second in r.seconds]
            if own:
                found.append((phrase, own))
        self[second] = found
        return found


class Rules(NamedTuple):
    """All data files: lines by their first word, and words that no cue reaches across."""

    findings: dict[str, Word]
    cues: dict[str, Word]
    blocked: frozenset[str]
    spelling: Spelling


@cache
def rules(convention: str) -> Rules:
    """Read the data files, leaving out the lines of other conventions."""
    cues, findings = sections("cues.txt"), sections("findings.txt")
    gap = cues.pop("gap")[0]
    blocked = frozenset(cues.pop("blocked")[0].strip("()").split("|"))
    named = [(Phrase("", "", tuple(name.split(", "))), lines) for name, lines in findings.items()]
    said = [(_cue(heading), lines) for heading, lines in cues.items()]
    rest = cache(lambda text: Rest(text, gap))
    tables = [_table(parts, convention, rest) for parts in (named, said)]
    return Rules(*tables, blocked, _spelling((findings, cues)))


def _cue(heading: str) -> Phrase:
    kind, _, reach = heading.rpartition(" ")
    return Phrase(kind or reach, reach if kind else "stop", ())


def _table(
    parts: list[tuple[Phrase, list[str]]], convention: str, rest: Callable[[str], Rest]
) -> dict[str, Word]:
    words: dict[str, Word] = {}
    for about, lines in parts:
        for kind, line in _held(lines, convention):
            phrase = Phrase(about.kind or kind, about.reach, about.findings)
            for word, text in _begun(line):
                if word not in words:
                    words[word] = Word()
                words[word].lines.setdefault(phrase, []).append(rest(text))
    return words


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
_ONE_WORD = re.compile(r" (?:[a-z0-9]+\??|\([a-z0-9?|]+\))")


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
