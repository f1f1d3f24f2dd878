"""What captions say of findings beyond their names, beside what the reports of their studies say.

Details are the side, zone and severity of a finding. A caption can also speak of an earlier image
(Ramesh et al., ML4H 2022; Banerjee et al. 2024 count that line by line, here it is by caption),
contradict its report or itself, and leave out what the report asserts.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xray_captioning.metrics import clinical
from xray_captioning.metrics.clinical import Labels
from xray_captioning.metrics.labeler import DENIED, Mention, find_mentions
from xray_captioning.metrics.labels.details import SEVERITIES
from xray_captioning.metrics.labels.layout import statements
from xray_captioning.metrics.labels.rules import alternatives
from xray_captioning.metrics.ngrams import one_text, paired

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
_PRIOR = re.compile(rf"\b(?:{alternatives('prior')})\b")
_LATER = re.compile(rf"\b(?:{alternatives('later')})")
# A heading is no statement, but it names what was compared with.
_HEADED = re.compile(r"\bcomparisons?\s*:\s*(?!no\b|none|not |n/a|unavailable)\w+", re.IGNORECASE)


def prior_reference(text: str) -> str:
    """Return the first words of a text that speak of an earlier image, "" where none do."""
    for statement in statements(text):
        later = _LATER.search(statement)
        if found := _PRIOR.search(statement, 0, later.start() if later else len(statement)):
            return found.group()
    headed = _HEADED.search(text)
    return headed.group() if headed else ""


def contradicted_findings(text: str) -> set[str]:
    """Return the findings that a text asserts for certain and denies outright on the same side. "No large
    effusion" denies a large one only, and "the lungs are clear" no finding by name.
    """
    mentions = find_mentions(text)
    present: dict[str, set[str]] = {}
    for mention in mentions:
        if mention.status == "present":
            present.setdefault(mention.finding, set()).update(mention.sides)
    named = Counter((mention.sentence, mention.start) for mention in mentions)
    return {
        mention.finding
        for mention in mentions
        if mention.finding in present
        and named[mention.sentence, mention.start] == 1
        and mention.status == "denied"
        and mention.finding not in _COLLECTIVE
        and not (mention.severity or mention.zones or _NARROWED.search(mention.clause))
        and (not mention.sides or mention.sides & present[mention.finding])
    }


def asserted_details(text: str) -> Details:
    """Return the findings that a report asserts, certain or not, with the sides and zones of all mentions
    of each together (bilateral is both sides) and the greatest severity.
    """
    found: dict[str, list[Mention]] = {}
    for mention in find_mentions(text):
        if mention.label != DENIED:
            found.setdefault(mention.finding, []).append(mention)
    return {finding: _details(mentions) for finding, mentions in found.items()}


def _details(mentions: Sequence[Mention]) -> tuple[frozenset[str], ...]:
    sides = frozenset().union(*(mention.sides for mention in mentions))
    zones = frozenset().union(*(mention.zones for mention in mentions))
    said = {mention.severity for mention in mentions}
    greatest = [severity for severity in SEVERITIES if severity in said][-1:]
    return sides, frozenset(_LEVELS.get(zone, zone) for zone in zones), frozenset(greatest)


def mention_statistics(
    references: Sequence[str], hypotheses: Sequence[str], reference: Labels, hypothesis: Labels
) -> dict[str, NDArray[np.int8]]:
    """Count, int8, what every share of :func:`mention_scores` is of, study by study.

    ``details`` (n, 3, 3): for side, zone and severity, the findings for which the reference names one;
    those of them that the hypothesis asserts; those with the same there. ``captions`` (n, 4): whether
    each of `CAPTION_SHARES` holds. ``omitted`` (n, 2): findings that the reference asserts; those not
    mentioned.
    """
    texts = {*references, *hypotheses}
    details = {text: asserted_details(text) for text in texts}
    prior = {text: bool(prior_reference(text)) for text in texts}
    itself = {text: bool(contradicted_findings(text)) for text in set(hypotheses)}
    pairs = list(zip(references, hypotheses, strict=True))
    captions = (
        [prior[own] for _, own in pairs],
        [prior[own] and not prior[report] for report, own in pairs],
        clinical.opposed(reference, hypothesis).any(axis=1),
        [itself[own] for _, own in pairs],
    )
    wanted = clinical.asserted(reference) & clinical.IS_FINDING
    omitted = wanted & (hypothesis == clinical.NOT_MENTIONED)
    counts = {
        "details": [_same_details(details[one], details[two]) for one, two in pairs],
        "captions": np.stack(captions, axis=1),
        "omitted": np.stack([wanted.sum(axis=1), omitted.sum(axis=1)], axis=1),
    }
    return {name: np.asarray(values, dtype=np.int8) for name, values in counts.items()}


def _same_details(reference: Details, hypothesis: Details) -> list[list[int]]:
    counts = []
    for kind in range(len(DETAILS)):
        named = {finding: of[kind] for finding, of in reference.items() if of[kind]}
        shared = [finding for finding in named if finding in hypothesis]
        same = sum(hypothesis[finding][kind] == named[finding] for finding in shared)
        counts.append([len(named), len(shared), same])
    return counts


def mention_scores(sums: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
    """Compute the shares of samples, (samples,), from sums of `mention_statistics`.

    ``side_agreement``, ``zone_agreement``, ``severity_agreement``: of the findings that both texts
    assert and for which the reference names a side (zone, severity), those for which the hypothesis
    names the same. ``side_recall``: of all findings for which it names a side. `CAPTION_SHARES`: of
    the captions. ``omissions``: of the findings that references assert. A share of nothing is nan.
    """
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
    keys, columns = paired(references=references, hypotheses=hypotheses)
    texts = [[one_text(f"texts[{k}]", t) for k, t in zip(keys, column)] for column in columns]
    counts = mention_statistics(*texts, *map(clinical.label_matrix, texts))  # type: ignore[arg-type]
    return clinical.of_one_sample(mention_scores, counts)
