"""The frontal (posteroanterior) view of a phantom, facing the reader: the patient's right is at negative u, on the
left. Body coordinates (u, v): u runs from -1 to 1 across the inside of the chest, v from 0 at the apex of the lungs to
1 at the costophrenic angles.
"""

from itertools import product

import cv2
import numpy as np

from xray_captioning.phantom import canvas as shared
from xray_captioning.phantom import exposure
from xray_captioning.phantom.canvas import SIGN, Canvas, Field, Layer, Points, Region, curve, shapes
from xray_captioning.phantom.studies import LEFT, Anatomy, Finding, PhantomStudy, toward

_SHAPES = shapes("frontal")
_WALL = _SHAPES["wall"]
_BELLY = np.concatenate([_SHAPES["belly"], _SHAPES["below"]])
_LEVELS = np.linspace(-0.36, 1.4, 23)  # heights of the vertebrae
_BOTH_SIDES = np.array([(1, 1), (-1, 1)])[:, None]
_FAN = np.linspace(-1.3, 1.45, 13)  # directions in which vessels leave a hilum
_ALONG = np.linspace(0, 1, 9)[:, None, None]


def draw_frontal(study: PhantomStudy, size: int) -> tuple[Layer, list[Region]]:
    """Draw the frontal view of a study, (size, size) pixels, and outline its findings."""
    body = study.shaped_anatomy()
    origin = (0.5 + body.shift[0], 0.13 + body.shift[1])
    canvas = Canvas("frontal", size, origin, (body.half_width, body.height), body.rotation)
    rng = study.stream("frontal")
    density = _soft_tissue(canvas, study, body, rng)
    density -= np.float32(0.90 * shared.by_disease(study, 1.0, 1.10 / 0.90)) * _air(canvas, study, body, rng)
    density += _bones(canvas, study, body)
    shared.add_hernia(canvas, study, density)
    rng_of_devices = study.stream("Support Devices")
    shared.add_devices(canvas, study, density, lambda device: _device(canvas, device, body, rng_of_devices))
    exposure.add_mimics(canvas, study, density)
    return _side_marker(exposure.expose(canvas, study, density, rng), rng, study.scene.portable), canvas.regions


def lung(side: str, body: Anatomy) -> Points:
    """Outline (n, 2) of one lung, with its sharp costophrenic angle."""
    base = curve([(1, 1), (0.8, 1 - 0.75 * body.dome), (0.5, 1 - body.dome), (0.13, 0.95)])
    outline = np.concatenate([curve(_WALL), base, _SHAPES["hilum"]])
    if side == LEFT:  # the liver lifts the right diaphragm; the left one is a little lower
        outline[:, 1] += 0.025 * np.clip(outline[:, 1] - 0.5, 0, None)
    return outline * (SIGN[side], 1)


def spine_shift(v: Points, body: Anatomy) -> Points:
    """How far (u) a bent spine lies from the midline at the heights `v`; behind, a turned one goes to the right."""
    return body.bend * np.sin(np.pi * np.clip((v + 0.05) / 1.1, 0, 1)) - 0.3 * body.turn


def _soft_tissue(canvas: Canvas, study: PhantomStudy, body: Anatomy, rng: np.random.Generator) -> Field:
    """Body, breasts, belly and the bubble of the stomach under the left diaphragm."""
    thick = 1.08 + 0.24 * body.build
    half = [(0.3, -0.6), (0.32, -0.2), (0.7, -0.1), (1.25, -0.05), (thick + 0.38, 0.12)]
    half += [(thick + 0.36, 0.3), (thick + 0.16, 0.48), (thick + 0.03, 0.62)]
    edge = curve([*half, (thick + 0.05, 1.0), (thick + 0.1, 1.7)])
    tissue = canvas.fill(canvas.layer(), [np.concatenate([edge, edge[::-1] * (-1, 1)])])
    shade = canvas.fill(canvas.layer(), [_BELLY], 52)
    chest = rng.uniform((0.58, 0.68), (0.66, 0.78), (2, 2)) * ((-1, 1), (1, 1))
    if body.breasts:
        breasts = canvas.ellipse(chest, (0.15 + 0.03 * body.build, 0.13))
        shade = cv2.add(shade, canvas.fill(canvas.layer(), breasts, int(22 * body.breasts)))
    layer = cv2.addWeighted(tissue, 0.56, cv2.bitwise_and(shade, tissue), 1, 0)
    bubble = rng.uniform((0.42, 1.05), (0.58, 1.09))
    radii = rng.uniform(0.6 * 0.06, 0.06), rng.uniform(0.02, 0.55 * 0.06)
    layer = cv2.subtract(layer, canvas.fill(canvas.layer(), [canvas.ellipse(bubble, radii)], 85))
    return exposure.rounded(canvas, study, layer, 0.010) * np.float32(1.70 + 0.45 * body.build)


