"""The lateral view, looking left: (p, v) go from 0 at sternum and apex to 1 at back and costophrenic angle."""

from functools import partial

import cv2
import numpy as np

from xray_captioning.phantom import canvas as shared
from xray_captioning.phantom import exposure
from xray_captioning.phantom.canvas import Canvas, Field, Layer, Points, Region, curve, shapes
from xray_captioning.phantom.studies import BILATERAL, Anatomy, Finding, PhantomStudy

_SHAPES = shapes("lateral")
_RIBS = [  # of both sides, from the spine down and forward; the lower ones end before the front
    curve([(0.98, v), (0.8, v + 0.03), (0.5, v + 0.12), (0.2, v + 0.24)][: 4 if v < 0.3 else 3])
    for v in np.linspace(0.0, 0.75, 9)
]
_BELLY = np.concatenate([_SHAPES["belly"], _SHAPES["below"]])
_ALONG = np.linspace(0.05, 1, 8)[:, None, None]
# Centres (17, 2) and outlines (17, 4, 2) of the vertebrae, tilted along the curve.
_LEVELS = np.linspace(-0.15, 1.4, 17)
_ACROSS, _DOWN = _SHAPES["spine"].T
_SPINE = np.stack([np.interp(_LEVELS, _DOWN, _ACROSS), _LEVELS], -1)
_BODIES = _SPINE[:, None] + _SHAPES["vertebra"]
_TILT = 0.05 * np.gradient(_SPINE[:, 0], _LEVELS)[:, None]
_BODIES[..., 1] -= _TILT * np.sign(_SHAPES["vertebra"][:, 0])


def draw_lateral(study: PhantomStudy, size: int) -> tuple[Layer, list[Region]]:
    """Draw the lateral view of a study, (size, size) pixels, and outline its findings."""
    body = study.shaped_anatomy()
    origin = (0.5 + body.shift[1] - 0.5 * body.depth, 0.16 + body.shift[0])
    canvas = Canvas("lateral", size, origin, (body.depth, body.height * 1.03), 0.8 * body.rotation)
    rng, density = study.stream("lateral"), _soft_tissue(canvas, study, body)
    density -= np.float32(0.85 * shared.by_disease(study, 1.0, 1.05 / 0.85)) * _air(canvas, study, body, rng)
    density += _bones(canvas, study)
    shared.add_hernia(canvas, study, density)
    shared.add_devices(canvas, study, density, partial(_device, canvas))
    return exposure.expose(canvas, study, density, rng), canvas.regions


def _soft_tissue(canvas: Canvas, study: PhantomStudy, body: Anatomy) -> Field:
    thick = 0.05 + 0.09 * body.build
    chest = 0.05 + thick + 0.07 * body.breasts
    front = [(0.2, -0.5), (0.22, -0.1), (-0.02 - thick, 0.25), (-0.05 - thick, 0.5)]
    front += [(-chest, 0.62), (-chest, 0.74), (-0.04 - thick, 0.92), (-0.05 - 1.3 * thick, 1.6)]
    rear = 1.05 + 0.5 * thick
    back = [(1.0, 1.6), (rear, 0.8), (rear + 0.04, 0.45), (1.0, 0.05), (0.95, -0.5)]
    tissue = canvas.fill(canvas.layer(), [np.concatenate([curve(front), curve(back)])])
    shade = canvas.fill(canvas.layer(), [_SHAPES["arms"], _BELLY], 45)
    layer = cv2.addWeighted(tissue, 0.56, cv2.bitwise_and(shade, tissue), 1, 0)
    return exposure.rounded(canvas, study, layer, 0.010) * np.float32(1.95 + 0.45 * body.build)


def _lungs(body: Anatomy, lift: float) -> Points:
    """Outline of one lung in profile; `lift` separates the two diaphragms."""
    rise = body.dome * 1.25
    front = curve([(0.55, 0.0), (0.34, 0.06), (0.15, 0.22), (0.05, 0.5), (0.05, 0.86 - 0.4 * rise)])
    dome = [(0.05, 0.86 - 0.4 * rise), (0.2, 0.90 - rise), (0.42, 0.92 - rise)]
    base = curve([*dome, (0.66, 0.97 - 0.75 * rise), (0.93, 1.0)])
    base[:, 1] -= lift * np.sin(np.pi * np.linspace(0, 1, len(base)))
    return np.concatenate([front, base, _SHAPES["back"]])


def _heart(body: Anatomy) -> Points:
    # Wider than the frontal ratio alone would make it: behind the sternum and before the spine.
    back, top = 0.30 + 0.62 * body.heart, 0.48 - 0.35 * max(0.0, body.heart - 0.48)
    shape = [(0.05, 0.68), (0.10, top + 0.10), (0.24, top + 0.02), (0.42, top - 0.03)]
    shape += [(back - 0.06, top + 0.10), (back, 0.72), (back - 0.04, 0.86)]
    return curve([*shape, (0.4, 0.94), (0.08, 0.9)], closed=True)


