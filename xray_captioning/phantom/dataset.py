"""Synthetic two-view chest studies with known findings, written in the Kaggle layout.

The phantoms are schematic radiographs drawn from lines and ellipses, not patients. As on every radiograph the
patient's right is on the left of the frontal image (an L marks the patient's left); on the lateral image the
patient looks to the left. `Problems` in the reports table is the truth, `MeSH` holds it with side, place and size.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt

from xray_captioning.data.provenance import PHANTOM_README
from xray_captioning.data.resizing import opencv
from xray_captioning.data.studies import SECTIONS
from xray_captioning.errors import ConfigError
from xray_captioning.files import new_folder, progress, read_toml

RIGHT, LEFT, BILATERAL = "right", "left", "bilateral"
ZONES = ("upper", "mid", "lower")
TABLES = read_toml(__file__, "studies.toml")
_FINDINGS: dict[str, dict[str, Any]] = TABLES["findings"]
_SENTENCES = read_toml(__file__, "sentences.toml")
_LONGEST = 7  # sentences in the findings section


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


@dataclass(frozen=True)
class PhantomStudy:
    """What a study is drawn and worded from; each finding draws its own numbers, whatever else there is."""

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


# --- its report, worded as radiologists do: sides are always ``left``, ``right``, ``bilateral`` or
# ``both``; earlier paraphrases are used more often, because people have favourite words ---


def report(study: PhantomStudy, rng: np.random.Generator) -> dict[str, str]:
    """Write findings (three to seven sentences), impression (one to three) and background: all that is
    true of a study, with side, place and size, and nothing else; `rng` chooses among paraphrases.
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
    absent = [row for row in _SENTENCES["negatives"] if present.isdisjoint(row["unless"])]
    return [row for row in absent if "beside" not in row or not present.isdisjoint(row["beside"])]


def _phrase(finding: Finding, rng: np.random.Generator) -> str:
    choices = _SENTENCES["both_sides" if finding.side == BILATERAL else "phrases"]
    return _fill(_choose(choices[finding.kind or finding.name], rng), finding)


def _sentence(finding: Finding, rng: np.random.Generator) -> str:
    """A whole sentence: one of its own, or the phrase of an impression in a frame."""
    own = _SENTENCES["sentences"].get(finding.kind or finding.name)
    if own and finding.side != BILATERAL and rng.random() < 0.6:
        return _capital(_fill(_choose(own, rng), finding))
    phrase = _phrase(finding, rng)
    plural = any(word in phrase for word in _SENTENCES["plural"])
    frame = _choose(_SENTENCES["frames"]["plural" if plural else "singular"], rng)
    if "enlargement" not in (words := phrase.split()) and not set(words).isdisjoint(_SENTENCES["counted"]):
        phrase = f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"
    return _capital(frame.format(phrase))


def _fill(template: str, finding: Finding) -> str:
    degree = f"{finding.size}ly" if finding.size else ""
    lesion = "nodule" if finding.size == "small" else "mass"
    return template.format(**vars(finding), degree=degree, lesion=lesion)


def _choose(choices: Sequence[str], rng: np.random.Generator) -> str:
    share = 0.6 ** np.arange(len(choices))
    return choices[int(rng.choice(len(choices), p=share / share.sum()))]


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


# --- a folder of studies ---

FIRST_UID = 900001  # far above the uids of the Indiana University collection
SMALLEST = 32
MOST_WORKERS, STUDIES_A_WORKER = 4, 100
_Image = npt.NDArray[np.uint8]
_Row = tuple[object, ...]


def render(study: PhantomStudy, size: int = 224) -> tuple[_Image, _Image]:
    """Draw both views of a study as grey images (size, size), uint8, the frontal one first. The lateral view is
    drawn even if `study.lateral` is False. A size of less than 32 pixels is a ConfigError.
    """
    (frontal, _), (lateral, _) = draw(study, size)
    return frontal, lateral


def draw(study: PhantomStudy, size: int) -> tuple[Any, Any]:
    """`render`, and beside each image its findings with their outlines (n, 2), in shares of width and height."""
    opencv()  # the two below import it when they are
    from xray_captioning.phantom.frontal import draw_frontal
    from xray_captioning.phantom.lateral import draw_lateral

    if size < SMALLEST:
        raise ConfigError(f"phantom image size is {size}: choose at least {SMALLEST} pixels")
    return draw_frontal(study, size), draw_lateral(study, size)