def _heart(body: Anatomy) -> Points:
    large = np.clip((body.heart - 0.45) / 0.25, 0, 1)  # a large heart grows to both sides
    right = body.heart * (0.58 + 0.16 * large)
    left = 2 * body.heart - right
    shape = [(-0.12, 0.38), (-0.85 * right, 0.57), (-right, 0.74), (-0.85 * right, 0.93)]
    shape += [(0.0, 1.02), (0.7 * left, 1.0), (0.97 * left, 0.90), (0.96 * left, 0.79)]
    shape += [(0.78 * left, 0.63), (0.5 * left, 0.51), (0.2, 0.40)]
    return curve(shape, closed=True) * (1 + body.swell, 1) + (body.turn, 0)


def _air(canvas: Canvas, study: PhantomStudy, body: Anatomy, rng: np.random.Generator) -> Field:
    """How much air the rays meet: near 1 in a healthy lung, 0 outside or in fluid."""
    lungs = {side: lung(side, body) for side in SIGN}
    layer = canvas.fill(canvas.layer(), list(lungs.values()), 228)
    solid = [_bent(_SHAPES["mediastinum"], body), _heart(body)]
    canvas.mark(study.find("Cardiomegaly"), canvas.fill(canvas.layer(), solid[1:]))
    canvas.mark(study.find("Emphysema"), canvas.fill(layer.copy(), solid, 0))
    vessels = _vessels(canvas, study, rng)
    if leak := study.find("Pneumothorax"):
        root = np.array([SIGN[leak.side] * 0.2, 0.8])
        shown = leak.strength  # air outside the lung is darkest
        collapsed = root + (lungs[leak.side] - root) * _SHAPES["collapse"][leak.size]
        free = canvas.fill(canvas.layer(), [lungs[leak.side]], int(toward(228, 255, shown)))
        canvas.fill(free, [collapsed], 0)
        canvas.fill(layer, [collapsed], int(toward(228, 195, shown)))
        layer, vessels = cv2.max(layer, free), cv2.max(vessels, free)
        canvas.stroke(layer, [collapsed], (0.008, int(toward(195, 70, shown))), closed=True)
        canvas.mark(leak, canvas.fill(free, solid, 0))
    layer = cv2.min(layer, vessels)
    canvas.fill(layer, solid, 0)
    canvas.stroke(layer, [_bent(_SHAPES[f"{side}_bronchus"], body) for side in SIGN], (0.016, 60))
    canvas.stroke(layer, [_bent(_SHAPES["trachea"], body)], (0.032, 130))
    kinds = {"Pleural Effusion": _effusion, "Lung Lesion": _nodule, "Atelectasis": _atelectasis}
    return shared.let_through(canvas, study, exposure.rounded(canvas, study, layer, 0.0045), kinds)


def _bent(line: Points, body: Anatomy) -> Points:
    """A line (n, 2) that follows the spine half the way, and the heart where the patient is turned."""
    return line + np.stack([0.5 * spine_shift(line[:, 1], body) + 0.7 * body.turn, np.zeros(len(line))], -1)


def _effusion(canvas: Canvas, finding: Finding, sign: float, rng: np.random.Generator) -> Field:
    at_wall, at_heart = np.array(_SHAPES["fluid"][finding.size]) + rng.uniform(-0.03, 0.03)
    surface = curve([(1.1, at_wall - 0.03), (0.9, at_wall + 0.06), (0.6, at_heart), (0, at_heart)])
    return np.float32(0.96) * shared.fluid(canvas, surface, sign)


