"""Find the findings and cues of a statement, and how far the cues reach. Of overlapping cues the one that
begins first counts, and of those the longest: "cannot be excluded" is no "not".
"""

from collections.abc import Iterable
from itertools import accumulate, repeat
from typing import NamedTuple

from xray_captioning.metrics.labels.rules import END, Phrase, Rules, State

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


def scan(tokens: list[str], known: Rules) -> tuple[list[Hit], Scope]:
    """Find the findings of a statement and all cues but those at which clauses begin."""
    hits, scope = _found(tokens, known.start, known.lines)
    return _findings(hits), scope


def _found(tokens: list[str], first: State, lines: list[Phrase]) -> tuple[list[Hit], Scope]:
    """Return the findings and cues that lines say; each word is looked up once."""
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
    return hits, scope


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
        hit
        for hit in hits
        if hit.kind != "stable" or not any(o == hit.finding and hit.start < b and a < hit.end for o, a, b in others)
    ]


def restated(words: str, hits: list[Hit]) -> list[Hit]:
    """Drop the name of a field whose answer names the finding again: "effusion : no effusion"."""
    return [
        hit
        for i, hit in enumerate(hits)
        if not words.startswith(" :", hit.end) or all(later.finding != hit.finding for later in hits[i + 1 :])
    ]


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
    stops = []
    if not known.stops.keys().isdisjoint(tokens):
        stops = _found(tokens, known.stops, known.lines)[1].stops
    if cues := before + after:
        stops = _longest(stops)
        for start, end, *_ in cues if stops else ():
            stops = [stop for stop in stops if not start < stop.start < end]
    return Scope(before, after, [stop for stop in stops if stop.kind == "stop"])


def _outside(cues: list[Cue], others: list[Cue]) -> list[Cue]:
    """Return the cues that are no part of a longer one."""
    return [
        cue for cue in cues if not any(o.start <= cue.start and cue.end <= o.end and cue[:2] != o[:2] for o in others)
    ]


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
