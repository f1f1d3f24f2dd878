"""Find the findings and cues of a statement, and how far the cues reach.

Of overlapping cues the one that begins first counts, and of those the longest: "cannot be excluded"
is no "not".
"""

from itertools import accumulate
from typing import NamedTuple

from xray_captioning.metrics.labels.rules import Rules


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
    kind: str  # of the line that names it: one of `rules._MARKS`
    finding: str


class Scope(NamedTuple):
    """The cues of a sentence by how they reach, and where its clauses begin."""

    before: list[Cue]
    after: list[Cue]
    stops: list[int]


def scan(words: str, tokens: list[str], known: Rules) -> tuple[list[Hit], list[Cue]]:
    """Find all phrases of the data files; each word is looked up once."""
    hits: list[Hit] = []
    cues: list[Cue] = []
    if known.naming.isdisjoint(tokens):
        return hits, cues
    letters = [0, *accumulate(map(len, tokens))]  # before each word
    for i, word in enumerate(map(known.words.get, tokens)):
        if word is None:
            continue
        start, end = letters[i] + i, letters[i + 1] + i
        following = tokens[i + 1] if i + 1 < len(tokens) else ""
        for trial in word[following if following in word.seconds else "."]:
            (kind, reach, findings), taken, rests = trial
            last = end + 1 + len(following) if taken == 2 else end * taken
            for needed, rest in rests:
                if needed is None or not needed.isdisjoint(tokens):
                    last = max(last, rest.end(words, end, tokens[i + 1 :]))
            if last:
                if reach:
                    cues.append(_new(Cue, (start, last, kind, reach)))
                for name in findings:
                    hits.append(_new(Hit, (start, kind != "other", last, kind, name)))
    return _findings(hits), cues


_new = tuple.__new__  # twice as fast as calling the class, and there are thousands


def _findings(hits: list[Hit]) -> list[Hit]:
    """Keep one hit where several of a finding overlap, and drop those that only sound like it."""
    if len(hits) < 2:
        return hits if hits and hits[0].kind != "other" else []
    hits.sort()
    if any(hit.kind == "stable" for hit in hits):
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
    others = [hit for hit in hits if hit.kind not in ("stable", "other")]

    def outweighed(hit: Hit) -> bool:
        meeting = (o for o in others if hit.start < o.end and o.start < hit.end)
        return any(other.finding == hit.finding for other in meeting)

    return [hit for hit in hits if hit.kind != "stable" or not outweighed(hit)]


def restated(words: str, hits: list[Hit]) -> list[Hit]:
    """Drop the name of a field whose answer names the finding again: "effusion : no effusion"."""
    return [
        hit
        for i, hit in enumerate(hits)
        if not words.startswith(" :", hit.end)
        or all(later.finding != hit.finding for later in hits[i + 1 :])
    ]


def scope_of(hits: list[Hit], cues: list[Cue]) -> Scope:
    """Sort the cues of a sentence by how they reach, and drop what is part of a longer one."""
    before, after, stops = [], [], []
    earliest, adjoining = hits[0].end, {hit.end + 1 for hit in hits}
    for cue in cues:
        if cue.reach == "stop":
            stops.append(cue)
        elif cue.reach in ("before", "beside"):
            before.append(cue)
        elif cue.start > earliest if cue.reach == "after" else cue.start in adjoining:
            after.append(cue)
    before, after = _longest(before), _longest(after)
    if before and after:
        # "has resolved" is no "resolved effusion", nor "one of the tubes was removed" a removal.
        before, after = _outside(before, after), _outside(after, before)
    if stops and (before or after):
        inside = {i for cue in before + after for i in range(cue.start + 1, cue.end)}
        stops = [stop for stop in _longest(stops) if stop.start not in inside]
    return Scope(before, after, [stop.start for stop in stops if stop.kind == "stop"])


def _outside(cues: list[Cue], others: list[Cue]) -> list[Cue]:
    """Return the cues that are no part of a longer one."""
    return [
        cue
        for cue in cues
        if not any(o.start <= cue.start and cue.end <= o.end and cue[:2] != o[:2] for o in others)
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
