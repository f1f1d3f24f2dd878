"""Find the findings of one statement and the cues that decide what is said of each.

A cue reaches the findings of its clause. Of overlapping cues the one that begins first counts, and
of those the longest: "cannot be excluded" is no "not". That is NegEx [1]_ with clauses that end
where another statement begins, and with more kinds of cue, as ConText [2]_ has them.

References
----------
.. [1] Chapman et al., "A Simple Algorithm for Identifying Negated Findings and Diseases in
   Discharge Summaries", Journal of Biomedical Informatics 34(5), 2001: cues with a scope.
.. [2] Harkema et al., "ConText: An Algorithm for Determining Negation, Experiencer, and Temporal
   Status from Clinical Reports", Journal of Biomedical Informatics 42(5), 2009.
"""

import re
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from xray_captioning.metrics.labels.details import sides_of
from xray_captioning.metrics.labels.layout import LONGEST, pieces
from xray_captioning.metrics.labels.rules import Rules, rules

PRESENT, DENIED, UNCERTAIN = 1, 0, -1
OTHER = "Other"
"""Abnormalities without a name of their own, against which only "No Finding" is held."""

# What is never gone, so that "prior" does not make it history.
LASTING = frozenset(
    {"Fracture", "Granuloma", "Scoliosis", "Emphysema", "Pleural Other", "Support Devices", OTHER}
)

# What a status is as a label, the strongest first; without any a finding is present.
LABELS: dict[str, dict[str, int | None]] = {
    "chexpert": {
        "asked": None,
        "denied": DENIED,
        "resolved": DENIED,
        "past": None,
        "no new": UNCERTAIN,
        "stable": UNCERTAIN,
        "unlikely": UNCERTAIN,
        "possible": UNCERTAIN,
        "either": UNCERTAIN,
        "probable": UNCERTAIN,
        "borderline": UNCERTAIN,
        "sign": UNCERTAIN,
    }
}
# Coders wrote down "probable edema" and both of "scar or atelectasis", but not what only "may be".
LABELS["mesh"] = LABELS["chexpert"] | {
    "no new": DENIED,
    "stable": None,
    "unlikely": None,
    "possible": None,
    "either": PRESENT,
    "probable": PRESENT,
    "borderline": PRESENT,
}

_WORD = re.compile(r"\d+(?:\.\d+)?|[a-z]+|[,:;/()]")
_SHORT = re.compile(r"\b[a-z]/(?:[a-z]\b|out\b|(?=\s))")
_NOT = re.compile(r"\b(?:not|no|nor)\b")
# What a form answers: "effusion : none". A bracket does the same: "effusion ( none )".
_ANSWERS = (
    r"(?:(?:has |is |was )?(?P<no>(?:none|no|nil|absent|negative|not? (?:present|seen|identified"
    r"|evident|visualized|noted|detected|found)|none (?:seen|identified|present|noted|evident)"
    r"|no longer (?:present|seen|visible|evident|identified)|denied|false|n|0))|(?P<gone>(?:has |is )?(?:completely )?(?:resolved|cleared|gone|removed))"
    r"|(?P<doubt>possible|questionable|probable|likely|suspected|equivocal|uncertain|cannot "
    r"(?:be )?exclude[d]?|may be present|indeterminate)|(?P<yes>yes|present|positive|true|1))"
)
_FORM = re.compile(rf" (?:: {_ANSWERS}(?= [,;]|$| (?:\w+ ){{1,3}}:)|\( {_ANSWERS.replace('?P<', '?P<b_')} \))")
_ABSENT = re.compile(r"(?:^|(?<=[;,] ))(?:not (?:seen|present|identified)|absent|none|no|negative) : ")
_ANSWERED = {"no": " is absent", "gone": " has resolved", "doubt": " is questioned", "yes": ""}
# "The effusion which was seen previously has resolved": of the effusion nothing new is said there.
_RELATIVE = re.compile(
    r" (?:which|that) (?:was|were|had been) (?:previously |clearly |also )?(?:seen|noted|present"
    r"|described|identified|demonstrated|visible)(?: previously| earlier| before| then"
    r"| on (?:the )?(?:prior|previous|last|earlier|old)(?: study| exam| film)?)?"
)
# The words between two findings of one list.
_LINKED = re.compile(
    r" (?:(?!is|are|was|were|has|have|which|that|with|no|but)[a-z]+ ){0,5}"
    r"(?:, )?(?:and / or|and|or|nor|/)(?: [a-z]+){0,3} "
)
_EITHER = re.compile(
    r" (?:(?!and|with|is|are|no)[a-z]+ ){0,3}(?:, )?(?:or|versus|vs|and / or)(?: [a-z]+){0,3} "
)


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


