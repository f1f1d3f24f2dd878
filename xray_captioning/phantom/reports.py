"""Reports for the phantoms, worded as radiologists do, of the sentences in ``sentences.toml``.

Sides are always ``left``, ``right``, ``bilateral`` or ``both``; earlier paraphrases are used more
often, because people have favourite words.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from xray_captioning.files import read_toml
from xray_captioning.phantom.study import BILATERAL, Finding, PhantomStudy

_SENTENCES = read_toml(__file__, "sentences.toml")
_LONGEST = 7  # sentences in the findings section


def report(study: PhantomStudy, rng: np.random.Generator) -> dict[str, str]:
    """Write the report of a study, by sections: all that is true of it, and nothing else. Findings
    (three to seven sentences) and impression (one to three) name its findings, with side, place and
    size; `rng` chooses among paraphrases.
    """
    texts = {"findings": _write_findings(study, rng), "impression": _write_impression(study, rng)}
    return texts | {name: _choose(choices, rng) for name, choices in _SENTENCES["background"].items()}


def _write_impression(study: PhantomStudy, rng: np.random.Generator) -> str:
    if not study.findings:
        return _choose(_SENTENCES["normal"]["impression"], rng)
    parts = [_phrase(finding, rng) for finding in study.findings]
    while len(parts) > 3 or (len(parts) > 1 and rng.random() < 0.2):
        parts[-2:] = [f"{parts[-2]} and {parts[-1]}"]
    return " ".join(_capital(part) + "." for part in parts)


def _write_findings(study: PhantomStudy, rng: np.random.Generator) -> str:
    """Findings and, for organs without any, normal statements, in the order of the systems."""
    spoken = {
        system: [_sentence(finding, rng) for name in names if (finding := study.find(name))]
        for system, names in _SENTENCES["systems"].items()
    }
    normal, absent = _SENTENCES["normal"], _SENTENCES["absent"]
    for system in ("heart", "pleura"):
        if not spoken[system]:
            spoken[system] = [_choose(normal[system], rng)]
    if not spoken["lungs"]:
        effusion = study.find("Pleural Effusion") or study.find("Pneumothorax")
        choices = absent["Consolidation"] if effusion else normal["lungs"]
        spoken["lungs"] = [_choose(choices, rng)]
    room = _LONGEST - sum(map(len, spoken.values()))
    for row in _further_negatives(study)[:room]:
        if rng.random() < 0.6:
            spoken[row["system"]].append(_choose(_SENTENCES[row["of"]][row["name"]], rng))
    return " ".join(sentence for sentences in spoken.values() for sentence in sentences)


def _further_negatives(study: PhantomStudy) -> list[dict[str, Any]]:
    """What else is truly absent and worth saying."""
    present = {finding.name for finding in study.findings}
    return [
        row
        for row in _SENTENCES["negatives"]
        if not present.intersection(row["unless"]) and ("beside" not in row or present.intersection(row["beside"]))
    ]


def _phrase(finding: Finding, rng: np.random.Generator) -> str:
    choices = _SENTENCES["both_sides" if finding.side == BILATERAL else "phrases"]
    return _fill(_choose(choices[finding.kind or finding.name], rng), finding)


def _sentence(finding: Finding, rng: np.random.Generator) -> str:
    """A whole sentence: one of its own, or the phrase of an impression in a frame."""
    own = _SENTENCES["sentences"].get(finding.kind or finding.name)
    if own and finding.side != BILATERAL and rng.random() < 0.6:
        return _capital(_fill(_choose(own, rng), finding))
    phrase = _phrase(finding, rng)
    plural = any(word in phrase for word in ("effusions", "fractures", "hyperinflated lungs with"))
    frames = _SENTENCES["frames"]["plural" if plural else "singular"]
    return _capital(_choose(frames, rng).format(_article(phrase)))


_COUNTED = {"pneumothorax", "effusion", "nodule", "mass", "hernia", "granuloma"}
_COUNTED |= {"catheter", "line", "pacemaker", "heart"}


def _article(phrase: str) -> str:
    """Put `a` or `an` before the phrases that need one."""
    words = phrase.split()
    if not _COUNTED.intersection(words) or "enlargement" in words:
        return phrase
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def _fill(template: str, finding: Finding) -> str:
    degree = f"{finding.size}ly" if finding.size else ""
    lesion = "nodule" if finding.size == "small" else "mass"
    return template.format(**vars(finding), degree=degree, lesion=lesion)


def _choose(choices: Sequence[str], rng: np.random.Generator) -> str:
    share = 0.6 ** np.arange(len(choices))
    return choices[int(rng.choice(len(choices), p=share / share.sum()))]


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
