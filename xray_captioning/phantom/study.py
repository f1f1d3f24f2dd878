"""What a synthetic study is: a body, its findings, and how often each finding occurs."""

from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np

RIGHT, LEFT, BILATERAL = "right", "left", "bilateral"
ZONES = ("upper", "mid", "lower")
DEVICES = ("central venous catheter", "pacemaker")


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
    """Body, position and exposure of one patient before any finding changes them.

    Lengths are fractions of the image width unless said otherwise.
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
    """All that is needed to draw a study and to write its report.

    Every structure and finding draws random numbers from its own stream, so the same body can be
    drawn with and without a finding.
    """

    anatomy: Anatomy
    findings: tuple[Finding, ...] = ()  # most urgent first; none in a normal study
    lateral: bool = True  # whether there is a lateral view beside the frontal one
    seed: int = 0  # of the small irregularities of the drawing

    def find(self, name: str) -> Finding | None:
        """The finding of that name, or None."""
        return next((finding for finding in self.findings if finding.name == name), None)

    def stream(self, part: str) -> np.random.Generator:
        """Random numbers for one part of the drawing, the same whatever else is drawn."""
        return np.random.default_rng([self.seed, crc32(part.encode())])

    def shaped_anatomy(self) -> Anatomy:
        """The anatomy after the findings that change the shape of heart, chest or spine."""
        body = self.anatomy
        if heart := self.find("Cardiomegaly"):
            low, high = _HEART_RATIOS[heart.size]
            body = replace(body, heart=self.stream("Cardiomegaly").uniform(low, high))
        if self.find("Emphysema"):
            body = replace(
                body,
                half_width=min(0.41, body.half_width * 1.04),
                height=min(0.77, body.height * 1.13),
                depth=body.depth * 1.13,
                heart=body.heart * 0.82,
                dome=0.03,
            )
        if curve := self.find("Scoliosis"):
            low, high = _BENDS[curve.size]
            sign = 1 if curve.side == LEFT else -1
            body = replace(body, bend=sign * self.stream("Scoliosis").uniform(low, high))
        return body


_HEART_RATIOS = {"mild": (0.55, 0.58), "moderate": (0.61, 0.65), "severe": (0.69, 0.74)}
_BENDS = {"mild": (0.16, 0.21), "severe": (0.30, 0.38)}

# Relative frequency; the order is that of a report, most urgent first. Rare findings of a real
# collection are made more frequent here so that a few hundred studies hold some of each.
FREQUENCY = {
    "Pneumothorax": 0.9,
    "Edema": 0.8,
    "Consolidation": 1.0,
    "Lung Lesion": 1.0,
    "Pleural Effusion": 1.4,
    "Cardiomegaly": 1.6,
    "Atelectasis": 1.3,
    "Emphysema": 1.1,
    "Fracture": 0.9,
    "Hiatal Hernia": 0.8,
    "Granuloma": 1.2,
    "Scoliosis": 0.9,
    "Support Devices": 1.3,
}
COUNT_SHARES = (0.34, 0.32, 0.21, 0.10, 0.03)  # studies with 0, 1, 2, 3 and 4 findings
FRONTAL_ONLY = 0.05
# Emphysema makes the heart small and the lungs dark, which hides or undoes the other findings.
EXCLUSIVE = {"Emphysema": ("Cardiomegaly", "Edema")}
# Heart failure: these come together more often than by chance.
COMPANIONS = {"Cardiomegaly": ("Edema", "Pleural Effusion", "Support Devices")}
_MIDLINE = ("Edema", "Cardiomegaly", "Emphysema", "Hiatal Hernia")
_BILATERAL_SHARE = {"Pleural Effusion": 0.3, "Atelectasis": 0.25, "Consolidation": 0.15}
_SIZES = {
    "Pneumothorax": ("small", "moderate", "large"),
    "Pleural Effusion": ("small", "moderate", "large"),
    "Cardiomegaly": ("mild", "moderate", "severe"),
    "Edema": ("mild", "severe"),
    "Scoliosis": ("mild", "severe"),
    "Hiatal Hernia": ("small", "large"),
    "Lung Lesion": ("small", "large"),
}


def sample_study(rng: np.random.Generator) -> PhantomStudy:
    """Draw a patient and their findings.

    About a third of the studies are normal; most others have one to three findings, and no two
    findings hide each other.
    """
    anatomy = _sample_anatomy(rng)
    findings = _sample_findings(rng)
    lateral = bool(rng.random() >= FRONTAL_ONLY)
    return PhantomStudy(anatomy, findings, lateral, int(rng.integers(2**31)))


def _sample_anatomy(rng: np.random.Generator) -> Anatomy:
    uniform = rng.uniform
    return Anatomy(
        half_width=uniform(0.345, 0.40),
        height=uniform(0.60, 0.70),
        depth=uniform(0.56, 0.66),
        heart=uniform(0.38, 0.47),
        dome=uniform(0.11, 0.17),
        build=uniform(0.0, 1.0),
        breasts=uniform(0.3, 1.0) if rng.random() < 0.5 else 0.0,
        bend=uniform(-0.025, 0.025),
        rotation=uniform(-3.5, 3.5),
        shift=(uniform(-0.025, 0.025), uniform(-0.025, 0.025)),
        gain=uniform(0.95, 1.35),
        contrast=uniform(0.0, 0.4),
        noise=uniform(2.0, 6.0),
        texture=uniform(0.7, 1.2),
    )


def _sample_findings(rng: np.random.Generator) -> tuple[Finding, ...]:
    count = rng.choice(len(COUNT_SHARES), p=COUNT_SHARES)
    chosen: list[Finding] = []
    for _ in range(20):  # candidates that clash with an earlier finding are drawn again
        if len(chosen) == count:
            break
        candidate = _sample_finding(rng, _draw_name(rng, chosen))
        if all(_compatible(candidate, other) for other in chosen):
            chosen.append(candidate)
    order = list(FREQUENCY)
    return tuple(sorted(chosen, key=lambda finding: order.index(finding.name)))


def _draw_name(rng: np.random.Generator, chosen: list[Finding]) -> str:
    weights = dict(FREQUENCY)
    for finding in chosen:
        for companion in COMPANIONS.get(finding.name, ()):
            weights[companion] *= 2.5
    share = np.fromiter(weights.values(), float)
    return str(rng.choice(list(weights), p=share / share.sum()))


def _sample_finding(rng: np.random.Generator, name: str) -> Finding:
    """Give a finding its side, place and size."""
    kind = side = place = ""
    if name == "Support Devices":
        kind = str(rng.choice(DEVICES))
        usual = RIGHT if kind == DEVICES[0] else LEFT
        side = usual if rng.random() < 0.7 else {LEFT: RIGHT, RIGHT: LEFT}[usual]
    elif rng.random() < _BILATERAL_SHARE.get(name, 0.0):
        side = BILATERAL
    elif name not in _MIDLINE:
        side = str(rng.choice((RIGHT, LEFT)))
    if name in ("Lung Lesion", "Granuloma", "Consolidation"):
        place = str(rng.choice(ZONES))
    size = str(rng.choice(_SIZES[name])) if name in _SIZES else ""
    return Finding(name, kind, side, place, size)


def _compatible(one: Finding, other: Finding) -> bool:
    if one.name == other.name or one.name in EXCLUSIVE.get(other.name, ()):
        return False
    if other.name in EXCLUSIVE.get(one.name, ()):
        return False
    return not _occupied(one) & _occupied(other)


def _occupied(finding: Finding) -> set[tuple[str, str]]:
    """The (side, zone) parts of the lungs which a finding needs for itself."""
    if finding.name == "Pneumothorax":
        zones: tuple[str, ...] = ZONES
    elif finding.name == "Pleural Effusion":
        zones = {"small": ZONES[2:], "moderate": ZONES[2:], "large": ZONES[1:]}[finding.size]
    elif finding.name == "Atelectasis":
        zones = ("lower",)
    else:
        zones = (finding.place,) if finding.place else ()
    if finding.kind == "pacemaker":  # the generator lies over the upper zone
        zones = ("upper",)
    return {(side, zone) for side in finding.sides for zone in zones}
