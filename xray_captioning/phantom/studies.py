"""What phantom studies are drawn and worded from: patients, findings, and how the images were taken."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import numpy as np

from xray_captioning.files import read_toml

RIGHT, LEFT, BILATERAL = "right", "left", "bilateral"
ZONES = ("upper", "mid", "lower")
TABLES = read_toml(__file__, "studies.toml")
FINDINGS: dict[str, dict[str, Any]] = TABLES["findings"]


@dataclass(frozen=True)
class Finding:
    """One abnormality that can be seen in the image."""

    name: str  # one of `xray_captioning.findings.FINDINGS`
    kind: str = ""  # which device; empty otherwise
    side: str = ""  # the patient's left or right, bilateral, or empty for the midline
    place: str = ""  # upper, mid or lower zone, or empty
    size: str = ""  # small, moderate, large; mild, moderate, severe; or empty
    strength: float = 1.0  # of what it does to the image, above 0
    only: str = ""  # the one view that shows it, 'frontal' or 'lateral'; or empty
    change: str = ""  # since the prior study: new, larger, smaller, unchanged; or empty

    @property
    def sides(self) -> tuple[str, ...]:
        """The sides concerned, one by one: both for a bilateral finding, none for the midline."""
        return (RIGHT, LEFT) if self.side == BILATERAL else (self.side,) if self.side else ()

    def shown(self, view: str) -> float:
        """How much of it a view shows, from 0 to 1."""
        return self.strength if self.only in ("", view) else 0.0

    @property
    def detail(self) -> str:
        """The finding with all it carries, such as ``Pleural Effusion/left/small``."""
        return "/".join(filter(None, (self.name, self.kind, self.side, self.place, self.size)))


@dataclass(frozen=True)
class Anatomy:
    """One patient's body, position and exposure before any finding; lengths are shares of the image's width."""

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
    turn: float = 0.0  # of the patient to the left, as a shift of the heart in shares of half the chest
    swell: float = 0.0  # by which share the heart's shadow is larger than the heart
    breath: float = 1.0  # share of the whole height of the chest
    zoom: float = 1.0  # how large the patient is in the image


@dataclass(frozen=True)
class Scene:
    """How the images were taken, and what lies in the way: nothing where a study is easy (see ``hard.toml``)."""

    difficulty: float = 0.0  # from 0 to 1
    portable: bool = False  # taken from the front, in bed
    prior: bool = False  # whether the patient has an earlier study
    resolved: tuple[Finding, ...] = ()  # what that had shown
    mimics: tuple[str, ...] = ()  # what looks like a finding, or covers one, and is none
    soft: float = 0.0  # by which share ribs and vessels are fainter
    round: float = 0.0  # how much thinner tissue and air are towards their edges
    clutter: float = 0.0  # irregular density of all that lies one behind the other
    veil: float = 0.0  # share of the light that is scattered
    quantum: float = 0.0  # noise of the detector, relative to the root of the light
    gamma: float = 1.0  # of the display
    borders: tuple[float, ...] = ()  # left, top, right, bottom: what the collimator covers, in shares of the image
    skew: float = 0.0  # of the collimator, in degrees


@dataclass(frozen=True)
class PhantomStudy:
    """What a study is drawn and worded from; each finding draws its own numbers, whatever else there is."""

    anatomy: Anatomy
    findings: tuple[Finding, ...] = ()  # most urgent first; none in a normal study
    lateral: bool = True  # whether there is a lateral view beside the frontal one
    seed: int = 0  # of the small irregularities of the drawing
    scene: Scene = Scene()
    number: int = 0  # which one it is of a source
    patient: int = 0  # the number of the patient's first study

    def find(self, name: str) -> Finding | None:
        """The finding of that name, or None."""
        return next(self.each(name), None)

    def each(self, name: str) -> Iterator[Finding]:
        """All findings of that name: nodules may be several."""
        return (finding for finding in self.findings if finding.name == name)

    def stream(self, part: str, view: str = "frontal") -> np.random.Generator:
        """Random numbers for one part of the drawing, the same whatever else is drawn."""
        part = part if view == "frontal" else f"{part} {view}"
        return np.random.default_rng([self.seed, crc32(part.encode())])

    def shaped_anatomy(self) -> Anatomy:
        """The anatomy after the findings that change the shape of heart, chest or spine."""
        body = self.anatomy
        high, wide, deep = body.zoom * body.breath * body.height, body.zoom * body.half_width, body.zoom * body.depth
        body = replace(body, height=high, half_width=wide, depth=deep)
        if heart := self.find("Cardiomegaly"):
            ratio = self._drawn(heart)
            body = replace(body, heart=ratio - (1 - heart.strength) * (ratio - 0.5))
        if air := self.find("Emphysema"):
            large = {"half_width": min(0.41, body.half_width * 1.04), "height": min(0.77, body.height * 1.13)}
            large |= {"depth": body.depth * 1.13, "heart": body.heart * 0.82, "dome": 0.03}
            lengths: Any = {name: toward(getattr(body, name), end, air.strength) for name, end in large.items()}
            body = replace(body, **lengths)
        if curve := self.find("Scoliosis"):
            body = replace(body, bend=self._drawn(curve) * curve.strength * (1 if curve.side == LEFT else -1))
        return body

    def _drawn(self, finding: Finding) -> float:
        low, high = FINDINGS[finding.name]["sizes"][finding.size]
        return self.stream(finding.name).uniform(low, high)


def toward(start: float, end: float, share: float) -> float:
    """Return the number that lies a share of the way from start to end, exactly `end` at 1."""
    return end - (1 - share) * (end - start)


def sample_study(rng: np.random.Generator) -> PhantomStudy:
    """Draw a patient and findings: a third have none, most one to three that hide no other."""
    values: dict[str, float] = {}
    for name, limits in TABLES["anatomy"].items():
        values[name] = 0.0 if name == "breasts" and rng.random() >= 0.5 else rng.uniform(*limits)
    anatomy, findings = Anatomy(shift=(values.pop("right"), values.pop("down")), **values), _sample_findings(rng)
    return PhantomStudy(anatomy, findings, bool(rng.random() >= TABLES["frontal_only"]), int(rng.integers(2**31)))


def _sample_findings(rng: np.random.Generator) -> tuple[Finding, ...]:
    count = rng.choice(len(TABLES["shares"]), p=TABLES["shares"])
    chosen: list[Finding] = []
    for _ in range(20):  # candidates that clash with an earlier finding are drawn again
        if len(chosen) == count:
            break
        candidate = sample_finding(rng, draw_name(rng, chosen))
        if all(compatible(candidate, other) for other in chosen):
            chosen.append(candidate)
    return in_order(chosen)


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings, most urgent first."""
    order = list(FINDINGS)
    return tuple(sorted(findings, key=lambda finding: order.index(finding.name)))


