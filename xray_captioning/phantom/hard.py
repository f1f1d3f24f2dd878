"""Hard studies: those that would be easy, made faint, crowded and ill taken, and followed up; see ``hard.toml``."""

from dataclasses import replace

import numpy as np

from xray_captioning.errors import ConfigError
from xray_captioning.files import read_toml
from xray_captioning.phantom import studies as easy
from xray_captioning.phantom.studies import LEFT, RIGHT, Anatomy, Finding, PhantomStudy, Scene, excluded, in_order

TABLES = read_toml(__file__, "hard.toml")
CHANCES: dict[str, float] = TABLES["chances"]
_SERIES = 4  # studies of one patient at most
Findings = tuple[Finding, ...]
Random = np.random.Generator


def share_of(difficulty: float | str) -> float:
    """Return the number from 0 to 1 that a difficulty, "easy" and "hard" included, means; else a ConfigError."""
    try:
        share = float({"easy": 0, "hard": 1}.get(str(difficulty), difficulty))
    except (TypeError, ValueError):
        share = -1
    if not 0 <= share <= 1:
        raise ConfigError(f"phantom difficulty is {difficulty}: choose easy, hard, or a number from 0 to 1")
    return share


def study_at(seed: int, index: int, difficulty: float = 0.0) -> tuple[PhantomStudy, Random]:
    """Draw study `index` of a source, the harder by a `difficulty` in [0, 1], and what chooses its report's words."""
    rng = np.random.default_rng([seed, index])
    study = replace(easy.sample_study(rng), number=index, patient=index)
    return (_harder(study, seed, difficulty) if difficulty else study), rng


def _harder(study: PhantomStudy, seed: int, difficulty: float) -> PhantomStudy:
    rng = np.random.default_rng([seed, study.number, 1])
    follows = rng.random() < CHANCES["follow_up"] * difficulty and study.number % _SERIES
    findings = tuple(_faint(finding, rng, difficulty) for finding in _crowd(study, rng, difficulty))
    resolved: Findings = ()
    if follows:
        before, _ = study_at(seed, study.number - 1, difficulty)
        study = _same_patient(study, before)
        findings, resolved = _course(before.findings, findings, rng)
    scene = replace(_scene(rng, difficulty), prior=bool(follows), resolved=resolved)
    findings = in_order([*findings, *_devices(findings, scene, rng)])
    lateral = study.lateral and not scene.portable
    if not lateral:  # nothing is seen in a view that there is not
        findings = tuple(replace(finding, only="") for finding in findings)
    return replace(study, findings=findings, scene=scene, lateral=lateral, anatomy=_position(study.anatomy, scene, rng))


def _scene(rng: Random, difficulty: float) -> Scene:
    drawn = {name: easy + difficulty * (rng.uniform(*ends) - easy) for name, (easy, *ends) in TABLES["scene"].items()}
    portable = bool(rng.random() < CHANCES["portable"] * difficulty)
    drawn["quantum"] *= TABLES["portable"]["quantum"] if portable else 1
    mimics = tuple(name for name, often in TABLES["mimics"].items() if rng.random() < often * difficulty)
    covered = rng.uniform(TABLES["borders"]["least"], TABLES["borders"]["most"], 4)
    borders = tuple(map(float, (covered * difficulty).clip(0)))
    return Scene(difficulty, portable, mimics=mimics, borders=borders, **drawn)


def _position(body: Anatomy, scene: Scene, rng: Random) -> Anatomy:
    """Turn the patient; in bed without a whole breath, and nearer, so that the heart looks larger."""
    turn, swell, zoom, gain = (scene.difficulty * rng.uniform(*limits) for limits in TABLES["body"].values())
    bed = TABLES["portable"] if scene.portable else {"breath": 1.0, "shift": 0.0, "swell": 0.0}
    body = replace(body, turn=turn, zoom=1 + zoom, gain=body.gain * (1 + gain), swell=swell + bed["swell"])
    shift = (body.shift[0], body.shift[1] + bed["shift"])
    return replace(body, breath=bed["breath"], shift=shift, noise=body.noise * (1 - 0.9 * scene.difficulty))


