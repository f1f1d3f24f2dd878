"""Drawing for phantoms: smooth curves, (n, 2) float64 in body coordinates, on antialiased uint8 layers; films' tone."""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from xray_captioning.files import read_toml
from xray_captioning.phantom.studies import LEFT, RIGHT, Finding, PhantomStudy, toward

Points = npt.NDArray[np.float64]
Shapes = Sequence[Points] | Points
Layer = npt.NDArray[np.uint8]
Point = tuple[float, float]
Field = npt.NDArray[np.float32]
Region = tuple[Finding, Points]  # an outline, in shares of the image's width and height
SIGN = {RIGHT: -1.0, LEFT: 1.0}
_SUBPIXEL = 4  # bits after the point in OpenCV's fixed-point coordinates
_ANGLE = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLE), np.sin(_ANGLE)], axis=-1)


class Canvas:
    """A square image of a view, 'frontal' or 'lateral', and the map from body coordinates onto it, in fractions of the
    image: `origin` is where (0, 0) lies before `rotation` (degrees, clockwise, about the middle), `scale` one unit
    along and down.
    """

    def __init__(self, view: str, size: int, origin: Point, scale: Point, rotation: float) -> None:
        self.view, self.size, self.scale, self.shapes = view, size, scale, shapes(view)
        self.regions: list[Region] = []
        angle = np.deg2rad(rotation)
        turn, unit = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]), size * 2**_SUBPIXEL
        self._linear = (unit * turn * np.array(scale)).T.copy()
        self._offset = unit * (turn @ (np.array(origin) - 0.5) + 0.5) - 2 ** (_SUBPIXEL - 1)

    def mark(self, finding: Finding | None, drawn: Layer | Field) -> None:
        """Keep the outlines of what was `drawn` for a finding, if there is one: of where it is a third of its most."""
        if finding is None or not finding.shown(self.view):
            return
        mask = cv2.dilate((drawn > 0.33 * drawn.max()).astype(np.uint8), None)  # outlines run through pixels' middles
        outlines = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
        areas = [cv2.contourArea(outline) for outline in outlines]
        for outline, area in zip(outlines, areas):
            if area > 0.1 * max(areas):  # smaller ones are crumbs
                polygon = cv2.approxPolyDP(outline, max(0.7, 0.004 * self.size), True)[:, 0]
                self.regions.append((finding, (polygon + 0.5) / self.size))

    def sides(self, finding: Finding) -> tuple[str, ...]:
        """The sides of the view that show a finding: a lateral one, and the midline, has one."""
        return (finding.sides if self.view == "frontal" else ()) or (LEFT,)

    def pixels(self, points: Points) -> npt.NDArray[np.int32]:
        """Body coordinates (..., 2) as OpenCV's fixed-point pixels."""
        scaled = points.reshape(-1, 2) @ self._linear
        scaled += self._offset
        return np.rint(scaled, out=scaled).astype(np.int32).reshape(points.shape)

    def layer(self, value: int = 0) -> Layer:
        """A new layer, everywhere of that value."""
        return np.full((self.size, self.size), value, np.uint8)

    def fill(self, layer: Layer, shapes: Shapes, value: int = 255) -> Layer:
        """Fill polygons and return the layer; only shapes in a list may overlap."""
        pixels = self._split_pixels(shapes)
        for group in [pixels] if isinstance(shapes, np.ndarray) else [[shape] for shape in pixels]:
            cv2.fillPoly(layer, group, value, cv2.LINE_AA, _SUBPIXEL)
        return layer

    def stroke(self, layer: Layer, lines: Shapes, *pens: tuple[float, int], closed: bool = False) -> Layer:
        """Draw lines with one pen (width as a fraction of the image, value) after the other."""
        pixels = self._split_pixels(lines)
        for width, value in pens:
            thickness = max(1, round(width * self.size))
            # Antialiasing of wide lines is slow, and a layer is blurred anyway.
            style = cv2.LINE_AA if thickness == 1 else cv2.LINE_8
            cv2.polylines(layer, pixels, closed, value, thickness, style, _SUBPIXEL)
        return layer

    def _split_pixels(self, shapes: Shapes) -> list[npt.NDArray[np.int32]]:
        """`pixels` of many shapes at once; `shapes` may be one array (shapes, points, 2)."""
        if isinstance(shapes, np.ndarray):
            return list(self.pixels(shapes))
        pixels = self.pixels(np.concatenate(shapes))
        return [pixels[start:end] for start, end in pairwise(accumulate(map(len, shapes), initial=0))]

    def ellipse(self, centre: npt.ArrayLike, radii: npt.ArrayLike) -> Points:
        """Outline of an ellipse, or one for each centre (n, 2); radii in fractions of the image."""
        return np.asarray(centre)[..., None, :] + _CIRCLE * np.divide(radii, self.scale)

    def blur(self, layer: Layer, sigma: float) -> Field:
        """The layer blurred by about `sigma` (a fraction of the image), float32 in [0, 1]."""
        pixels = sigma * self.size
        kernel = (3, 3) if pixels < 0.9 else (5, 5)  # binomial: by far the fastest in OpenCV
        shrink = 2 ** min(4, max(0, round(math.log2(pixels))))
        if shrink > 1:  # much faster, and looks the same
            layer = cv2.resize(layer, (max(4, self.size // shrink),) * 2, interpolation=cv2.INTER_AREA)
        smooth = cv2.GaussianBlur(layer, kernel, 0)
        if shrink > 1:
            smooth = cv2.resize(smooth, (self.size, self.size), interpolation=cv2.INTER_LINEAR)
        return np.multiply(smooth, np.float32(1 / 255), dtype=np.float32)


def curve(points: Sequence[Sequence[float]] | Points, closed: bool = False) -> Points:
    """Smooth Catmull-Rom curve through the points (n, 2)."""
    knots = np.asarray(points, np.float64)
    return _spline_basis(len(knots), closed) @ knots


def film(density: Field, gain: float, contrast: float, noise: float, rng: np.random.Generator) -> Layer:
    """Return the film of a `density` (size, size), changed in place; `noise` is its grain in grey levels."""
    density *= np.float32(-gain)
    grey = cv2.exp(density)
    np.subtract(1, grey, out=grey)
    grey *= np.float32(1 - contrast) + np.float32(contrast) * grey
    return cv2.addWeighted(grey, 250, grain(len(grey), rng), noise, 0, dtype=cv2.CV_8U)


def grain(size: int, rng: np.random.Generator) -> Field:
    """Fine noise (size, size) around 0 with a standard deviation near 1, alike in neighbouring pixels."""
    tile = _grain()
    side = min(size, len(tile) // 2)
    row, column = rng.integers(0, len(tile) - side, 2)
    part = tile[row : row + side, column : column + side]
    return part if side == size else cv2.resize(part, (size, size), interpolation=cv2.INTER_NEAREST)


def mottle(size: int, rng: np.random.Generator) -> Field:
    """Smooth irregular field around 0 with a standard deviation near 1."""
    return cv2.resize(grain(max(8, size // 14), rng), (size, size), interpolation=cv2.INTER_CUBIC)


@lru_cache(1)
def _grain() -> Field:
    # Drawn once: a fresh field of noise would take a quarter of the time of an image.
    smooth = cv2.GaussianBlur(np.random.default_rng(0).standard_normal((1024, 1024), np.float32), (0, 0), 0.6)
    return smooth / smooth.std()


@lru_cache(64)
def _spline_basis(knots: int, closed: bool) -> npt.NDArray[np.float64]:
    """Matrix (samples, knots) that evaluates a Catmull-Rom curve."""
    steps = 5  # samples from a knot to the next
    t = np.arange(steps)[:, None] / steps
    cubic = np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]]) / 2
    weights = np.concatenate([t**0, t, t**2, t**3], axis=1) @ cubic
    segments = knots if closed else knots - 1
    basis = np.zeros((segments * steps + (not closed), knots))
    for segment, tap in np.ndindex(segments, 4):
        knot = segment + tap - 1
        knot = knot % knots if closed else min(max(knot, 0), knots - 1)
        basis[segment * steps : (segment + 1) * steps, knot] += weights[:, tap]
    if not closed:
        basis[-1, -1] = 1
    return basis


# --- shadows that both views draw alike; numbers are in ``shapes.toml`` ---


@lru_cache(2)
def shapes(view: str) -> dict[str, Any]:
    """What is the same in every phantom: lines and outlines (n, 2), and tables, by name."""
    tables = read_toml(__file__, "shapes.toml")[view]
    lines = {name: np.array(points, float) for name, points in tables.pop("points").items()}
    lines |= {name: curve(points) for name, points in tables.pop("curves").items()}
    closed = tables.pop("closed", {})
    return {**tables, **lines, **{name: curve(closed[name], closed=True) for name in closed}}


def zone_point(canvas: Canvas, finding: Finding, sign: float, rng: np.random.Generator) -> Point:
    """A point in the zone of a finding, on the side of that sign."""
    across, down = (canvas.shapes[name][finding.place] for name in ("across", "down"))
    return sign * rng.uniform(*across), rng.uniform(*down)


def fluid(canvas: Canvas, surface: Points, sign: float) -> Field:
    """Fluid below a surface (n, 2), on the side of that sign."""
    outline = np.concatenate([surface, [(0, 1.5), (1.2, 1.5)]]) * (sign, 1)
    return canvas.blur(canvas.fill(canvas.layer(), [outline]), 0.008)


def consolidation(canvas: Canvas, finding: Finding, sign: float, rng: np.random.Generator) -> Field:
    """Six ellipses that overlap around a point, mottled."""
    kind, layer = canvas.shapes["consolidation"], canvas.layer()
    u, v = zone_point(canvas, finding, sign, rng)
    for across, down in rng.normal(0, kind["spread"], (6, 2)):
        radii = (rng.uniform(0.05, 0.085), rng.uniform(0.045, 0.075))
        canvas.fill(layer, [canvas.ellipse((u + across, v + down), radii)])
    uneven = kind["strength"] + kind["ripple"] * mottle(canvas.size, rng)
    return np.clip(canvas.blur(layer, 0.02) * uneven, 0, kind["most"])


def edema(canvas: Canvas, finding: Finding, sign: float, rng: np.random.Generator) -> Field:
    """Haze around the hila, mottled."""
    kind = canvas.shapes["edema"]
    wings = [canvas.ellipse(centre, kind["radii"]) for centre in kind["wings"]]
    haze = canvas.blur(canvas.fill(canvas.layer(), wings), 0.05)
    return np.clip(haze * (kind[finding.size] + kind["ripple"] * mottle(canvas.size, rng)), 0, 0.95)


_BOTH = {"Consolidation": consolidation, "Edema": edema}


def let_through(canvas: Canvas, study: PhantomStudy, air: Field, kinds: dict[str, Any]) -> Field:
    """Leave of `air` what the opacities of a study's findings let through; `kinds` draw them."""
    healthy, streams = air.copy(), dict[str, np.random.Generator]()
    for finding in study.findings:
        if opacity := {**kinds, **_BOTH}.get(finding.name):
            rng = streams.setdefault(finding.name, study.stream(finding.name, canvas.view))
            for side in canvas.sides(finding):
                opaque = np.float32(finding.shown(canvas.view)) * opacity(canvas, finding, SIGN[side], rng)
                canvas.mark(finding, opaque * (healthy > 0.2))
                air *= 1 - opaque
    return air


def add_granuloma(canvas: Canvas, study: PhantomStudy, bones: Field) -> None:
    """Add small spots of lime with sharp edges."""
    rng, kind = study.stream("Granuloma", canvas.view), canvas.shapes["granuloma"]
    for spot in study.each("Granuloma"):
        sign = SIGN[canvas.sides(spot)[0]]
        outline = canvas.ellipse(zone_point(canvas, spot, sign, rng), rng.uniform(*kind["radius"]))
        layer = canvas.fill(canvas.layer(), [outline])
        canvas.mark(spot, layer)
        bones += np.float32(kind["density"] * spot.shown(canvas.view)) * canvas.blur(layer, 0.0025)


def add_hernia(canvas: Canvas, study: PhantomStudy, density: Field) -> None:
    """Add a stomach in the chest: a wall, fluid, and air above a level."""
    if (hernia := study.find("Hiatal Hernia")) is None:
        return
    rng, kind = study.stream("Hiatal Hernia", canvas.view), canvas.shapes["hernia"]
    centre, radius = (rng.uniform(*kind["across"]), kind["down"]), rng.uniform(*kind[hernia.size])
    sac = canvas.ellipse(centre, radius)
    gas = sac.copy()
    gas[:, 1] = np.minimum(gas[:, 1], centre[1] + 0.1 * radius)
    layer = canvas.fill(canvas.layer(), [sac], 150)
    canvas.stroke(layer, [sac], (0.009, 210), closed=True)
    canvas.mark(hernia, layer)
    shown, edge = hernia.shown(canvas.view), 0.004 + 0.006 * study.scene.round
    density += np.float32(0.5 * shown) * canvas.blur(layer, edge)
    density *= 1 - np.float32(0.55 * shown) * canvas.blur(canvas.fill(canvas.layer(), [gas]), edge)


def add_devices(canvas: Canvas, study: PhantomStudy, density: Field, draw: Callable[[Finding], Layer]) -> None:
    """Add the devices of a study, which `draw` puts on a layer each."""
    for device in study.each("Support Devices"):
        layer = draw(device)
        canvas.mark(device, layer)
        density += np.float32(1.6 * device.strength) * canvas.blur(layer, 0.002)


def by_disease(study: PhantomStudy, edema: float, emphysema: float) -> float:
    """Return the first number for a study with edema, the second with emphysema, or else 1."""
    for name, factor in (("Edema", edema), ("Emphysema", emphysema)):
        if finding := study.find(name):
            return toward(1, factor, finding.strength)
    return 1.0