class Mention(NamedTuple):
    """One place where a report names a finding."""

    finding: str  # one of :data:`xray_captioning.findings.FINDINGS`, never "No Finding"
    label: int  # 1 present, 0 denied, -1 uncertain
    status: str  # "present", or the kind of cue that decided: "denied", "resolved", "possible", ...
    sentence: str  # in lower case and standard spelling, single spaces between words and commas
    start: int  # where in the sentence the words are that name the finding
    end: int
    cues: tuple[Cue, ...]  # all that reach it

    @property
    def words(self) -> str:
        """The words that name the finding."""
        return self.sentence[self.start : self.end]

    @property
    def cue(self) -> str:
        """The words that decided; those that name the finding where they alone decide."""
        own = [self.sentence[c.start : c.end] for c in self.cues if c.kind == self.status]
        return own[0] if own else "" if self.status == "present" else self.words

    @property
    def sides(self) -> frozenset[str]:
        """The sides named in its clause: none, left, right or (bilateral) both of them."""
        return _places(self.sentence)[self.finding, self.start].sides


class _Scope(NamedTuple):
    """The cues of a sentence by how they reach, and where its clauses begin."""

    before: list[Cue]
    after: list[Cue]
    stops: list[int]


def read(raw: str, convention: str) -> tuple[Mention, ...]:
    """Return the mentions in one statement of lower case, in reading order.

    Statements repeat from report to report, so short ones are kept.
    """
    if len(raw) <= LONGEST:
        return _read(raw, convention)
    return tuple(m for piece in pieces(raw) for m in _read.__wrapped__(piece, convention))


@lru_cache(maxsize=1 << 15)
def _read(raw: str, convention: str) -> tuple[Mention, ...]:
    known = rules(convention)
    words = normal(raw, known)
    tokens = words.split(" ")
    hits, cues = _scan(words, tokens, known)
    if not hits:
        return ()
    if ":" in words:
        hits = _restated(words, hits)
    scope = _scope(hits, cues) if cues else _NO_SCOPE
    either = _either(words, hits) if len(hits) > 1 and not _OR.isdisjoint(tokens) else _NONE
    linked = _linked(words, hits) if len(hits) > 1 and scope.after else []
    labels = LABELS[convention]
    mentions = []
    for i, hit in enumerate(hits):
        own: tuple[Cue, ...] = ()
        if scope.before or scope.after:
            own = _cues(i, hits, words, scope, linked, known.blocked)
        status = _status(hit, words, own, i in either)
        label = labels.get(status, PRESENT)
        if label is not None:
            place = words, hit.start, hit.end, own
            mentions.append(_new(Mention, (hit.finding, label, status, *place)))
    return tuple(mentions)


class Place(NamedTuple):
    """What a sentence says of where a finding is."""

    sides: frozenset[str]
    clause: tuple[int, int]  # where the part of the sentence begins and ends that speaks of it


@lru_cache(maxsize=1 << 12)
def _places(words: str) -> dict[tuple[str, int], Place]:
    """Return the places of all findings of a sentence, by finding and beginning.

    Labels do not need them, so that they are found when they are asked for.
    """
    places: dict[tuple[str, int], Place] = {}
    for convention in LABELS:
        hits, cues = _scan(words, words.split(" "), rules(convention))
        stops = _scope(hits, cues).stops if hits else []
        for hit, sides in zip(hits, sides_of(words, hits, stops), strict=True):
            place = Place(sides, _clause(hit, stops, len(words)))
            places.setdefault((hit.finding, hit.start), place)
    return places


