"""What ``findings.txt`` and ``cues.txt`` say, to be read and edited; each explains its notation."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from xray_captioning.metrics.labels.automaton import END, State, forms, heads
from xray_captioning.metrics.labels.spelling import Spelling

# How a line of findings.txt begins, and what that makes of its words.
MARKS = {"": "", "-": "absent", "?": "borderline", "~": "sign", "=": "stable", "!": "other"}


# What the lines of one section and kind say: a finding's value of `MARKS` or a cue's "denied",
# "possible", ...; of a cue "before", "beside", "after", "next" or "stop"; the findings.
Phrase = tuple[str, str, tuple[str, ...]]


class Rules(NamedTuple):
    """All data files: lines by their first word, and words that no cue reaches across."""

    start: State
    stops: State  # those of cues that reach nothing
    lines: list[Phrase]
    naming: frozenset[str]  # words with which findings begin
    blocked: frozenset[str]
    spelling: Spelling


@cache
def rules(convention: str) -> Rules:
    """Read the data files, leaving out the lines of other conventions."""
    cues, findings = sections("cues.txt"), sections("findings.txt")
    groups = [cues.pop(name)[0].strip("()") for name in ("gap", "near", "blocked")]
    far, near, blocked = (frozenset(group.split("|")) for group in groups)
    gaps = {"...": (far | {";", END}, 0, 8), "..": (near, 1, 6)}
    parts = [(("", "", tuple(name.split(", "))), own) for name, own in findings.items()]
    for heading, own in cues.items():
        kind, _, reach = heading.rpartition(" ")
        parts.append(((kind or heading, reach if kind else "stop", ()), own))
    state = cache(lambda threads: State(threads, gaps, state))
    start, stops, lines = State((), gaps, state), State((), gaps, state), list[Phrase]()
    for (kind, reach, names), own in parts:
        first = stops if reach == "stop" else start
        for mark, line in _held(own, convention):
            for words, rest in heads(line):
                if not isinstance(words, tuple):
                    raise ValueError(f"a line begins with a word or words in brackets: {line!r}")
                for word in words:
                    first[word] = (*first.get(word, ()), (len(lines), rest))
                lines.append((kind or mark, reach, names))
    naming = frozenset(w for w, own in start.items() if any(lines[n][2] for n, _ in own))
    return Rules(start, stops, lines, naming, blocked, _spelling((findings, cues)))


def _held(lines: list[str], convention: str) -> Iterator[tuple[str, str]]:
    """Yield the lines that hold under a convention, each behind its kind."""
    for line in lines:
        only, _, text = line.rpartition("> ") if line.startswith("<") else ("", "", line)
        if only in ("", f"<{convention}"):
            mark = text[0] if text[1] == " " and text[0] in MARKS else ""
            yield MARKS[mark], text[2:] if mark else text


def _spelling(files: tuple[dict[str, list[str]], ...]) -> Spelling:
    """Read ``spelling.txt``; every word of the other files is known."""
    lists = sections("spelling.txt")
    pairs = [line.partition(" = ") for line in lists["expand"]]
    known = {word for file in files for lines in file.values() for word in _words(lines)}
    known.update(lists["known"], _words([long for _, _, long in pairs]))
    return Spelling({short: long for short, _, long in pairs}, lists["terms"], known)


def _words(lines: list[str]) -> set[str]:
    found = set(re.findall(r"[a-z]+\??", " ".join(lines)))
    return {form for word in found for form in forms(word)}


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


_PATTERNS = sections("patterns.txt")


def alternatives(section: str) -> str:
    """Return what a section of ``patterns.txt`` matches, to be put in brackets."""
    return "|".join(_PATTERNS[section])
