"""What the data files say, to be read and edited; each explains its notation."""

from functools import cache
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from xray_captioning.metrics.labels.automaton import END, State, States
from xray_captioning.metrics.labels.spelling import Spelling

CONVENTIONS = ("chexpert", "mesh")
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
    """Return what holds under one convention."""
    states, *others = _read()
    i = 2 * CONVENTIONS.index(convention)
    return Rules(states[i], states[i + 1], *others)


@cache
def _read() -> tuple[States, list[Phrase], frozenset[str], frozenset[str], Spelling]:
    """Read ``automaton.txt``, or make it anew where a file that it is made of has been edited since."""
    table = text_of("automaton.txt")
    if not table.startswith(digest()):
        from xray_captioning.metrics.labels import compiler

        table = compiler.table()
    _, said, numbers, lists, groups, rows = (part.split("\n") for part in table.split("\n\n"))
    phrases: list[Phrase] = [(kind, reach, tuple(filter(None, n.split(", ")))) for kind, reach, n in [one.split("|") for one in said]]
    naming, blocked, far, near, known = (frozenset(words.split(" ")) for words in lists)
    states = States(rows, groups, {"...": (far | {";", END}, 0, 8), "..": (near, 1, 6)})
    lists = sections("spelling.txt")
    fixed = dict(line.split(" = ") for line in lists["expand"])
    return states, [phrases[int(n)] for n in numbers], naming, blocked, Spelling(fixed, lists["terms"], known)


def digest() -> str:
    """Return what changes with any of the files that ``automaton.txt`` is made of."""
    return f"{crc32(''.join(map(text_of, ('cues.txt', 'findings.txt', 'spelling.txt'))).encode()):08x}"


def text_of(name: str) -> str:
    """Return what a data file holds."""
    return Path(__file__).with_name(name).read_text("utf-8")


def sections(name: str) -> dict[str, list[str]]:
    """Return the headings of a data file with the lines below each, without comments."""
    found: dict[str, list[str]] = {}
    lists: dict[str, str] = {}
    for line in text_of(name).splitlines():
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
