"""Shadows that both views of a phantom draw alike, as float32 layers in [0, 1]."""

from typing import Any

import numpy as np

from xray_captioning.phantom.canvas import Canvas, Field, Points, curve, mottle
from xray_captioning.phantom.study import PhantomStudy, read_tables

Point = tuple[float, float]


def shapes(view: str) -> dict[str, Any]:
    """What is the same in every phantom: lines and outlines (n, 2), and tables, by name."""
    tables = read_tables("shapes.toml")[view]
    lines = {name: np.array(points, float) for name, points in tables.pop("points").items()}
    lines |= {name: curve(points) for name, points in tables.pop("curves").items()}
    closed = tables.pop("closed", {})
    return {**tables, **lines, **{name: curve(closed[name], closed=True) for name in closed}}


def fluid(canvas: Canvas, surface: Points, sign: float = 1.0) -> Field:
    """Fluid below a surface (n, 2), on the side of that sign."""
    outline = np.concatenate([surface, [(0, 1.5), (1.2, 1.5)]]) * (sign, 1)
    return canvas.blur(canvas.fill(canvas.layer(), [outline]), 0.008)


def cloud(canvas: Canvas, centre: Point, spread: Point, rng: np.random.Generator) -> Field:
    """Six ellipses that overlap around a centre."""
    layer = canvas.layer()
    for across, down in rng.normal(0, spread, (6, 2)):
        radii = (rng.uniform(0.05, 0.085), rng.uniform(0.045, 0.075))
        canvas.fill(layer, [canvas.ellipse((centre[0] + across, centre[1] + down), radii)])
    return canvas.blur(layer, 0.02)


def mottled(
    shade: Field, strength: float, ripple: float, most: float, rng: np.random.Generator
) -> Field:
    """Make a shade uneven: about `strength` of it, and nowhere above `most`."""
    return np.clip(shade * (strength + ripple * mottle(len(shade), rng)), 0, most)


def calcification(canvas: Canvas, centre: Point, radius: float) -> Field:
    """A small spot with a sharp edge."""
    spot = canvas.ellipse(centre, radius)
    return canvas.blur(canvas.fill(canvas.layer(), [spot]), 0.0025)


def add_hernia(canvas: Canvas, density: Field, centre: Point, radius: float) -> None:
    """Add a stomach in the chest to `density`: a wall, fluid, and air above a level."""
    sac = canvas.ellipse(centre, radius)
    gas = sac.copy()
    gas[:, 1] = np.minimum(gas[:, 1], centre[1] + 0.1 * radius)
    layer = canvas.fill(canvas.layer(), [sac], 150)
    canvas.stroke(layer, [sac], (0.009, 210), closed=True)
    density += np.float32(0.5) * canvas.blur(layer, 0.004)
    density *= 1 - np.float32(0.55) * canvas.blur(canvas.fill(canvas.layer(), [gas]), 0.004)


def by_disease(study: PhantomStudy, edema: float, emphysema: float) -> float:
    """Return the first number for a study with edema, the second with emphysema, or else 1."""
    return edema if study.find("Edema") else emphysema if study.find("Emphysema") else 1.0
