"""What captions say of findings beyond their names, beside what the reports of their studies say: side, zone and
severity of a finding, an earlier image (Ramesh et al., ML4H 2022; Banerjee et al. 2024 count that line by line,
here it is by caption), contradictions of the report or of themselves, and what they leave out.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import chain, pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xray_captioning.findings import FINDINGS
from xray_captioning.metrics import clinical, labeler, ngrams
from xray_captioning.metrics.labels.details import SEVERITIES, ZONES
from xray_captioning.metrics.labels.layout import statements
from xray_captioning.metrics.labels.rules import alternatives, rules
from xray_captioning.metrics.labels.statement import mentions as kept_mentions
from xray_captioning.metrics.labels.statement import normal

DETAILS = ("side", "zone", "severity")
CAPTION_SHARES = (*("prior_references", "prior_hallucinations"), *("contradictions", "self_contradictions"))
"""Shares of the captions, by what they do."""
Details: TypeAlias = dict[str, tuple[frozenset[str], ...]]
"""For each finding that a text asserts its sides, zones and severity; empty where none is said."""
# Readers say "base" and "lower lobe" of one place, so zones are compared by their level.
_LEVELS = {"apical": "upper", "lingular": "middle", "basal": "lower", "retrocardiac": "lower"}
# Names for many things: a scar beside "no infiltrate" contradicts nothing, nor a rib that is broken
# beside a femur that is not.
_COLLECTIVE = {"Lung Opacity", "Fracture", "Support Devices", "Pleural Other"}
_NARROWED = re.compile(rf"\b(?:{alternatives('narrowed')})\b")
_WORD = re.compile(r"[^\W_]+")
_PRIOR = re.compile(rf"\b(?:{alternatives('prior')})\b")
_LATER = re.compile(rf"\b(?:{alternatives('later')})")
# A heading is no statement, but it names what was compared with.
_HEADED = re.compile(r"\bcomparisons?\s*:\s*(?!no\b|none|not |n/a|unavailable)\w+", re.IGNORECASE)


def _earlier(statement: str) -> re.Match[str] | None:
    """Find the first words that speak of an earlier image."""
    later = _LATER.search(statement)
    return _PRIOR.search(statement, 0, later.start() if later else len(statement))


def contradicted_findings(text: str) -> set[str]:
    """Return the findings that a text asserts for certain and denies outright on the same side."""
    # "No large effusion" denies a large one only, and "the lungs are clear" no finding by name.
    mentions = labeler.find_mentions(text)
    present: dict[str, set[str]] = {}
    for mention in mentions:
        if mention.status == "present":
            present.setdefault(mention.finding, set()).update(mention.sides)
    named = Counter((mention.sentence, mention.start) for mention in mentions)
    denied = [m for m in mentions if m.status == "denied" and m.finding in present and m.finding not in _COLLECTIVE]
    alone = [m for m in denied if named[m.sentence, m.start] == 1 and (not m.sides or m.sides & present[m.finding])]
    return {m.finding for m in alone if not (m.severity or m.zones or _NARROWED.search(m.clause))}


class NamedFinding(NamedTuple):
    """A finding that a caption asserts, and the places of the words in the caption that say so."""

    finding: str
    sides: frozenset[str]
    sentence: int  # of those that say something
    words: tuple[int, ...]  # that name the finding
    side_words: tuple[int, ...]  # that name its side


def named_findings(words: Sequence[str]) -> list[NamedFinding]:
    """Return the findings that a caption's words assert, certain or not, in reading order."""
    found = []
    for number, places in enumerate(sentence_words(words)):
        text = " ".join(words[place] for place in places)
        for one in labeler.find_mentions(text):
            if one.label != labeler.DENIED:
                parts = ([(one.start, one.end)], one.side_spans)
                spans = [written_spans(text, [(one.sentence, *part) for part in some]) for some in parts]
                own = [tuple(places[i] for a, b in some for i in _counted(text, a, b)) for some in spans]
                found.append(NamedFinding(one.finding, one.sides, number, *own))
    return found


def _counted(text: str, start: int, end: int) -> range:
    """Return the numbers of the words of a text from one place to another."""
    return range(text.count(" ", 0, start), text.count(" ", 0, end) + (start < end))


