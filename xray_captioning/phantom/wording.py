"""The report of a phantom, worded as radiologists do; earlier paraphrases are used more often, as favourite words."""

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np

from xray_captioning.files import read_toml
from xray_captioning.phantom.hard import CHANCES
from xray_captioning.phantom.studies import BILATERAL, Finding, PhantomStudy

_SENTENCES, _RARE = (read_toml(__file__, name) for name in ("sentences.toml", "rare.toml"))
_LONGEST = 7  # sentences in the findings section


def report(study: PhantomStudy, rng: np.random.Generator) -> dict[str, str]:
    """Write findings, impression and background: all that is true of a study, with side, place and size."""
    texts = {"findings": _write_findings(study, rng), "impression": _write_impression(study, rng)}
    if not study.scene.difficulty:
        return texts | {name: _choose(choices, rng) for name, choices in _SENTENCES["background"].items()}
    indication, denial = _indication(study, rng)
    before = _choose(_RARE["background"]["prior" if study.scene.prior else "comparison"], rng)
    texts["impression"] = " ".join(filter(None, (texts["impression"], denial)))
    return texts | {"indication": indication, "comparison": before}


def _write_impression(study: PhantomStudy, rng: np.random.Generator) -> str:
    if not study.findings:
        return _pick("normal", "impression", study, rng)
    parts = [_phrase(finding, study, rng) for finding in study.findings]
    while len(parts) > 3 + 2 * study.scene.difficulty or (len(parts) > 1 and rng.random() < 0.2):
        parts[-2:] = [f"{parts[-2]} and {parts[-1]}"]
    return " ".join(_capital(part) + "." for part in parts)


def _write_findings(study: PhantomStudy, rng: np.random.Generator) -> str:
    """Findings and, for organs without any, normal statements, in the order of the systems."""
    spoken = {
        system: [_sentence(finding, study, rng) for name in names for finding in study.each(name)]
        for system, names in _SENTENCES["systems"].items()
    }
    for system in ("heart", "pleura"):
        if not spoken[system]:
            spoken[system] = [_pick("normal", system, study, rng)]
    if not spoken["lungs"]:
        effusion = study.find("Pleural Effusion") or study.find("Pneumothorax")
        choices = ("absent", "Consolidation") if effusion else ("normal", "lungs")
        spoken["lungs"] = [_pick(*choices, study, rng)]
    room, present = _LONGEST - sum(map(len, spoken.values())), {finding.name for finding in study.findings}
    absent = [row for row in _SENTENCES["negatives"] if present.isdisjoint(row["unless"])]
    for row in [row for row in absent if "beside" not in row or not present.isdisjoint(row["beside"])][:room]:
        if rng.random() < 0.6:
            spoken[row["system"]].append(_pick(row["of"], row["name"], study, rng))
    return " ".join([*chain(*spoken.values()), *_remarks(study, rng)])


def _remarks(study: PhantomStudy, rng: np.random.Generator) -> Iterator[str]:
    for finding in study.scene.resolved:
        side = f"{finding.side} " if finding.side else ""
        what = "removed" if finding.kind else "resolved"
        yield _choose(_RARE["about"][what], rng).format(side + (finding.kind or _RARE["nouns"][finding.name]))
    for name in (*study.scene.mimics, *["portable"] * study.scene.portable):
        if name in _RARE["remarks"] and rng.random() < CHANCES["said"]:
            yield _choose(_RARE["remarks"][name], rng)


def _indication(study: PhantomStudy, rng: np.random.Generator) -> tuple[str, str]:
    """Why the images were made, which a finding explains, or none that there is; and a sentence that denies this."""
    old = [finding for finding in study.findings if finding.change not in ("", "new")]
    there, known = ([f.name for f in (*some, *study.scene.resolved) if not f.kind] for some in (study.findings, old))
    drawn, difficulty = rng.random(), study.scene.difficulty
    misled = drawn > 1 - CHANCES["misled"] * difficulty
    asked = [name for name in _RARE["nouns"] if name not in there] if misled else there
    if not asked or not (misled or drawn < CHANCES["informed"] * difficulty):
        return _choose(_SENTENCES["background"]["indication"], rng), ""
    name = str(rng.choice(asked))
    noun, direct = _RARE["nouns"][name], _RARE["about"]["followed" if name in known else "ruled_out"]
    told = _choose(direct, rng).format(noun) if rng.random() < 0.5 else _choose(_RARE["complaints"][name], rng)
    denied = misled and noun in told and rng.random() < CHANCES["answered"]
    return told, _choose(_RARE["about"]["denied"], rng).format(noun) if denied else ""


def _phrase(finding: Finding, study: PhantomStudy, rng: np.random.Generator) -> str:
    section = "both_sides" if finding.side == BILATERAL else "phrases"
    phrase = _fill(_pick(section, finding.kind or finding.name, study, rng), finding)
    if finding.change:
        return _choose(_RARE["about"][finding.change], rng).format(phrase)
    if finding.strength < 0.6 and not finding.kind and rng.random() < CHANCES["hedged"] * study.scene.difficulty:
        return _choose(_RARE["about"]["hedged"], rng).format(phrase)
    return phrase


def _sentence(finding: Finding, study: PhantomStudy, rng: np.random.Generator) -> str:
    name = finding.kind or finding.name
    own = name in _SENTENCES["sentences"] or (study.scene.difficulty and name in _RARE["sentences"])
    if own and finding.side != BILATERAL and not finding.change and rng.random() < 0.6:
        return _capital(_fill(_pick("sentences", name, study, rng), finding))
    phrase = _phrase(finding, study, rng)
    plural = any(word in phrase for word in _SENTENCES["plural"])
    frame = _choose(_SENTENCES["frames"]["plural" if plural else "singular"], rng)
    if "enlargement" not in (words := phrase.split()) and not set(words).isdisjoint(_SENTENCES["counted"]):
        phrase = f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"
    return _capital(frame.format(phrase))


def _pick(section: str, name: str, study: PhantomStudy, rng: np.random.Generator) -> str:
    """One of the paraphrases; of a hard study often a rare one."""
    usual, rare = (table[section].get(name, ()) for table in (_SENTENCES, _RARE))
    often = CHANCES["rare"] * study.scene.difficulty if rare else 0
    return _choose(rare, rng, 0.85) if not usual or (often and rng.random() < often) else _choose(usual, rng)


def _fill(template: str, finding: Finding) -> str:
    degree = f"{finding.size}ly" if finding.size else ""
    return template.format(**vars(finding), degree=degree, lesion="nodule" if finding.size == "small" else "mass")


def _choose(choices: Sequence[str], rng: np.random.Generator, ratio: float = 0.6) -> str:
    share = ratio ** np.arange(len(choices))
    return choices[int(rng.choice(len(choices), p=share / share.sum()))]


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
