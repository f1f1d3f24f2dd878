"""What the data files say, to be read and edited; each explains its notation."""

from functools import cache
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from xray_captioning.errors import DataError
from xray_captioning.metrics.labels.automaton import END, State, States
from xray_captioning.metrics.labels.spelling import Spelling

CONVENTIONS = ("chexpert", "mesh")
# How a line of findings.txt begins, and what that makes of its words.
MARKS = {"": "", "-": "absent", "?": "borderline", "~": "sign", "=": "stable", "!": "other"}

# What the lines of one section and kind say: a finding's value of `MARKS` or a cue's "denied",
# "possible", ...; of a cue "before", "beside", "after", "next" or "stop"; the findings.
Phrase = tuple[str, str, tuple[str, ...]]


class Rules(NamedTuple):
    """All data files: where lines begin, what each says, and words that no cue reaches across."""

    start: State
    stops: State  # those of cues that reach nothing
    lines: list[Phrase]
    blocked: frozenset[str]
    spelling: Spelling


@cache
def rules(convention: str) -> Rules:
    """Return what holds under one convention."""
    states, lines, blocked, spelling = _read()
    i = 2 * CONVENTIONS.index(convention)
    return Rules(states[i], states[i + 1], lines, blocked, spelling)


@cache
def _read() -> tuple[States, list[Phrase], frozenset[str], Spelling]:
    """Read what ``benchmarks/labeler_rules.py`` made of the lines."""
    table = text_of("automaton.txt")
    if not table.startswith(digest()):
        files = Path(__file__).parent
        raise DataError(f"{files}: automaton.txt is not of these rules; run python benchmarks/labeler_rules.py")
    _, phrases, numbers, words, groups, rows = (part.split("\n") for part in table.split("\n\n"))
    said = [_phrase(*phrase.split("|")) for phrase in phrases]
    blocked, far, near, known = (frozenset(own.split(" ")) for own in words)
    states = States(rows, groups, {"...": (far | {";", END}, 0, 8), "..": (near, 1, 6)})
    lists = sections("spelling.txt")
    fixed = dict(line.split(" = ") for line in lists["expand"])
    return states, [said[int(number)] for number in numbers], blocked, Spelling(fixed, lists["terms"], known)


def _phrase(kind: str, reach: str, names: str) -> Phrase:
    return kind, reach, tuple(names.split(", ")) if names else ()


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