def _faint(finding: Finding, rng: Random, difficulty: float) -> Finding:
    lost = rng.uniform(*TABLES["faint"].get(finding.name, TABLES["faint"]["usual"]))
    seen = {view: often.get(finding.name, 0) * difficulty for view, often in TABLES["one_view"].items()}
    chance = rng.random()
    only = next((view for view, often in seen.items() if (chance := chance - often) < 0), "")
    return replace(finding, strength=1 - difficulty * lost, only=only)


def _crowd(study: PhantomStudy, rng: Random, difficulty: float) -> list[Finding]:
    """The findings of a study that has some, and more, also in their places and of their kinds."""
    found = list(study.findings)
    again = [one.name for one in found if one.name in TABLES["several"]["names"]]
    for name in [easy.draw_name(rng, found), easy.draw_name(rng, found), *again] if found else ():
        candidate = easy.sample_finding(rng, name)
        if rng.random() < CHANCES["crowded"] * difficulty and all(_together(candidate, other) for other in found):
            found.append(candidate)
    return found


def _together(one: Finding, other: Finding) -> bool:
    alike = one.name in TABLES["several"]["names"] and not set(one.sides) & set(other.sides)
    return not excluded(one, other) and (one.name != other.name or alike)


def _devices(findings: Findings, scene: Scene, rng: Random) -> list[Finding]:
    often = CHANCES["device_in_bed" if scene.portable else "device"] * scene.difficulty
    there, found = {finding.kind for finding in (*findings, *scene.resolved)}, []
    for kind in rng.permutation(list(TABLES["devices"]))[:2]:
        usual = TABLES["devices"][kind]
        side = usual if not usual or rng.random() < 0.6 else {LEFT: RIGHT, RIGHT: LEFT}[usual]
        if rng.random() < 0.7 * often and kind not in there:
            found.append(_faint(Finding("Support Devices", str(kind), side), rng, scene.difficulty))
    return found


# --- the next study of a patient ---


def _same_patient(study: PhantomStudy, before: PhantomStudy) -> PhantomStudy:
    own, was = study.anatomy, before.anatomy
    lengths = ("half_width", "height", "depth", "heart", "dome", "build", "breasts", "bend", "texture")
    body = replace(own, **{name: getattr(was, name) for name in lengths})
    return replace(study, anatomy=body, seed=before.seed, patient=before.patient)


def _course(before: Findings, own: Findings, rng: Random) -> tuple[Findings, Findings]:
    """What there is now, and what has resolved: old findings run their course, and one at most is new."""
    present, resolved = [], []
    for finding in before:
        chances = TABLES["course"].get(finding.name, (0, 0, 0))
        fate = str(rng.choice(["resolved", "larger", "smaller", "unchanged"], p=[*chances, 1 - sum(chances)]))
        if fate == "resolved":
            resolved.append(finding)
        else:
            present.append(replace(_resized(finding, fate), change=fate))
    names = {finding.name for finding in before}
    fresh = [one for one in own if one.name not in names and all(_together(one, other) for other in present)]
    present += [replace(finding, change="new") for finding in fresh[:1]]
    return tuple(present), tuple(resolved)


def _resized(finding: Finding, fate: str) -> Finding:
    """A finding one size up or down, or stronger or weaker where there is no such size."""
    step, sizes = {"larger": 1, "smaller": -1}.get(fate, 0), list(easy.FINDINGS[finding.name].get("sizes", ()))
    place = sizes.index(finding.size) + step if sizes else -1
    if 0 <= place < len(sizes):
        return replace(finding, size=sizes[place])
    return replace(finding, strength=min(1.0, finding.strength * 1.4**step))