def written_spans(text: str, parts: Sequence[tuple[str, int, int]]) -> list[tuple[int, int]]:
    """Return where a text as written has parts of its sentences in standard spelling; (0, 0) is nowhere."""
    spelling = rules(labeler.convention_of()).spelling
    sentences = [" ".join(normal(statement, spelling)) for statement in statements(text)]
    written = list(_WORD.finditer(text))
    read = [(words, i, word) for i, words in enumerate(sentences) for word in _WORD.finditer(words)]
    places = _aligned([w.group().lower() for w in written], [w.group() for *_, w in read])
    first = {words: i for i, words in reversed(list(enumerate(sentences)))}
    told = [(words, word.start(), k) for (words, i, word), k in zip(read, places, strict=True) if i == first[words]]
    spans = []
    for sentence, start, end in parts:
        found = [written[k] for words, at, place in told if words == sentence and start <= at < end for k in place]
        spans.append((found[0].start(), found[-1].end()) if found else (0, 0))
    return spans


def _aligned(written: list[str], read: list[str]) -> list[range]:
    """Return which of the written words each word that was read stands for."""
    places = []
    for _, a, b, c, d in SequenceMatcher(None, written, read, autojunk=False).get_opcodes():
        ends = [a + j * (b - a) // max(d - c, 1) for j in range(d - c + 1)]
        places += [range(one, min(max(one + 1, two), b)) for one, two in pairwise(ends)]
    return places


def sentence_words(words: Sequence[str]) -> list[list[int]]:
    """Return the places of the words of each sentence that says something; a full stop ends it."""
    ends = [i + 1 for i, word in enumerate(words) if word == "."]
    bounds = [0, *ends, *([] if ends and ends[-1] == len(words) else [len(words)])]
    return [list(range(start, stop)) for start, stop in pairwise(bounds) if spoken(words, range(start, stop))]


def spoken(words: Sequence[str], places: Sequence[int]) -> list[int]:
    """Return those places where there is a word and not punctuation."""
    return [i for i in places if any(map(str.isalnum, words[i]))]


def asserted_details(mentions: Iterable[labeler.Mention]) -> Details:
    """Return by finding asserted, certain or not, the sides and zones of all its mentions and the greatest severity."""
    found: dict[str, tuple[set[str], set[str], set[str | None]]] = {}
    for mention in mentions:
        if mention.label != labeler.DENIED:
            sides, zones, severities = found.setdefault(mention.finding, (set(), set(), set()))
            sides |= mention.sides
            zones |= {_LEVELS.get(zone, zone) for zone in mention.zones}
            severities.add(mention.severity)
    greatest = {name: [severity for severity in SEVERITIES if severity in said[2]][-1:] for name, said in found.items()}
    return {name: (*map(frozenset, said[:2]), frozenset(greatest[name])) for name, said in found.items()}


# What is said of a finding, in the bits behind its labels.
_LEVEL_NAMES = dict.fromkeys(_LEVELS.get(zone, zone) for zone in ZONES)
_KINDS = [("left", "right"), tuple(_LEVEL_NAMES), tuple(SEVERITIES)]
_BITS = {name: 1 << bit for bit, name in enumerate((*chain(*_KINDS), "asserted", "present", "denied"), labeler.BITS)}
_MASKS = [sum(_BITS[name] for name in names) for names in _KINDS]
_PRIOR_BIT, _ITSELF_BIT = 1 << labeler.REST_BITS, 2 << labeler.REST_BITS  # of the column for the rest


def facts(texts: Sequence[str]) -> labeler.Bits:
    """Return what texts say of findings, (n, 19), see `labeler.report_bits`: all that is compared."""
    found = labeler.report_bits(texts, labeler.kept_bits(_fact_bits, labeler.convention_of()))
    both, rest = _BITS["present"] | _BITS["denied"], found[:, -1]
    asked = {row: texts[row] for row in np.flatnonzero((found[:, :-1] & both == both).any(axis=1)).tolist()}
    against = {text for text in set(asked.values()) if contradicted_findings(text)}
    rest[[row for row, text in asked.items() if text in against]] |= _ITSELF_BIT
    rest[[":" in text and _HEADED.search(text) is not None for text in texts]] |= _PRIOR_BIT
    for name in SEVERITIES:  # of each finding the greatest
        found[found & _MASKS[2] >= 2 * _BITS[name]] &= ~np.uint32(_BITS[name])
    return found


def _fact_bits(convention: str, text: str) -> labeler.Bits:
    row = labeler.label_bits(convention, text)
    mentions = [one for one in kept_mentions(convention)[text] if one.finding in FINDINGS]
    for finding, of in asserted_details(mentions).items():
        row[FINDINGS.index(finding)] |= sum(_BITS[name] for name in chain(("asserted",), *of))
    for one in mentions:
        row[FINDINGS.index(one.finding)] |= _BITS[one.status] if one.status in ("present", "denied") else 0
    row[-1] |= _PRIOR_BIT * bool(_earlier(text))
    return row


def mention_statistics(reference: labeler.Bits, hypothesis: labeler.Bits) -> dict[str, NDArray[np.int8]]:
    """Count, int8, what `mention_scores` are of, study by study, from `facts`. ``details`` (n, 3, 3): for side, zone,
    severity the findings for which the reference names one; those of them that the hypothesis asserts; those with the
    same there. ``captions`` (n, 4): `CAPTION_SHARES`. ``omitted`` (n, 2): findings of the reference; not mentioned.
    """
    labels = [clinical.labels_of(bits) for bits in (reference, hypothesis)]
    prior, known = (bits[:, -1] & _PRIOR_BIT > 0 for bits in (hypothesis, reference))
    captions = (prior, prior & ~known, clinical.opposed(*labels).any(axis=1), hypothesis[:, -1] & _ITSELF_BIT > 0)
    wanted = clinical.asserted(labels[0]) & clinical.IS_FINDING
    omitted = wanted & (labels[1] == clinical.NOT_MENTIONED)
    said, own = reference[:, :-1], hypothesis[:, :-1]
    details = []
    for mask in _MASKS:
        named = said & mask > 0
        shared = named & (own & _BITS["asserted"] > 0)
        details.append([named, shared, shared & ((said ^ own) & mask == 0)])
    counts = {
        "details": np.moveaxis(np.sum(details, axis=-1), -1, 0),
        "captions": np.stack(captions, axis=1),
        "omitted": np.stack([wanted.sum(axis=1), omitted.sum(axis=1)], axis=1),
    }
    return {name: np.ascontiguousarray(values, dtype=np.int8) for name, values in counts.items()}


def mention_scores(sums: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
    """Compute the shares of samples, (samples,), from sums of `mention_statistics`."""
    # ``side_agreement`` (zone, ...): of the findings that both texts assert and for which the reference names a side,
    # those with the same; ``side_recall``: of all for which it names one; ``omissions``: of those references assert.
    named, shared, same = np.moveaxis(sums["details"], -1, 0)
    agreement = clinical.share(same, shared)
    scores = {f"{kind}_agreement": agreement[:, i] for i, kind in enumerate(DETAILS)}
    scores["side_recall"] = clinical.share(same[:, 0], named[:, 0])
    for i, name in enumerate(CAPTION_SHARES):
        scores[name] = sums["captions"][:, i] / sums["n"]
    return scores | {"omissions": clinical.share(sums["omitted"][:, 1], sums["omitted"][:, 0])}


def mention_support(sums: Mapping[str, NDArray[Any]]) -> dict[str, int]:
    """Count the patients, (patients, ...) of `sums`, that a share stands on, if not on all."""
    found = {f"{kind}_agreement": sums["details"][:, i, 1] for i, kind in enumerate(DETAILS)}
    found |= {"side_recall": sums["details"][:, 0, 0], "omissions": sums["omitted"][:, 0]}
    return {name: int((values > 0).sum()) for name, values in found.items()}


def compare_mentions(references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, float]:
    """Return the shares of :func:`mention_scores` of one system's texts.

    Examples
    --------
    >>> found = compare_mentions(["small left effusion . right nodule"], ["small right effusion , unchanged"])
    >>> found["side_agreement"], found["severity_agreement"], found["prior_hallucinations"]
    (0.0, 1.0, 1.0)
    """
    keys, columns = ngrams.paired(references=references, hypotheses=hypotheses)
    texts = [[ngrams.one_text(f"texts[{k}]", t) for k, t in zip(keys, column)] for column in columns]
    return clinical.of_one_sample(mention_scores, mention_statistics(*map(facts, texts)))
