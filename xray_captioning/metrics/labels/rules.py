"""What the data files say: words that name findings, and words that decide what is said of them.

``findings.txt`` and ``cues.txt`` are meant to be read and edited; each explains its notation. What
can begin with a word is put together when that word is first met, and a line becomes a pattern when
the next word is one with which it goes on: reports need few of them.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

from xray_captioning.metrics.labels.spelling import Spelling

# How a line of findings.txt begins, and what that makes of its words.
_MARKS = {"": "", "-": "absent", "?": "borderline", "~": "sign", "=": "stable", "!": "other"}
_FAR, _NEAR = " ... ", " .. "


class Phrase(NamedTuple):
    """What the lines of one section and kind say."""

    kind: str  # a finding's value of `_MARKS`; a cue's "denied", "possible", ...
    reach: str  # of a cue: "before", "beside", "after", "next" or "stop"; empty for a finding
    findings: tuple[str, ...]  # empty for a cue


class Gaps(NamedTuple):
    """What stands between the parts of a line, at most so many words."""

    words: frozenset[str]  # over which " ... " never goes
    far: str  # the pattern of " ... "
    near: str  # that of " .. "


class Plain(NamedTuple):
    """What the words of a rest say of where it can be."""

    seconds: frozenset[str] | None  # the words it goes on with; None where that is hard to say
    needed: frozenset[str] | None  # one of these stands somewhere, if not None
    single: bool  # it is one of `seconds` and no more


class Rest:
    """What a line says behind its first word."""

    def __init__(self, text: str, gaps: Gaps):
        self.text = text
        self.gaps = gaps

    @cached_property
    def plain(self) -> Plain:
        """What words alone say of it, so that few patterns are made and tried."""
        text = self.text.removeprefix("(?=")
        gap = next((gap for gap in (_FAR, _NEAR) if text.startswith(gap)), "")
        steps = list(_steps(text[len(gap) :]))
        firm = [i for i, (_, optional, _) in enumerate(steps) if not optional]
        if gap:
            return Plain(None, steps[firm[0]][0] if firm else None, False)
        if not firm:
            return Plain(None, None, False)
        seconds = frozenset().union(*[words for words, _, _ in steps[: firm[0] + 1]])
        needed = steps[firm[-1]][0] if firm[-1] else None
        return Plain(seconds, needed, len(steps) == 1 and steps[0][2])

    @cached_property
    def _match(self) -> Callable[[str, int], re.Match[str] | None]:
        text = self.text.replace(_FAR, self.gaps.far).replace(_NEAR, self.gaps.near)
        return re.compile(rf"(?:{text})(?!\w)").match

    def end(self, words: str, place: int, following: list[str]) -> int:
        """Return where it ends if it goes on at a place in a sentence, else 0."""
        match = self._match(words, place)
        return match.end() if match else 0


class Far(Rest):
    """A rest that goes on after a gap, with one of its `needed` words."""

    def __init__(self, text: str, gaps: Gaps):
        super().__init__(text, gaps)
        self._behind = Rest(text.removeprefix(_FAR[:-1]), gaps)

    def end(self, words: str, place: int, following: list[str]) -> int:
        """Return where it ends behind the shortest gap, else 0."""
        seconds, _, single = self._behind.plain
        for word in following[:9]:
            if seconds and word in seconds:
                end = place + 1 + len(word) if single else self._behind.end(words, place, [])
                if end:
                    return end
            if word in self.gaps.words:
                return 0
            place += 1 + len(word)
        return 0


Trial = tuple[Phrase, int, list[tuple[frozenset[str] | None, Rest]]]
"""Of a section and kind: how many words a line without pattern takes, and the other lines, each
behind the words of which it needs one. Of the lines that fit the longest counts."""


class Word(dict[str, list[Trial]]):
    """The lines that begin with a word, by the word behind it; "." is any that is no second."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[Phrase, list[Rest]] = {}

    @cached_property
    def seconds(self) -> frozenset[str]:
        """Words with which some line goes on."""
        rests = [rest.plain.seconds for rests in self.lines.values() for rest in rests]
        return frozenset().union(*[words for words in rests if words])

    def __missing__(self, second: str) -> list[Trial]:
        trials = [_trial(phrase, rests, second) for phrase, rests in self.lines.items()]
        self[second] = [trial for trial in trials if trial[1] or trial[2]]
        return self[second]


