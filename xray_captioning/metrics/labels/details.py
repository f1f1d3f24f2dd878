"""Where a finding is, how large, and whether it changed, as its clause says."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

BILATERAL = frozenset({"left", "right"})
# Findings of the midline or of both lungs at once: a side beside them belongs to something else.
MIDLINE = frozenset({"Cardiomegaly", "Enlarged Cardiomediastinum", "Hiatal Hernia"})
# Findings that are rarely on one side: they take a side named beside them, but not that of a
# finding in the same list.
DIFFUSE = frozenset({"Edema", "Emphysema", "Scoliosis"})

_SIDE = re.compile(
    r"\b(?:(left|leftward|lingula|lingular|levo\w*|l(?= (?:pleural|base|lung|effusion|lower|upper)))"
    r"|(right|rightward|middle lobe|dextro\w*|r(?= (?:pleural|base|lung|effusion|lower|upper)))"
    r"|(bilateral|bilaterally|both|bases|apices|biapical|bibasilar|bibasal\w*))\b"
    r"(?! (?:heart|atri\w+|ventric\w+|lateral (?:view|decubitus|film)))"
)
_CONJUNCTION = re.compile(r"[,:;/]|\b(?:and|or|with|without|versus|vs)\b")
# The words between two findings of one list, which share a side: at most one more word.
_LIST = re.compile(r" (?:, )?(?:and / or|and|or|,|/|versus|vs|with)(?: \w+)? ")
# The words between a finding and its explanation, which is on the same side.
_EXPLAINED = re.compile(
    r"\b(?:represent\w*|reflect\w*|suggest\w*|due to|secondary to"
    r"|(?:consistent|compatible|keeping) with)\b"
)


class Placed(Protocol):
    """A finding in a sentence."""

    @property
    def finding(self) -> str: ...
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...


def sides_of(words: str, hits: Sequence[Placed], stops: list[int]) -> list[frozenset[str]]:
    """Return the sides named in each finding's part of the sentence.

    A part ends at the last conjunction before the next finding. In "left effusion and
    atelectasis" and in "effusion and atelectasis on the left" both findings have the side, and so
    has a finding that explains another one ("left opacity suggesting atelectasis"). In "left
    effusion and emphysema" the emphysema has none.
    """
    if not hits:
        return []
    if len(hits) == 1:
        return [frozenset() if hits[0].finding in MIDLINE else _named_sides(words)]
    alone = [hit.finding in DIFFUSE for hit in hits]
    parts = [_named_sides(part) for part in _parts(words, hits, stops)]
    between = [(one.end, max(one.end, two.start)) for one, two in pairwise(hits)]
    listed = [a == b or _LIST.fullmatch(words, a, b) is not None for a, b in between]
    for i, (a, b) in enumerate(between):
        explained = _EXPLAINED.search(words, a, b) is not None
        if not parts[i + 1] and (explained or (listed[i] and not alone[i + 1])):
            parts[i + 1] = parts[i]
    for i, (a, b) in reversed(list(enumerate(between))):  # "and left nodule": of the nodule alone
        if not parts[i] and listed[i] and not alone[i] and not _named_sides(words[a:b]):
            parts[i] = parts[i + 1]
    return [
        frozenset() if hit.finding in MIDLINE else part
        for hit, part in zip(hits, parts, strict=True)
    ]


def _parts(words: str, hits: Sequence[Placed], stops: list[int]) -> list[str]:
    """Return the words that belong to each finding of a sentence."""
    edges = [0]
    for one, two in pairwise(hits):
        ends = [m.start() for m in _CONJUNCTION.finditer(words, one.end, two.start)]
        ends += [stop for stop in stops if one.end <= stop <= two.start]
        edges.append(max(ends, default=max(edges[-1], min(one.end, two.start))))
    edges.append(len(words))
    return [words[a:b] for a, b in pairwise(edges)]


def _named_sides(words: str) -> frozenset[str]:
    sides: set[str] = set()
    for match in _SIDE.finditer(words):
        sides.update(BILATERAL if match.group(3) else {"left" if match.group(1) else "right"})
    return frozenset(sides)