def _nodule(canvas: Canvas, finding: Finding, sign: float, rng: np.random.Generator) -> Field:
    radius = rng.uniform(0.036, 0.044) if finding.size == "small" else rng.uniform(0.062, 0.078)
    shape = canvas.ellipse(shared.zone_point(canvas, finding, sign, rng), radius)
    shape += rng.normal(0, 0.04 * radius, shape.shape)
    return np.float32(rng.uniform(0.85, 1.0)) * canvas.blur(canvas.fill(canvas.layer(), [shape]), 0.008)


def _atelectasis(canvas: Canvas, finding: Finding, sign: float, rng: np.random.Generator) -> Field:
    layer, top = canvas.layer(), rng.uniform(0.76, 0.80)
    for row in range(2):
        inner, outer = rng.uniform(0.38, 0.46), rng.uniform(0.86, 0.93)
        v = top + 0.055 * row + rng.uniform(-0.008, 0.008)
        band = curve([(inner, v + 0.015), (0.65, v - 0.01), (outer, v + rng.uniform(-0.01, 0.03))])
        canvas.stroke(layer, [band * (sign, 1)], (0.016, 255))
    return np.float32(rng.uniform(0.65, 0.85)) * canvas.blur(layer, 0.004)


def _vessels(canvas: Canvas, study: PhantomStudy, rng: np.random.Generator) -> Layer:
    """Markings that branch from both hila, and septal lines, dark on 255."""
    layer = canvas.layer(255)
    strength = (1 - 0.6 * study.scene.soft) * study.anatomy.texture * shared.by_disease(study, 1.6, 0.6)
    large, small = (max(0, int(228 - strength * value)) for value in (110, 115))
    for sign in SIGN.values():
        root, angle = np.array((sign * 0.24, 0.46)), _FAN + rng.uniform(-0.15, 0.15, 13)
        heading = np.stack([sign * np.cos(angle), 0.72 * np.sin(angle)], -1) * rng.uniform(0.3, 0.75, 13)[:, None]
        lines = (root + _ALONG * (heading + rng.normal(0, 0.035, (9, 13, 2)).cumsum(0))).swapaxes(0, 1)
        canvas.stroke(layer, lines[:, 3:], (0.004, small))
        canvas.stroke(layer, lines[:, :4], (0.008, large))
        canvas.fill(layer, [canvas.ellipse(root, (0.024, 0.05))], large)
    rng = study.stream("septal lines")
    for edema, sign in product(study.each("Edema"), SIGN.values()):
        heights = np.linspace(0.62, 0.86, 7) + rng.uniform(-0.01, 0.01, 7)
        lines = [np.array([(sign * 0.82, v), (sign * 0.97, v - 0.005)]) for v in heights]
        canvas.stroke(layer, lines, (0.004, int(toward(228, 110, edema.strength))))
    return layer


def _ribs(body: Anatomy) -> dict[str, Points]:
    """Ten ribs on each side, (10, samples, 2), from the spine round the wall to the front."""
    flat = 0.7 if body.dome < 0.06 else 1.0  # hyperinflation lifts the ribs
    start, drop = np.linspace(-0.02, 0.86, 10)[:, None], flat * np.linspace(0.06, 0.17, 10)[:, None]
    angle = np.linspace(0.06, 0.80, 16)[None] * np.pi
    v = start - 0.03 * np.sin(2 * angle) + drop * (1 - np.cos(angle))
    reach = np.interp(start + drop, _WALL[:, 1], _WALL[:, 0]) + 0.02
    u, bend = 0.06 + (reach - 0.06) * np.sin(angle), spine_shift(v, body) * np.cos(np.minimum(angle, np.pi / 2))
    return {side: np.stack([sign * u + bend, v], -1) for side, sign in SIGN.items()}