def draw_name(rng: np.random.Generator, chosen: Iterable[Finding]) -> str:
    """Draw the name of a finding; what comes with the chosen ones is more frequent."""
    weights = {name: about["frequency"] for name, about in FINDINGS.items()}
    for finding in chosen:
        for companion in FINDINGS[finding.name].get("companions", ()):
            weights[companion] *= 2.5
    share = np.fromiter(weights.values(), float)
    return str(rng.choice(list(weights), p=share / share.sum()))


def sample_finding(rng: np.random.Generator, name: str) -> Finding:
    """Give a finding its side, place and size."""
    about = FINDINGS[name]
    kind = side = ""
    if kinds := about.get("kinds"):
        kind = str(rng.choice(list(kinds)))
        side = kinds[kind] if rng.random() < 0.7 else {LEFT: RIGHT, RIGHT: LEFT}[kinds[kind]]
    elif rng.random() < about.get("bilateral", 0.0):
        side = BILATERAL
    elif "midline" not in about:
        side = str(rng.choice((RIGHT, LEFT)))
    place = str(rng.choice(ZONES)) if "placed" in about else ""
    return Finding(name, kind, side, place, str(rng.choice(list(about["sizes"]))) if "sizes" in about else "")


def compatible(one: Finding, other: Finding) -> bool:
    """Whether two findings can be in one study, and seen each for itself."""
    return one.name != other.name and not excluded(one, other) and not _occupied(one) & _occupied(other)


def excluded(one: Finding, other: Finding) -> bool:
    """Whether one finding undoes the other."""
    return other.name in FINDINGS[one.name].get("excludes", ()) or one.name in FINDINGS[other.name].get("excludes", ())


def _occupied(finding: Finding) -> set[tuple[str, str]]:
    """The (side, zone) parts of the lungs which a finding needs for itself."""
    zones = FINDINGS[finding.name].get("occupies", {}).get(finding.size or finding.kind, [finding.place])
    return {(side, zone) for side in finding.sides for zone in zones if zone}
