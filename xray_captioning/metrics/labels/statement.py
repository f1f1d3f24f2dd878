"""Find the findings of a statement and the cues that decide what is said of each: NegEx (Chapman et
al. 2001) with more kinds of cue, as ConText (Harkema et al. 2009), and ends of clauses.
"""

import re
from functools import cache, lru_cache
from itertools import chain, pairwise
from typing import NamedTuple

from xray_captioning.metrics.labels import details, rules
from xray_captioning.metrics.labels.layout import PIECE
from xray_captioning.metrics.labels.rules import Cue, Hit, Rules, Scope, alternatives
from xray_captioning.metrics.labels.spelling import LONGEST, Kept, Spelling

PRESENT, DENIED, UNCERTAIN = 1, 0, -1
OTHER = "Other"  # abnormalities without a name of their own: only "No Finding" is held against them
# What is never gone, so that "prior" does not make it history.
LASTING = frozenset({"Fracture", "Granuloma", "Scoliosis", "Emphysema", "Pleural Other", "Support Devices", OTHER})

# What a status is as a label, the strongest first.
_NUMBERS = {"present": PRESENT, "denied": DENIED, "uncertain": UNCERTAIN, "none": None}
LABELS = {
    convention: {status: _NUMBERS[both.split()[i]] for status, both in details.STATUSES.items()}
    for i, convention in enumerate(rules.CONVENTIONS)
}

_ANSWER = "|".join(f"(?P<{kind}>{alternatives(kind)})" for kind in ("no", "gone", "doubt", "yes"))
# A bracket does what a colon does: "effusion ( none )".
_BRACKETED = _ANSWER.replace("?P<", "?P<b_")
_FORM = re.compile(rf" (?:: (?:{_ANSWER})(?= [,;:(]|$| (?:\w+ ){{1,3}}:)|\( (?:{_BRACKETED}) \))")
_ABSENT = re.compile(rf"(?:^|(?<=[;,] ))(?:{alternatives('first no')}) : ")
_ANSWERED = {"no": " is absent", "gone": " has resolved", "doubt": " is questioned", "yes": " is present"}
_ANSWERED |= {f"b_{kind}": said for kind, said in _ANSWERED.items()}
# "The effusion which was seen previously has resolved": of the effusion nothing new is said there.
_RELATIVE = re.compile(rf" (?:which|that) {alternatives('seen before')}")
_REWRITTEN = frozenset((":", "(", "which", "that"))
# The words between two findings of one list.
_LINKED = re.compile(rf" {alternatives('listed')}(?: [a-z]+){{0,3}} ")
_EITHER = re.compile(rf" {alternatives('either')}(?: [a-z]+){{0,3}} ")


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
        return _place(self).sides

    @property
    def side_spans(self) -> list[tuple[int, int]]:
        """Where in the sentence the words begin and end that name its sides."""
        found = details.SIDE.finditer(self.sentence, *_place(self).part) if self.sides else ()
        return [one.span() for one in found if one.lastindex]

    @property
    def clause(self) -> str:
        """The part of the sentence that speaks of it, up to the next finding."""
        return self.sentence[slice(*_place(self).part)]

    @property
    def zones(self) -> frozenset[str]:
        """The zones that its clause names, of :data:`details.ZONES`."""
        return frozenset(details.named(details.ZONES, self.clause))

    @property
    def severity(self) -> str | None:
        """The greatest of :data:`details.SEVERITIES` that its clause names."""
        return next(reversed(details.named(details.SEVERITIES, self.clause)), None)

    @property
    def device(self) -> str | None:
        """The kind of a support device, such as "endotracheal tube"; see ``devices.toml``."""
        if self.finding != "Support Devices":
            return None
        return details.device_of(self.sentence, self.start, self.end, _place(self).part)

    @property
    def placement(self) -> str | None:
        """Whether a device's place is called "satisfactory" or "malpositioned"; None if neither."""
        if self.finding != "Support Devices" or self.label == DENIED:
            return None
        return details.placement_of(self.device, self.sentence[slice(*_place(self).shared)])

    @property
    def change(self) -> str | None:
        """What became of it: "resolved", or one of :data:`details.CHANGES`; None if not said."""
        if self.status in ("denied", "no new", "resolved"):
            return "resolved" if self.status == "resolved" else None
        found = details.named(details.CHANGES, self.clause)
        return "unchanged" if "unchanged" in found else next(iter(found), None)  # "not increased"


