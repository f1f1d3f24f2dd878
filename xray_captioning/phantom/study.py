"""What a synthetic study is: a body, its findings, and how often each finding occurs."""

from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import numpy as np

from xray_captioning.files import read_toml

RIGHT, LEFT, BILATERAL = "right", "left", "bilateral"
ZONES = ("upper", "mid", "lower")


TABLES = read_toml(__file__, "studies.toml")
_FINDINGS: dict[str, dict[str, Any]] = TABLES["findings"]


@dataclass(frozen=True)
class Finding:
    """One abnormality that can be seen in the image."""

    name: str  # one of `xray_captioning.findings.FINDINGS`
    kind: str = ""  # which device; empty otherwise
    side: str = ""  # the patient's left or right, bilateral, or empty for the midline
    place: str = ""  # upper, mid or lower zone, or empty
    size: str = ""  # small, moderate, large; mild, moderate, severe; or empty

    @property
    def sides(self) -> tuple[str, ...]:
        """The sides concerned, one by one: both for a bilateral finding, none for the midline."""
        return (RIGHT, LEFT) if self.side == BILATERAL else (self.side,) if self.side else ()

    @property
    def detail(self) -> str:
        """The finding with all it carries, such as ``Pleural Effusion/left/small``."""
        return "/".join(filter(None, (self.name, self.kind, self.side, self.place, self.size)))


@dataclass(frozen=True)
class Anatomy:
    """Body, position and exposure of one patient before any finding changes them. Lengths are
    fractions of the image width unless said otherwise.
    """

    half_width: float  # of the inside of the chest
    height: float  # from apex to costophrenic angle
    depth: float  # from front to back
    heart: float  # cardiothoracic ratio; normal below 0.5
    dome: float  # height of a diaphragm's dome as a fraction of `height`
    build: float  # thickness of the soft tissue: from 0 (slender) to 1 (obese)
    breasts: float  # density of their shadows; 0 for none
    bend: float  # of the spine, as a fraction of `half_width`, positive to the patient's left
    rotation: float  # degrees by which the patient leans in the image
    shift: tuple[float, float]  # right and down of the usual place
    gain: float  # exposure
    contrast: float  # depth of the dark tones
    noise: float  # grain of the film
    texture: float  # strength of the vessel markings


@dataclass(frozen=True)
class PhantomStudy:
    """All that is needed to draw a study and to write its report. Each finding draws from its own
    stream of numbers, so the same body can be drawn with and without it.
    """

    anatomy: Anatomy
    findings: tuple[Finding, ...] = ()  # most urgent first; none in a normal study
    lateral: bool = True  # whether there is a lateral view beside the frontal one
    seed: int = 0  # of the small irregularities of the drawing

    def find(self, name: str) -> Finding | None:
        """The finding of that name, or None."""
        return next((finding for finding in self.findings if finding.name == name), None)

    def stream(self, part: str, view: str = "frontal") -> np.random.Generator:
        """Random numbers for one part of the drawing, the same whatever else is drawn."""
        part = part if view == "frontal" else f"{part} {view}"
        return np.random.default_rng([self.seed, crc32(part.encode())])

    def shaped_anatomy(self) -> Anatomy:
        """The anatomy after the findings that change the shape of heart, chest or spine."""
        body = self.anatomy
        if heart := self.find("Cardiomegaly"):
            body = replace(body, heart=self._drawn(heart))
        if self.find("Emphysema"):
            wide, high = min(0.41, body.half_width * 1.04), min(0.77, body.height * 1.13)
            body = replace(body, half_width=wide, height=high, depth=body.depth * 1.13)
            body = replace(body, heart=body.heart * 0.82, dome=0.03)
        if curve := self.find("Scoliosis"):
            body = replace(body, bend=self._drawn(curve) * (1 if curve.side == LEFT else -1))
        return body

    def _drawn(self, finding: Finding) -> float:
        low, high = _FINDINGS[finding.name]["sizes"][finding.size]
        return self.stream(finding.name).uniform(low, high)


def sample_study(rng: np.random.Generator) -> PhantomStudy:
    """Draw a patient and findings: a third have none, most one to three that hide no other."""
    values: dict[str, float] = {}
    for name, limits in TABLES["anatomy"].items():
        absent = name == "breasts" and rng.random() >= 0.5
        values[name] = 0.0 if absent else rng.uniform(*limits)
    anatomy = Anatomy(shift=(values.pop("right"), values.pop("down")), **values)
    findings = _sample_findings(rng)
    lateral = bool(rng.random() >= TABLES["frontal_only"])
    return PhantomStudy(anatomy, findings, lateral, int(rng.integers(2**31)))


def _sample_findings(rng: np.random.Generator) -> tuple[Finding, ...]:
    count = rng.choice(len(TABLES["shares"]), p=TABLES["shares"])
    chosen: list[Finding] = []
    for _ in range(20):  # candidates that clash with an earlier finding are drawn again
        if len(chosen) == count:
            break
        candidate = _sample_finding(rng, _draw_name(rng, chosen))
        if all(_compatible(candidate, other) for other in chosen):
            chosen.append(candidate)
    order = list(_FINDINGS)
    return tuple(sorted(chosen, key=lambda finding: order.index(finding.name)))


def _draw_name(rng: np.random.Generator, chosen: list[Finding]) -> str:
    weights = {name: about["frequency"] for name, about in _FINDINGS.items()}
    for finding in chosen:
        for companion in _FINDINGS[finding.name].get("companions", ()):
            weights[companion] *= 2.5
    share = np.fromiter(weights.values(), float)
    return str(rng.choice(list(weights), p=share / share.sum()))


def _sample_finding(rng: np.random.Generator, name: str) -> Finding:
    """Give a finding its side, place and size."""
    about = _FINDINGS[name]
    kind = side = ""
    if kinds := about.get("kinds"):
        kind = str(rng.choice(list(kinds)))
        side = kinds[kind] if rng.random() < 0.7 else {LEFT: RIGHT, RIGHT: LEFT}[kinds[kind]]
    elif rng.random() < about.get("bilateral", 0.0):
        side = BILATERAL
    elif "midline" not in about:
        side = str(rng.choice((RIGHT, LEFT)))
    place = str(rng.choice(ZONES)) if "placed" in about else ""
    size = str(rng.choice(list(about["sizes"]))) if "sizes" in about else ""
    return Finding(name, kind, side, place, size)


def _compatible(one: Finding, other: Finding) -> bool:
    hidden = {one.name, *_FINDINGS[one.name].get("excludes", ())}
    hides = other.name in hidden or one.name in _FINDINGS[other.name].get("excludes", ())
    return not hides and not _occupied(one) & _occupied(other)


def _occupied(finding: Finding) -> set[tuple[str, str]]:
    """The (side, zone) parts of the lungs which a finding needs for itself."""
    needed = _FINDINGS[finding.name].get("occupies", {})
    zones = needed.get(finding.size or finding.kind, [finding.place])
    return {(side, zone) for side in finding.sides for zone in zones if zone}