def _bones(canvas: Canvas, study: PhantomStudy, body: Anatomy) -> Field:
    layer, ends = canvas.layer(), canvas.layer()
    back, front = [], []
    for side, ribs in _ribs(body).items():
        halves = list(ribs[:, :10]), list(ribs[:, 9:])
        if (fracture := study.find("Fracture")) and fracture.side == side:
            _break(canvas, ends, *halves, study.stream("Fracture"), fracture.strength)
        back += halves[0]
        front += halves[1]
    canvas.stroke(layer, front, (0.026, 40))
    canvas.stroke(layer, back, (0.026, 92), (0.013, 57))
    # Clavicles, shoulder blades and the heads of the arms.
    canvas.stroke(layer, _SHAPES["clavicle"] * _BOTH_SIDES + (body.turn, 0), (0.024, 105), (0.012, 75))
    canvas.stroke(layer, _SHAPES["blade"] * _BOTH_SIDES, (0.008, 50))
    canvas.fill(layer, canvas.ellipse(_SHAPES["arms"], 0.06), 100)
    canvas.mark(study.find("Scoliosis"), canvas.stroke(canvas.layer(), [_vertebrae(canvas, layer, body)], (0.09, 255)))
    bones = canvas.blur(layer, 0.003) * np.float32(0.85 * (1 - study.scene.soft))
    if fracture := study.find("Fracture"):
        bones += np.float32(0.7 * fracture.strength * (1 - 0.8 * study.scene.soft)) * canvas.blur(ends, 0.003)
        canvas.mark(fracture, ends)
    shared.add_granuloma(canvas, study, bones)
    return bones


def _break(
    canvas: Canvas, ends: Layer, back: list[Points], front: list[Points], rng: np.random.Generator, strength: float
) -> None:
    """Break three neighbouring ribs in place: the outer parts sink, and both ends are bright."""
    first = int(rng.integers(3, 6))
    for index in range(first, first + 3):
        cut = int(rng.integers(4, 6))
        step = (0.0, strength * rng.uniform(0.038, 0.048))
        inner, outer = back[index][: cut + 1], back[index][cut:] + step
        back[index] = inner
        back.append(outer)
        front[index] = front[index] + step
        canvas.stroke(ends, [inner[-2:], outer[:2]], (0.030, 190))


def _vertebrae(canvas: Canvas, layer: Layer, body: Anatomy) -> Points:
    """Draw them; return the line of their middles along the chest."""
    middle = np.stack([spine_shift(_LEVELS, body), _LEVELS], -1)
    canvas.stroke(layer, [middle], (0.075, 45))
    canvas.fill(layer, middle[:, None] + _SHAPES["vertebra"], 75)
    canvas.fill(layer, canvas.ellipse(middle, (0.006, 0.010)), 120)
    return middle[4:19]


def _device(canvas: Canvas, device: Finding, body: Anatomy, rng: np.random.Generator) -> Layer:
    layer, sign = canvas.layer(), SIGN[device.side or LEFT]
    if tube := _SHAPES["devices"].get(device.kind):
        line = _bent(curve(tube["line"]) * (sign, 1) + rng.normal(0, 0.01, 2), body)
        return canvas.stroke(layer, [line], (tube["width"], tube["value"]), (0.004, 230))
    if device.kind == "pacemaker":
        u, v = sign * rng.uniform(0.62, 0.72), rng.uniform(0.13, 0.19)
        canvas.fill(layer, [canvas.ellipse((u, v), (0.058, 0.048))])
        entry = [(u - sign * 0.1, v - 0.05), (sign * 0.35, 0.05), (sign * 0.1, 0.13), (-0.13, 0.28)]
        atrium, ventricle = [*entry, (-0.17, 0.6), (-0.08, 0.7)], [*entry, (-0.13, 0.65), (0.0, 0.86), (0.3, 0.88)]
        return canvas.stroke(layer, [curve(atrium), curve(ventricle)], (0.007, 220))
    tip, path = rng.uniform(0.38, 0.48), [(0.95, 0.16), (0.7, 0.07), (0.4, 0.04), (0.15, 0.12)]
    vein = [(sign * u, v) for u, v in path] + [(-0.14, 0.24), (-0.15, tip)]
    return canvas.stroke(layer, [curve(vein)], (0.009, 220))


def _side_marker(image: Layer, rng: np.random.Generator, portable: bool) -> Layer:
    """The letter L beside the patient's left shoulder, as radiographers place it, and how a portable film was taken."""
    size = len(image)
    row, column = rng.uniform((0.05, 0.88), (0.12, 0.93)) * size
    font, line = cv2.FONT_HERSHEY_SIMPLEX, max(1, size // 150)
    for number, text in enumerate(("L", "AP")[: 1 + portable]):
        place = (int(column), int(row + 0.05 * size * (1 + number)))
        cv2.putText(image, text, place, font, size / 450, 235, line, cv2.LINE_AA)
    return image