def normal(raw: str, spelling: Spelling) -> list[str]:
    """Return the words of a statement in standard spelling, an answer of a form as a sentence."""
    tokens = list(chain.from_iterable(map(spelling.__getitem__, raw.split())))
    if not _REWRITTEN.isdisjoint(tokens):
        words = _FORM.sub(lambda found: _ANSWERED[str(found.lastgroup)], " ".join(tokens))
        tokens = _RELATIVE.sub("", _ABSENT.sub("no ", words)).split(" ")
    return tokens


Labels = tuple[tuple[str, int], ...]  # findings with the label of one of their mentions


@cache
def mentions(convention: str) -> Kept[str, tuple[Mention, ...]]:
    """Return what finds the mentions in one statement of lower case, in reading order."""
    known, numbers = rules.rules(convention), LABELS[convention]

    def found(raw: str) -> tuple[Mention, ...]:
        return tuple(
            Mention(hit.finding, label, status, " ".join(tokens), hit.start, hit.end, cues)
            for tokens in _pieces(raw, known)
            for hit, status, cues in _decided(tokens, known)
            if (label := numbers[status]) is not None
        )

    return Kept(found)


@cache
def labels(convention: str) -> Kept[str, Labels]:
    """Return what finds the labels alone; few differ, so that little memory is gone through."""
    known, numbers = rules.rules(convention), LABELS[convention]
    few: Kept[Labels, Labels] = Kept(lambda own: own)

    def found(raw: str) -> Labels:
        own: dict[tuple[str, int], None] = {}
        for words in _pieces(raw, known):
            for hit, status, _ in _decided(words, known):
                if (label := numbers[status]) is not None:
                    own[hit.finding, label] = None
        return few[tuple(own)]

    return Kept(found)


def _pieces(raw: str, known: Rules) -> list[list[str]]:
    words = known.spelling
    return [normal(raw, words)] if len(raw) <= LONGEST else [normal(piece, words) for piece in PIECE.findall(raw)]


def _decided(tokens: list[str], known: Rules) -> list[tuple[Hit, str, tuple[Cue, ...]]]:
    """Return the hits of a statement, what is said of each and the cues that reach it."""
    hits, scope = rules.scan(tokens, known.start, known.lines)
    cued = bool(hits and (scope.before or scope.after))
    if not hits or not (cued or not _TURNING.isdisjoint(tokens)):
        return [(hit, _ALONE[hit.kind], ()) for hit in hits]  # most statements
    words = " ".join(tokens)
    if ":" in tokens:
        hits = rules.restated(words, hits)
    if cued:
        scope = rules.scope_of(hits, scope, tokens, known)
    either = set() if _OR.isdisjoint(tokens) else _either(words, hits)
    linked = _linked(words, hits) if cued and scope.after else []
    turned, found = not _NEGATIONS.isdisjoint(tokens), []
    for i, hit in enumerate(hits):
        own = _cues(i, hits, words, scope, linked, known) if cued else ()
        not_so = turned and hit.kind != "stable" and not _NEGATIONS.isdisjoint(words[hit.start : hit.end].split(" "))
        found.append((hit, _status(hit.kind, not_so, tuple([cue.kind for cue in own]), i in either), own))
    return found


class Place(NamedTuple):
    """What a sentence says of where a finding is."""

    sides: frozenset[str]
    part: tuple[int, int]  # where the words begin and end that speak of it
    shared: tuple[int, int]  # the same, to the end of the list that it is in


def _place(mention: Mention) -> Place:
    return _places(mention.sentence)[mention.finding, mention.start]


@lru_cache(maxsize=1 << 12)
def _places(words: str) -> dict[tuple[str, int], Place]:
    """Return the places of all findings by finding and beginning; labels do not need them."""
    places: dict[tuple[str, int], Place] = {}
    for convention in LABELS:
        tokens, known = words.split(" "), rules.rules(convention)
        hits, scope = rules.scan(tokens, known.start, known.lines)
        if not hits:  # one convention may know what the other does not
            continue
        stops = [stop.start for stop in rules.scope_of(hits, scope, tokens, known).stops]
        parts = details.parts_of(words, hits, stops)
        ends = details.shared_ends(words, hits, parts)
        for hit, sides, part, end in zip(hits, details.sides_of(words, hits, stops), parts, ends):
            places.setdefault((hit.finding, hit.start), Place(sides, part, (part[0], end)))
    return places


