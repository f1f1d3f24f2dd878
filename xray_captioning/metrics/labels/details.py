"""Where a finding is, how large, if it changed; what a device is, and if its place is right."""

import re
from collections.abc import Mapping
from functools import cache
from itertools import chain, pairwise, product
from pathlib import Path
from typing import Any

from xray_captioning.metrics.labels.rules import Hit, alternatives, sections

SATISFACTORY, MALPOSITIONED = "satisfactory", "malpositioned"
BILATERAL = frozenset({"left", "right"})
# Findings of the midline or of both lungs at once: a side beside them belongs to something else.
MIDLINE = frozenset({"Cardiomegaly", "Enlarged Cardiomediastinum", "Hiatal Hernia"})
# Findings that are rarely on one side: they take a side named beside them, but not that of a
# finding in the same list.
DIFFUSE = frozenset({"Edema", "Emphysema", "Scoliosis"})

_LEFT, _RIGHT, _BOTH, _NONE, _GOES = map(alternatives, ("left", "right", "both sides", "no side", "goes to"))
SIDE = re.compile(rf"\b(?:(?:{_GOES})|(?:({_LEFT})|({_RIGHT})|({_BOTH}))\b(?! (?:{_NONE})))")
_CONJUNCTION = re.compile(r"[,:;/]|\b(?:and|or|with|without|versus|vs|by|from)\b")
# The words between two findings of one list, which share a side: at most one more word.
_LIST = re.compile(r" (?:, )?(?:and / or|and|or|,|/|versus|vs|with)(?: \w+)? ")
_EXPLAINED = re.compile(rf"\b(?:{alternatives('explained')})\b")
_ABOVE_CARINA = re.compile(r"(\d+(?:\.\d+)?) ?(cm|mm|centimeters?) (?:\w+ ){0,2}?above (?:the )?carina")


def sides_of(words: str, hits: list[Hit], stops: list[int]) -> list[frozenset[str]]:
    """Return the sides named in each finding's part of the sentence."""
    # Findings of one list share a side, as do one and another that explains it ("left opacity suggesting atelectasis");
    # of "left effusion and emphysema" the latter has none.
    alone = [hit.finding in DIFFUSE for hit in hits]
    parts = [named_sides(words[a:b]) for a, b in parts_of(words, hits, stops)]
    between = [(one.end, max(one.end, two.start)) for one, two in pairwise(hits)]
    listed = [a == b or _LIST.fullmatch(words, a, b) is not None for a, b in between]
    for i, (a, b) in enumerate(between):
        if not parts[i + 1] and (_EXPLAINED.search(words, a, b) or (listed[i] and not alone[i + 1])):
            parts[i + 1] = parts[i]
    for i, (a, b) in reversed(list(enumerate(between))):  # "and left nodule": of the nodule alone
        if not parts[i] and listed[i] and not alone[i] and not named_sides(words[a:b]):
            parts[i] = parts[i + 1]
    return [frozenset() if hit.finding in MIDLINE else own for hit, own in zip(hits, parts)]


def shared_ends(words: str, hits: list[Hit], parts: list[tuple[int, int]]) -> list[int]:
    """Return up to where words speak of each hit, or of those of its kind in the same list."""
    ends = [len(words)] * len(hits)
    for i in reversed(range(len(hits) - 1)):
        alike = [j for j in range(i + 1, len(hits)) if hits[j].finding == hits[i].finding]
        if alike:
            joined = _LIST.fullmatch(words, hits[i].end, hits[alike[0]].start)
            ends[i] = ends[alike[0]] if joined else parts[alike[0]][0]
    return ends


def parts_of(words: str, hits: list[Hit], stops: list[int]) -> list[tuple[int, int]]:
    """Return where the words begin and end that belong to each finding of a sentence."""
    edges = [0]
    for one, two in pairwise(hits):
        ends = [m.start() for m in _CONJUNCTION.finditer(words, one.end, two.start)]
        ends += [stop for stop in stops if one.end <= stop <= two.start]
        edges.append(max(ends, default=max(edges[-1], min(one.end, two.start))))
    edges.append(len(words))
    return list(pairwise(edges))


def named_sides(words: str) -> frozenset[str]:
    """Return the sides that words name."""
    each = ((), ("left",), ("right",), BILATERAL)
    return frozenset(chain.from_iterable(each[found.lastindex or 0] for found in SIDE.finditer(words)))


ZONES, SEVERITIES, CHANGES, MESH_FINDINGS, STATUSES = (
    dict(line.split(" = ") for line in lines) for lines in sections("details.txt").values()
)


def named(names: Mapping[str, str], clause: str) -> list[str]:
    """Return which of some names a clause has words of."""
    return [name for name, words in names.items() if _pattern(words).search(clause)]


@cache
def _pattern(words: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{words})\b")


def device_of(words: str, start: int, end: int, part: tuple[int, int]) -> str | None:
    """Return the kind of a device named at a place, or None: by its own words, those before it in its part, or all."""
    texts = (words[start:end], words[part[0] : end], words[slice(*part)])
    return next((kind for text in texts for kind in _kinds() if kind != "any" and _found(kind, "named", text)), None)


def placement_of(device: str | None, clause: str) -> str | None:
    """Return "satisfactory" or "malpositioned" as a clause calls a device's place, else None."""
    clause = _pattern(_kinds()["any"]["denied"]).sub(" ", clause)
    asked = product(("any", device or "any"), (SATISFACTORY, MALPOSITIONED))
    # By where they end, then by length: "not in good position" is longer.
    called = [(m.end(), len(m[0]), verdict) for kind, verdict in asked for m in _found(kind, verdict, clause)]
    limits = _kinds()[device or "any"].get("cm_above_carina", [])
    for match in _ABOVE_CARINA.finditer(clause) if limits else ():
        height = float(match[1]) / (10 if match[2] == "mm" else 1)
        verdict = SATISFACTORY if limits[0] <= height <= limits[1] else MALPOSITIONED
        called.append((match.end(), len(match[0]), verdict))
    return max(called)[2] if called else None


def _found(kind: str, about: str, text: str) -> list[re.Match[str]]:
    """Return the words that say something of a kind of device."""
    words = _kinds()[kind].get(about)
    return list(_pattern(words).finditer(text)) if words else []


@cache
def _kinds() -> dict[str, dict[str, Any]]:
    import tomllib  # few reports name a device whose place is asked for

    found = tomllib.loads(Path(__file__).with_name("devices.toml").read_text("utf-8"))
    return {"any": found["any"], **found["kinds"]}