_NO_SCOPE = _Scope([], [], [])
_NONE: frozenset[int] = frozenset()
_OR = frozenset(("or", "vs", "versus"))


def normal(raw: str, known: Rules) -> str:
    """Return a statement in standard spelling, an answer of a form as a sentence."""
    if "/" in raw:
        raw = _SHORT.sub(lambda match: known.spelling[match[0]] + " ", raw)
    spelling = known.spelling
    words = " ".join([form for word in _WORD.findall(raw) if (form := spelling[word])])
    if ":" in words or "(" in words:
        words = _ABSENT.sub("no ", _FORM.sub(_answer, words))
    if " which " in words or " that " in words:
        words = _RELATIVE.sub("", words)
    return words


def _answer(match: re.Match[str]) -> str:
    kind = next(name for name, text in match.groupdict().items() if text)
    return _ANSWERED[kind.removeprefix("b_")]


def _scan(words: str, tokens: list[str], known: Rules) -> tuple[list[Hit], list[Cue]]:
    """Find all phrases of the data files; each word is looked up once."""
    known_words, start = known.words, 0
    hits: list[Hit] = []
    cues: list[Cue] = []
    for token in tokens:
        if token in known_words:
            alone, any_fits, others = known_words[token]
            for _, kind, reach, findings in alone:
                end = start + len(token)
                if reach:
                    cues.append(_new(Cue, (start, end, kind, reach)))
                for name in findings:
                    hits.append(_new(Hit, (start, 1, end, kind, name)))
            if others and (any_fits is None or any_fits(words, start)):
                for fits, kind, reach, findings in others:
                    match = fits(words, start)  # type: ignore[misc]
                    if match is not None:
                        end = match.end()
                        if reach:
                            cues.append(_new(Cue, (start, end, kind, reach)))
                        for name in findings:
                            hits.append(_new(Hit, (start, kind != "other", end, kind, name)))
        start += len(token) + 1
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
    return [
        hit
        for hit in hits
        if hit.kind != "stable"
        or not any(
            other.finding == hit.finding
            and other.kind not in ("stable", "other")
            and hit.start < other.end
            and other.start < hit.end
            for other in hits
        )
    ]


def _restated(words: str, hits: list[Hit]) -> list[Hit]:
    """Drop the name of a field whose answer names the finding again: "effusion : no effusion"."""
    return [
        hit
        for i, hit in enumerate(hits)
        if not words.startswith(" :", hit.end)
        or all(later.finding != hit.finding for later in hits[i + 1 :])
    ]


def _scope(hits: list[Hit], cues: list[Cue]) -> _Scope:
    """Sort the cues of a sentence by how they reach, and drop what is part of a longer one."""
    before, after, stops = [], [], []
    earliest = hits[0].end
    for cue in cues:
        if cue.reach == "stop":
            stops.append(cue)
        elif cue.reach in ("before", "beside"):
            before.append(cue)
        elif cue.start > earliest if cue.reach == "after" else _adjoins(cue, hits):
            after.append(cue)
    before, after = _longest(before), _longest(after)
    if before and after:
        # "has resolved" is no "resolved effusion", nor "one of the tubes was removed" a removal.
        before, after = _outside(before, after), _outside(after, before)
    if stops and (before or after):
        inside = {i for cue in before + after for i in range(cue.start + 1, cue.end)}
        stops = [stop for stop in _longest(stops) if stop.start not in inside]
    return _Scope(before, after, [stop.start for stop in stops if stop.kind == "stop"])


def _adjoins(cue: Cue, hits: list[Hit]) -> bool:
    return any(hit.end + 1 == cue.start for hit in hits)


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