_NEGATIONS = frozenset(("no", "not", "nor"))
_OR = frozenset(("or", "vs", "versus"))
_TURNING = _NEGATIONS | _OR | {":"}


def _linked(words: str, hits: list[Hit]) -> list[int]:
    """Return how each hit is in one list with the next: by "and" 2, by a comma 1, not at all 0."""
    linked = []
    for one, two in pairwise(hits):
        a, b = one.end, max(one.end, two.start)
        joined = a == b or words[a:b] in (" ", " / ") or _LINKED.fullmatch(words, a, b) is not None
        linked.append(2 if joined else int(words[a:b] == " , "))
    return linked


def _either(words: str, hits: list[Hit]) -> set[int]:
    """Return which hits are one of two possibilities: "atelectasis or pneumonia"."""
    either: set[int] = set()
    for i, (one, two) in enumerate(pairwise(hits)):
        if one.finding != two.finding and _EITHER.fullmatch(words, one.end, max(one.end, two.start)):
            either |= {i, i + 1}
    return either


def _clause(hit: Hit, stops: list[Cue], end: int) -> tuple[int, int]:
    """Return where the clause of a hit begins and ends."""
    first, last = 0, end
    for stop in stops:
        if stop.start <= hit.start:
            first = stop.start
        elif stop.start >= hit.end:
            return first, stop.start
    return first, last


def _cues(i: int, hits: list[Hit], words: str, scope: Scope, linked: list[int], known: Rules) -> tuple[Cue, ...]:
    """Return all cues before a hit in its clause, and the first behind it that reaches it."""
    start, _, end, _, _ = hits[i]
    first, last = _clause(hits[i], scope.stops, len(words)) if scope.stops else (0, len(words))
    near = [cue for cue in scope.before if first <= cue.start and cue.end <= start]
    own = [cue for cue in near if cue.reach == "before" or _beside(hits[i], words[cue.end : start])]
    if len(own) > 1:
        denials = [cue for cue in own if cue.kind in ("denied", "no new")]
        own = [cue for cue in own if cue not in denials[:-1]]  # "no new opacity , no effusion"
    for cue in scope.after:
        if cue.start >= end and not (cue.reach == "next" and cue.start > end + 1):
            one_sided = cue.kind == "one side" and details.named_sides(words[first : cue.start]) != details.BILATERAL
            if one_sided or (cue.kind == "past" and hits[i].finding in LASTING):
                continue
            # "was seen yesterday and has resolved" goes on to speak of the same finding.
            goes_on = words.startswith(("and ", "but "), cue.start)
            open_way = goes_on or known.blocked.isdisjoint(words[end : cue.start].split())
            if cue.start <= last and open_way and _reaches(cue, i, hits, linked):
                if cue.kind == "stated":  # "the prior effusion has improved" is there
                    own = [one for one in own if one.reach == "before"]
                own.append(cue)
            if cue.kind != "past":  # it "was seen last week and has resolved"
                break
    return tuple(own)


def _beside(hit: Hit, between: str) -> bool:
    return hit.finding not in LASTING and between.count(" ") <= 3 and "," not in between


def _reaches(cue: Cue, i: int, hits: list[Hit], linked: list[int]) -> bool:
    """Whether only a list is between a hit and a cue behind it; commas join what is denied."""
    last = i + sum([hit.start < cue.start for hit in hits[i + 1 :]])
    links = [link for j, link in enumerate(linked[i:last], i) if hits[j].finding != hits[j + 1].finding]
    return not links or (min(links) > 0 and (max(links) == 2 or cue.kind == "denied"))


_RANK = {kind: rank for rank, kind in enumerate(LABELS["chexpert"])}


@lru_cache(maxsize=1 << 12)
def _status(kind: str, turned: bool, cues: tuple[str, ...] = (), either: bool = False) -> str:
    """Return what is said of a hit: by its own words, or by the strongest of its cues."""
    kinds = {kind, *cues}
    if kind == "absent":  # "not clear" says nothing
        return "asked" if turned or "asked" in kinds else "denied"
    if turned:
        kinds.add("denied")
    if either and "stated" not in kinds:
        kinds.add("either")
    return min([one if one in _RANK else "present" for one in kinds], key=_RANK.__getitem__)


_ALONE = {kind: _status(kind, False) for kind in rules.MARKS.values()}
