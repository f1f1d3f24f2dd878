"""What the data files say, to be read and edited (each explains its notation), and where a statement says it.

The lines of ``findings.txt`` and ``cues.txt`` are a finite automaton whose input are words. A state is all that they
can still be behind some words. ``benchmarks/labeler_rules.py`` writes them to ``automaton.txt``, one a line. Of
overlapping cues the one that begins first counts, and of those the longest: "cannot be excluded" is no "not".
"""

import re
from collections.abc import Iterable
from functools import cache
from itertools import accumulate, repeat
from pathlib import Path
from sys import intern
from typing import Any, NamedTuple
from zlib import crc32

from xray_captioning.errors import DataError
from xray_captioning.metrics.labels.spelling import Spelling

END = "$"  # the word behind the last one of a statement
Gap = tuple[frozenset[str], int, int]  # words over which it never runs, the fewest, the most


class States(dict[int, "State"]):
    """The states by number. `groups` are words that lead on alike, `gaps` as the lines name them."""

    def __init__(self, rows: list[str], groups: list[str], gaps: dict[str, Gap]):
        self.rows, self.gaps = rows, gaps
        self.words = cache(lambda group: tuple(map(intern, groups[int(group)].split(" "))))

    def __missing__(self, number: int) -> "State":
        state = self[number] = State(self.rows[number], self)  # whole before another thread sees it
        return state


class State(dict[str, Any]):
    """How far lines are, and by the next word the state behind it: its number until it is met."""

    __slots__ = ("_behind", "_branches", "_likes", "_states", "ends", "open")

    def __init__(self, row: str, states: States):
        self._states = states
        ends, groups, numbers, likes, behind, branches = row.split("\t")
        self.ends = [*map(int, ends.split())]  # lines that are complete here
        for group, number in zip(groups.split(), map(int, numbers.split())):
            self.update(dict.fromkeys(states.words(group), number))
        self._likes = [*map(re.compile, likes.split())] if likes else []
        self._behind = behind.split()  # by which of the patterns a word is like
        self._branches = [self._branch_of(*one.split(":")) for one in branches.split()] if branches else []
        self.open = bool(likes or branches)  # it may go on with words that are no keys

    def _branch_of(self, sign: str, first: str, then: str) -> tuple[str, Any, "State"]:
        return sign, self._states.gaps.get(sign) or (first and self._states[int(first)]), self._states[int(then)]

    def after(self, word: str) -> "State | None":
        """Return the state behind a word, None where no line goes on with it."""
        found = self.get(word)
        if found is None:
            if not (like := sum([1 << i for i, pattern in enumerate(self._likes) if pattern.fullmatch(word)])):
                return None
            found = int(self._behind[like - 1])
            if len(self) >= 1 << 9:  # words of patterns are without end
                return self._states[found]
        if not isinstance(found, State):
            found = self[word] = self._states[found]
        return found

    def follow(self, words: list[str], i: int) -> dict[int, int]:
        """Return which lines go on from here to an end, and before which word that is."""
        ends: dict[int, int] = {}
        state: State | None = self
        while state is not None:
            for number in state.ends:
                ends[number] = i
            if state._branches:
                state._branch(words, i, ends)
            following = state.get(words[i])
            if following is None and not state._likes:
                break
            state = following if isinstance(following, State) else state.after(words[i])
            i += 1
        return ends

    def _branch(self, words: list[str], i: int, ends: dict[int, int]) -> None:
        """Note where lines end that go on behind a gap or on a condition."""
        for sign, first, state in self._branches:
            if sign[0] == ".":
                over, least, most = first
                if not state.open and state.keys().isdisjoint(words[i + least : i + most + 1]):
                    continue  # most often
                found: dict[int, int] = {}
                for k, word in enumerate(words[i : i + most + 1], i):
                    then = state.after(word) if k >= i + least and (word in state or state.open) else None
                    if then is not None:
                        found = then.follow(words, k + 1) | found  # the shortest gap counts
                    if word in over or (least and not word.isalpha()):
                        break
                ends |= found
            elif sign == "?":  # what (?=...) wants at the end of lines
                ends |= dict.fromkeys(state.follow(words, i), i)
            elif bool(first.follow(words, i)) == (sign == "="):
                ends |= state.follow(words, i)


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
    parts = (phrase.split("|") for phrase in phrases)
    said = [(kind, reach, tuple(filter(None, names.split(", ")))) for kind, reach, names in parts]
    blocked, far, near, known = (frozenset(own.split(" ")) for own in words)
    states = States(rows, groups, {"...": (far | {";", END}, 0, 8), "..": (near, 1, 6)})
    lists = sections("spelling.txt")
    fixed = dict(line.split(" = ") for line in lists["expand"])
    return states, [said[int(number)] for number in numbers], blocked, Spelling(fixed, lists["terms"], known)


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


# --- findings and cues of a statement ---

_new = tuple.__new__  # twice as fast as calling the class, and there are thousands