def _linked(words: str, hits: list[Hit]) -> list[int]:
    """Return how each hit is in one list with the next: by "and" 2, by a comma 1, not at all 0."""
    linked = []
    for one, two in pairwise(hits):
        a, b = one.end, max(one.end, two.start)
        joined = a == b or words[a:b] == " / " or _LINKED.fullmatch(words, a, b) is not None
        linked.append(2 if joined else int(words[a:b] == " , "))
    return linked


def _either(words: str, hits: list[Hit]) -> set[int]:
    """Return which hits are one of two possibilities: "atelectasis or pneumonia"."""
    either: set[int] = set()
    for i, (one, two) in enumerate(pairwise(hits)):
        a, b = one.end, max(one.end, two.start)
        if one.finding != two.finding and _EITHER.fullmatch(words, a, b):
            either |= {i, i + 1}
    return either


def _clause(hit: Hit, stops: list[int], end: int) -> tuple[int, int]:
    """Return where the clause of a hit begins and ends."""
    first, last = 0, end
    for stop in stops:
        if stop <= hit.start:
            first = stop
        elif stop >= hit.end:
            return first, stop
    return first, last


def _cues(
    i: int,
    hits: list[Hit],
    words: str,
    scope: _Scope,
    linked: list[int],
    blocked: frozenset[str],
) -> tuple[Cue, ...]:
    """Return all cues before a hit in its clause, and the first behind it that reaches it."""
    start, _, end, _, _ = hits[i]
    first, last = _clause(hits[i], scope.stops, len(words))
    own = [
        cue
        for cue in scope.before
        if first <= cue.start
        and cue.end <= start
        and (cue.reach == "before" or _beside(hits[i], words[cue.end : start]))
    ]
    if len(own) > 1:
        own = _nearest_denial(own)
    for cue in scope.after:
        if cue.start >= end and not (cue.reach == "next" and cue.start > end + 1):
            if cue.start <= last and _reaches(cue, i, hits, linked):
                if blocked.isdisjoint(words[end : cue.start].split()):
                    own.append(cue)
            break
    return tuple(own)


def _nearest_denial(cues: list[Cue]) -> list[Cue]:
    """Keep the last of the cues that deny: "no new opacity , no effusion"."""
    denials = [cue for cue in cues if cue.kind in ("denied", "no new")]
    return [cue for cue in cues if cue not in denials[:-1]]


def _beside(hit: Hit, between: str) -> bool:
    return hit.finding not in LASTING and between.count(" ") <= 3 and "," not in between


def _reaches(cue: Cue, i: int, hits: list[Hit], linked: list[int]) -> bool:
    """Whether only findings of the same list are between a hit and a cue behind it.

    A list has an "and"; commas alone join what is denied.
    """
    last = i
    while last + 1 < len(hits) and hits[last + 1].start < cue.start:
        last += 1
    links = [
        link
        for j, link in enumerate(linked[i:last], i)
        if hits[j].finding != hits[j + 1].finding
    ]
    return not links or (min(links) > 0 and (max(links) == 2 or cue.kind == "denied"))


_ORDER = tuple(LABELS["chexpert"])


def _status(hit: Hit, words: str, cues: tuple[Cue, ...], either: bool) -> str:
    """Return what is said of a hit: by its own words, or by the strongest of its cues."""
    turned = hit.kind != "stable" and _turned(words, hit)
    if not cues and not either:
        if hit.kind == "absent":  # "not clear" says nothing
            return "asked" if turned else "denied"
        return "denied" if turned else hit.kind or "present"
    kinds = {cue.kind for cue in cues}
    if hit.kind == "absent":
        return "asked" if turned or "asked" in kinds else "denied"
    kinds.add(hit.kind)
    if turned:
        kinds.add("denied")
    if either and "stated" not in kinds:
        kinds.add("either")
    return next((kind for kind in _ORDER if kind in kinds), "present")


def _turned(words: str, hit: Hit) -> bool:
    """Whether there is a "not" among the words of a finding: "heart is not enlarged"."""
    return (
        words.find("no", hit.start, hit.end) >= 0
        and _NOT.search(words, hit.start, hit.end) is not None
    )