def _air(canvas: Canvas, study: PhantomStudy, body: Anatomy, rng: np.random.Generator) -> Field:
    """How much air the rays meet: 1 where both lungs are healthy, 0 outside or in fluid."""
    layer = canvas.fill(canvas.layer(), [_lungs(body, 0.0)], 130)
    canvas.mark(study.find("Emphysema"), layer)
    canvas.mark(study.find("Cardiomegaly"), canvas.fill(canvas.layer(), [_heart(body)]))
    canvas.fill(layer, [_lungs(body, 0.035)])  # the far lung lies within the near one
    layer = cv2.min(layer, canvas.fill(_vessels(canvas, study, rng), [_heart(body)], 70))
    layer = cv2.max(layer, canvas.stroke(canvas.layer(), [_SHAPES["trachea"]], (0.032, 130)))
    kinds = {"Pleural Effusion": _effusion, "Lung Lesion": _nodule, "Atelectasis": _atelectasis}
    return shared.let_through(canvas, study, exposure.rounded(canvas, study, layer, 0.0045), kinds)


def _effusion(canvas: Canvas, finding: Finding, sign: float, rng: np.random.Generator) -> Field:
    level = _SHAPES["fluid"][finding.size] + rng.uniform(-0.03, 0.03)
    surface = [(1.1, level - 0.05), (0.95, level + 0.05), (0.75, level + 0.1), (0, level + 0.14)]
    return np.float32(0.9 if finding.side == BILATERAL else 0.65) * shared.fluid(canvas, curve(surface), sign)


def _nodule(canvas: Canvas, finding: Finding, sign: float, rng: np.random.Generator) -> Field:
    centre, radius = shared.zone_point(canvas, finding, sign, rng), _SHAPES["nodule"][finding.size]
    return np.float32(0.75) * canvas.blur(canvas.fill(canvas.layer(), [canvas.ellipse(centre, radius)]), 0.008)


def _atelectasis(canvas: Canvas, finding: Finding, sign: float, rng: np.random.Generator) -> Field:
    v = rng.uniform(0.74, 0.78)
    band = curve([(0.45, v), (0.65, v + 0.02), (0.85, v + 0.08)])
    return np.float32(0.6) * canvas.blur(canvas.stroke(canvas.layer(), [band], (0.015, 255)), 0.004)


def _vessels(canvas: Canvas, study: PhantomStudy, rng: np.random.Generator) -> Layer:
    """Aorta, hilum and the vessels from it, dark on 255."""
    layer = canvas.layer(255)
    strength = (1 - 0.6 * study.scene.soft) * study.anatomy.texture * shared.by_disease(study, 1.5, 0.7)
    broad, large, small = (max(0, int(255 - strength * value)) for value in (60, 95, 100))
    angle = rng.uniform(0, 2 * np.pi, 18)
    heading = np.stack([np.cos(angle), np.sin(angle)], -1) * rng.uniform(0.12, 0.42, 18)[:, None]
    lines = (_SHAPES["root"] + _ALONG * (heading + rng.normal(0, 0.02, (8, 18, 2)).cumsum(0))).swapaxes(0, 1)
    canvas.stroke(layer, [_SHAPES["aorta"]], (0.045, broad))
    canvas.stroke(layer, lines[:, 3:], (0.005, small))
    canvas.stroke(layer, lines[:, :4], (0.009, large))
    return canvas.fill(layer, [canvas.ellipse(_SHAPES["root"], (0.035, 0.05))], large)


def _bones(canvas: Canvas, study: PhantomStudy) -> Field:
    layer = canvas.layer()
    canvas.stroke(layer, _RIBS, (0.020, 60), (0.010, 38))
    canvas.stroke(layer, [_SHAPES["sternum"]], (0.024, 105), (0.012, 70))
    canvas.fill(layer, _BODIES, 62)
    canvas.stroke(layer, _BODIES, (0.006, 105), closed=True)
    canvas.stroke(layer, _SPINE[:, None] + _SHAPES["process"], (0.012, 80))
    bones = canvas.blur(layer, 0.003) * np.float32(0.9 * (1 - study.scene.soft))
    shared.add_granuloma(canvas, study, bones)
    return bones


def _device(canvas: Canvas, device: Finding) -> Layer:
    layer = canvas.layer()
    if device.kind == "pacemaker":
        canvas.fill(layer, [canvas.ellipse((0.12, 0.10), (0.03, 0.055))])
    tube = _SHAPES["devices"].get(device.kind, _SHAPES["devices"]["line"])
    return canvas.stroke(layer, [curve(tube["line"])], (tube["width"], tube["value"]))
