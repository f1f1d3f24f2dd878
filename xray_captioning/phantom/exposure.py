"""How the images of hard phantoms are taken, and what lies in the way of their findings; easy ones are plain films."""

from functools import lru_cache

import cv2
import numpy as np

from xray_captioning.phantom.canvas import Canvas, Field, Layer, curve, film, grain
from xray_captioning.phantom.studies import PhantomStudy, Scene

_TILE = 512


def rounded(canvas: Canvas, study: PhantomStudy, layer: Layer, sigma: float) -> Field:
    """`Canvas.blur`, thinner towards the edges where a body is round."""
    field = canvas.blur(layer, sigma)
    if share := study.scene.round:
        field *= np.float32(1 - share) + np.float32(1.2 * share) * canvas.blur(layer, 0.07)
    return field


def expose(canvas: Canvas, study: PhantomStudy, density: Field, rng: np.random.Generator) -> Layer:
    """Return the film of a `density` (size, size), changed in place, or what a detector makes of scattered light."""
    body, scene = study.anatomy, study.scene
    if not scene.difficulty:
        return film(density, body.gain, body.contrast, body.noise, rng)
    rng = study.stream(f"exposure {study.number}", canvas.view)
    across = np.linspace(-1, 1, canvas.size, dtype=np.float32)
    tilt = across * (body.turn if canvas.view == "frontal" else 0)
    density *= 1 + tilt + np.float32(0.2 * scene.round) * across[:, None]  # the belly is thicker than the neck
    row, column = rng.integers(0, _TILE // 2, 2)
    clutter = _anatomical_noise()[row : row + _TILE // 2, column : column + _TILE // 2]
    clutter = cv2.resize(clutter, density.shape, interpolation=cv2.INTER_LINEAR)
    density += np.float32(scene.clutter) * clutter * np.minimum(4 * density, 1)
    density = 0.5 * (density + cv2.sqrt(density * density + np.float32(0.01 * scene.difficulty)))  # never below 0
    light = cv2.exp(density * np.float32(-body.gain))
    wide = cv2.GaussianBlur(cv2.resize(light, (16, 16), interpolation=cv2.INTER_AREA), (5, 5), 0)
    light += np.float32(scene.veil) * (cv2.resize(wide, light.shape, interpolation=cv2.INTER_CUBIC) - light)
    light += np.float32(scene.quantum) * cv2.sqrt(light) * grain(canvas.size, rng)
    grey = np.clip(1 - light, 0, 1)
    grey *= np.float32(1 - body.contrast) + np.float32(body.contrast) * grey
    grey = cv2.pow(grey, scene.gamma)
    return _collimated(cv2.addWeighted(grey, 250, grain(canvas.size, rng), body.noise, 0, dtype=cv2.CV_8U), scene)


@lru_cache(1)
def _anatomical_noise() -> Field:
    """Noise with a power of 1 / f^3, as that of overlapping tissue (Burgess et al., Medical Physics 28, 2001)."""
    radius = np.hypot(np.fft.fftfreq(_TILE)[:, None], np.fft.rfftfreq(_TILE))
    white = np.fft.rfft2(np.random.default_rng(0).standard_normal((_TILE, _TILE)))
    field = np.fft.irfft2(white * np.where(radius < 4 / _TILE, 0, np.maximum(radius, 1 / _TILE) ** -1.5))
    return (field / field.std()).astype(np.float32)


def _collimated(image: Layer, scene: Scene) -> Layer:
    left, top, right, bottom = scene.borders
    corners = np.array([(left, top), (1 - right, top), (1 - right, 1 - bottom), (left, 1 - bottom)]) - 0.5
    angle = np.deg2rad(scene.skew)
    turned = corners @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) + 0.5
    pixels = [np.rint(turned * len(image) * 16).astype(np.int32)]
    return cv2.min(image, cv2.fillPoly(np.full_like(image, 5), pixels, 255, cv2.LINE_AA, 4))


def add_mimics(canvas: Canvas, study: PhantomStudy, density: Field) -> None:
    """Add to the frontal view lines and spots of ``shapes.toml`` that look like a finding, or cover one."""
    for name in study.scene.mimics:
        kind, rng = canvas.shapes["mimics"][name], study.stream(name)
        sign = rng.choice(kind["sides"])
        lines = [np.add(line, rng.normal(0, kind["jitter"], (len(line), 2))) * (sign, 1) for line in kind["lines"]]
        layer = canvas.fill(canvas.layer(), [canvas.ellipse(line[0], kind["spot"]) for line in lines])
        if kind["width"]:
            canvas.stroke(layer, [curve(line) for line in lines], (kind["width"], kind["value"]))
        shade = np.float32(rng.uniform(*kind["density"])) * canvas.blur(layer, kind["blur"])
        if inner := kind.get("inner"):  # a fold of skin: nothing of it beyond its edge
            within = np.concatenate([curve(lines[0]), np.multiply(inner, (sign, 1))])
            shade *= canvas.blur(canvas.fill(canvas.layer(), [within]), 0.002)
        density += shade