class Cue(NamedTuple):
    """Words that decide something of a finding; where they stand in the statement."""

    start: int
    end: int
    kind: str  # "denied", "resolved", "possible", ...
    reach: str = "before"  # "before", "beside", "after", "next" or "stop", as cues.txt has it


class Hit(NamedTuple):
    """A finding named in a sentence. Of two that overlap the smaller one counts."""

    start: int
    rank: int
    end: int
    kind: str  # of the line that names it: one of `rules.MARKS`
    finding: str


class Scope(NamedTuple):
    """The cues of a sentence by how they reach, and those at which its clauses begin."""

    before: list[Cue]
    after: list[Cue]
    stops: list[Cue]


def scan(tokens: list[str], first: State, lines: list[Phrase]) -> tuple[list[Hit], Scope]:
    """Return the findings and cues that lines from a state say of a statement; each word is looked up once."""
    hits: list[Hit] = []
    before, after, stops = scope = _new(Scope, ([], [], []))
    letters = [0, *accumulate(map(len, tokens))]  # before each word
    words = [*tokens, END, ""]
    for i, state in enumerate(map(first.get, tokens), 1):
        if isinstance(state, int):
            state = first.after(tokens[i - 1])
        if state is None:
            continue
        if state.open or words[i] in state:
            ends = state.follow(words, i)
            if len(ends) > 1:  # of lines that say the same the longest
                longest = {lines[number]: number for number in sorted(ends, key=ends.__getitem__)}
                ends = {number: ends[number] for number in sorted(longest.values())}
            each: Iterable[tuple[int, int]] = ends.items()
        elif state.ends:
            each = zip(state.ends, repeat(i))
        else:
            continue
        start = letters[i - 1] + i - 1
        for number, j in each:
            kind, reach, findings = lines[number]
            end = letters[j] + j - 1
            for name in findings:
                hits.append(_new(Hit, (start, kind != "other", end, kind, name)))
            if reach:
                cues = stops if reach == "stop" else before if reach in ("before", "beside") else after
                cues.append(_new(Cue, (start, end, kind, reach)))
    return _findings(hits), scope


def _findings(hits: list[Hit]) -> list[Hit]:
    """Keep one hit where several of a finding overlap, and drop those that only sound like it."""
    if len(hits) < 2:
        return hits if hits and hits[0].kind != "other" else []
    hits.sort()
    if "stable" in [hit.kind for hit in hits]:
        hits = _weightier(hits)
    kept: list[Hit] = []
    reach: dict[str, int] = {}
    for hit in hits:
        start, _, end, kind, name = hit
        if start >= reach.get(name, 0):
            reach[name] = end
            if kind != "other":
                kept.append(hit)
    return kept


def _weightier(hits: list[Hit]) -> list[Hit]:
    """Drop "stable heart size" where the same words go on: "stable heart size , enlarged"."""
    others = [(o.finding, o.start, o.end) for o in hits if o.kind not in ("stable", "other")]
    return [
        h
        for h in hits
        if h.kind != "stable" or not any(o == h.finding and h.start < b and a < h.end for o, a, b in others)
    ]


def restated(words: str, hits: list[Hit]) -> list[Hit]:
    """Drop the name of a field whose answer names the finding again: "effusion : no effusion"."""
    again = [hit.finding in [later.finding for later in hits[i + 1 :]] for i, hit in enumerate(hits)]
    return [hit for hit, named in zip(hits, again) if not (named and words.startswith(" :", hit.end))]


def scope_of(hits: list[Hit], scope: Scope, tokens: list[str], known: Rules) -> Scope:
    """Drop the cues that are part of a longer one, and those that reach no finding before them."""
    before, after = _longest(scope.before), scope.after
    if after:
        first, adjoining = hits[0].end, {hit.end + 1 for hit in hits}
        after = [cue for cue in after if cue.start > first or cue.reach == "next"]
        after = _longest([cue for cue in after if cue.start in adjoining or cue.reach == "after"])
    if before and after:
        # "has resolved" is no "resolved effusion", nor "one of the tubes was removed" a removal.
        before, after = _outside(before, after), _outside(after, before)
    stops = [] if known.stops.keys().isdisjoint(tokens) else scan(tokens, known.stops, known.lines)[1].stops
    if cues := before + after:
        stops = _longest(stops)
        for start, end, *_ in cues if stops else ():
            stops = [stop for stop in stops if not start < stop.start < end]
    return Scope(before, after, [stop for stop in stops if stop.kind == "stop"])


def _outside(cues: list[Cue], others: list[Cue]) -> list[Cue]:
    """Return the cues that are no part of a longer one."""
    return [c for c in cues if not any(o.start <= c.start and c.end <= o.end and c[:2] != o[:2] for o in others)]


def _longest(cues: list[Cue]) -> list[Cue]:
    """Keep the first of overlapping cues, and the longest of those that begin together."""
    if len(cues) < 2:
        return cues
    cues.sort(key=lambda cue: (cue.start, -cue.end))
    kept = cues[:1]
    for cue in cues[1:]:
        if cue.start >= kept[-1].end or cue[:2] == kept[-1][:2]:
            kept.append(cue)
    return kept