def _trial(phrase: Phrase, rests: list[Rest], second: str) -> Trial:
    taken, others = 0, []
    for rest in rests:
        seconds, needed, single = rest.plain
        if seconds is None or second in seconds:
            if single:
                taken = 2
            elif rest.text:
                others.append((needed, rest))
            else:
                taken = taken or 1
    return phrase, taken, others


class Rules(NamedTuple):
    """All data files: lines by their first word, and words that no cue reaches across."""

    words: dict[str, Word]
    naming: frozenset[str]  # words with which findings begin
    blocked: frozenset[str]
    spelling: Spelling


@cache
def rules(convention: str) -> Rules:
    """Read the data files, leaving out the lines of other conventions."""
    cues, findings = sections("cues.txt"), sections("findings.txt")
    (far,), (near,), (blocked,) = (cues.pop(name) for name in ("gap", "near", "blocked"))
    gaps = Gaps(
        _choices(far) | {";"},
        rf"(?: (?!{far}\b)[^ ;]+){{0,8}}? ",
        rf" (?:(?!{near}\b)[a-z]+ ){{1,6}}",
    )
    rest = cache(lambda text: (Far if text.startswith(_FAR) else Rest)(text, gaps))
    parts = [(Phrase("", "", tuple(name.split(", "))), own) for name, own in findings.items()]
    parts += [(_cue(heading), own) for heading, own in cues.items()]
    words: dict[str, Word] = {}
    for about, own in parts:
        for kind, line in _held(own, convention):
            phrase = Phrase(about.kind or kind, about.reach, about.findings)
            for word, text in _begun(line):
                words.setdefault(word, Word()).lines.setdefault(phrase, []).append(rest(text))
    named = [w for w, word in words.items() if any(phrase.findings for phrase in word.lines)]
    return Rules(words, frozenset(named), _choices(blocked), _spelling((findings, cues)))


def _choices(group: str) -> frozenset[str]:
    return frozenset(group.strip("()").split("|"))


def _cue(heading: str) -> Phrase:
    kind, _, reach = heading.rpartition(" ")
    return Phrase(kind or reach, reach if kind else "stop", ())


def _held(lines: list[str], convention: str) -> Iterator[tuple[str, str]]:
    """Yield the lines that hold under a convention, each behind its kind."""
    for line in lines:
        if line[0] == "<":
            only, line = line[1:].split("> ", 1)
            if only != convention:
                continue
        mark = line[0] if line[1] == " " and line[0] in _MARKS else ""
        yield _MARKS[mark], line[2:] if mark else line


# A word, a choice of words, or some that can be absent: "(the )?" and "( lines?)?".
_STEP = re.compile(
    r" ?(?:\((?P<choices>[^() ][^()]*[^() ])\)(?= |$|\( |\(\?)|(?P<word>[^() ]+)(?= |$|\( |\(\?)"
    r"|\((?P<absent>(?:[^()|]+ \|)*[^()|]+ |(?: [^()|]+\|)* [^()|]+)\)[?*])"
)
_PLAIN = re.compile(r"[a-z0-9]+\??|[,:;/]")


def _steps(text: str) -> Iterator[tuple[frozenset[str], bool, bool]]:
    """Yield the words with which each part begins, whether it can be absent, and whether it is all.

    Parts are words and choices in brackets, as far as they are plain.
    """
    place = 0
    while step := _STEP.match(text, place):
        place = step.end()
        choices = (step["choices"] or step["word"] or step["absent"]).split("|")
        firsts = [choice.split()[0] for choice in choices]
        if not all(map(_PLAIN.fullmatch, firsts)):
            return
        words = frozenset(form for first in firsts for form in _forms(first))
        whole = place == len(text) and not any(" " in choice for choice in choices)
        yield words, bool(step["absent"]), whole


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
    lists: dict[str, str] = {}
    for line in Path(__file__).with_name(name).read_text("utf-8").splitlines():
        line = line.partition("#")[0].strip()
        for short, words in lists.items():
            line = line.replace(short, words)
        if line.startswith("{"):
            short, _, lists[short] = line.partition(" = ")
        elif line.startswith("["):
            own = found[line.strip("[]")] = []
        elif line:
            own.append(line)
    return found


def alternatives(section: str) -> str:
    """Return what a section of ``patterns.txt`` matches, to be put in brackets."""
    return "|".join(sections("patterns.txt")[section])