def write_phantoms(out: Path, studies: int = 400, seed: int = 0, size: int = 224) -> Path:
    """Write a folder of synthetic studies in the Kaggle layout, whole or not at all.

    Study `i` depends on `seed` and `i` alone: a larger folder begins with the same studies.

    Parameters
    ----------
    out : Path
        Folder to make; it may exist if it is empty.
    studies, seed : int
        How many, at least 1; not negative.
    size : int
        Width and height of the images in pixels, at least 32.

    Returns
    -------
    Path
        `out`, with ``indiana_reports.csv``, ``indiana_projections.csv``,
        ``images/images_normalized/*.png``, ``README.txt`` and
        ``regions.json``: a list with a row for each outline of a finding, ``{"study", "finding",
        "side", "image", "polygon": [[x, y], ...]}`` with x and y in shares of width and height;
        several rows of one finding are its parts.

    Raises
    ------
    ConfigError, DataError
        If a number is out of range, or `out` is a file or a folder that is not empty.
    """
    limits = (("studies", studies, 1), ("seed", seed, 0), ("size", size, SMALLEST))
    for name, value, least in limits:
        if value < least:
            raise ConfigError(f"phantom {name} is {value}: choose at least {least}")
    with new_folder(Path(out)) as folder:
        images = folder / "images" / "images_normalized"
        images.mkdir(parents=True)
        reports, projections, regions = zip(*_write_studies(images, studies, seed, size))
        tables = {
            "reports": [("uid", "MeSH", "Problems", "image", *SECTIONS), *reports],
            "projections": [("uid", "filename", "projection"), *chain(*projections)],
        }
        for name, rows in tables.items():
            with (folder / f"indiana_{name}.csv").open("w", encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows(rows)
        outlines = ",\n".join(map(json.dumps, chain(*regions)))
        (folder / "regions.json").write_text(f"[\n{outlines}\n]\n", encoding="utf-8")
        text = TABLES["readme"].format(studies=studies, seed=seed, size=size)
        (folder / "README.txt").write_text(f"{PHANTOM_README}\n\n{text}", encoding="utf-8")
    return out


def _write_studies(images: Path, studies: int, seed: int, size: int) -> Any:
    """Yield what `write_study` returns of each study; several processes draw many of them."""
    from joblib import Parallel, cpu_count, delayed

    opencv()  # or what to install
    workers = max(1, min(cpu_count(), MOST_WORKERS, studies // STUDIES_A_WORKER))
    # Not forked, as that can hang after TensorFlow has started, and without the caller's script.
    run = Parallel(workers, backend="loky", return_as="generator")
    written = run(delayed(write_study)(images, seed, index, size) for index in range(studies))
    yield from progress(written, "phantoms", total=studies, unit="study")


def write_study(images: Path, seed: int, index: int, size: int) -> tuple[_Row, list[_Row], list[dict[str, Any]]]:
    """Draw and write the images of a study; return its rows of both tables and of the outlines."""
    rng = np.random.default_rng([seed, index])
    study, uid = sample_study(rng), FIRST_UID + index
    views = [("Frontal", "1001"), ("Lateral", "2001")][: 1 + study.lateral]
    names = [f"{uid}_IM-0001-{number}.dcm.png" for _, number in views]
    drawn = list(zip(names, draw(study, size)))
    _write_images(images, {name: image for name, (image, _) in drawn})
    regions = [_region(uid, name, *region) for name, (_, found) in drawn for region in found]
    mesh = ";".join(finding.detail for finding in study.findings) or "normal"
    problems = ";".join(finding.name for finding in study.findings) or "normal"
    texts = report(study, rng)
    about = (uid, mesh, problems, "Synthetic chest PA and lateral", *(texts[name] for name in SECTIONS))
    return about, [(uid, name, view) for name, (view, _) in zip(names, views)], regions


def _region(uid: int, name: str, finding: Finding, outline: Any) -> dict[str, Any]:
    about = {"study": str(uid), "finding": finding.name, "side": finding.side, "image": name}
    return {**about, "polygon": outline.clip(0, 1).round(3).tolist()}


def _write_images(folder: Path, views: dict[str, _Image]) -> None:
    cv2 = opencv()
    # Film grain hardly compresses: storing it takes a third more space and a sixth of the time.
    flags = [cv2.IMWRITE_PNG_COMPRESSION, 0]
    if hasattr(cv2, "IMWRITE_PNG_FILTER"):  # OpenCV 4.11; older ones try every filter
        flags += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
    for name, image in views.items():
        (folder / name).write_bytes(cv2.imencode(".png", image, flags)[1].tobytes())
