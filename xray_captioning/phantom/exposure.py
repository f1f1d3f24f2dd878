"""How the images of hard phantoms are taken, and what lies in the way of their findings; easy ones are plain films."""

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np

from xray_captioning.phantom.canvas import Canvas, Field, Layer, curve, film, grain
from xray_captioning.phantom.studies import PhantomStudy, Scene

_TILE = 1024


def rounded(canvas: Canvas, study: PhantomStudy, layer: Layer, sigma: float) -> Field:
    """`Canvas.blur`, thinner towards the edges where a body is round."""
    field = canvas.blur(layer, sigma)
    if share := study.scene.round:
        field *= np.float32(1 - share) + np.float32(1.2 * share) * canvas.blur(layer, 0.07)
    return field


def expose(canvas: Canvas, study: PhantomStudy, density: Field, rng: np.random.Generator) -> Layer:
    """Return the image of a `density` (size, size), changed in place: a film, or what a detector and its software make
    of light that is scattered and noisy.
    """
    body, scene = study.anatomy, study.scene
    if not scene.difficulty:
        return film(density, body.gain, body.contrast, body.noise, rng)
    rng = study.stream(f"exposure {study.number}", canvas.view)
    across = np.linspace(-1, 1, canvas.size, dtype=np.float32)
    tilt = across * (body.turn if canvas.view == "frontal" else 0)
    density *= 1 + tilt + np.float32(0.2 * scene.round) * across[:, None]  # the belly is thicker than the neck
    density += np.float32(scene.clutter) * _clutter(canvas, rng) * np.minimum(4 * density, 1)
    density = 0.5 * (density + cv2.sqrt(density * density + np.float32(0.01 * scene.difficulty)))  # never below 0
    light = cv2.exp(density * np.float32(-body.gain))
    light += np.float32(scene.veil) * (_wide(light) - light)
    light += np.float32(scene.quantum) * cv2.sqrt(light) * grain(canvas.size, rng)
    grey = np.clip(1 - light, 0, 1)
    grey *= np.float32(1 - body.contrast) + np.float32(body.contrast) * grey
    grey = cv2.pow(grey, scene.gamma)
    image = cv2.addWeighted(grey, 250, grain(canvas.size, rng), body.noise, 0, dtype=cv2.CV_8U)
    return _collimated(image, scene)


def _wide(light: Field) -> Field:
    """What a wide blur leaves of light."""
    small = cv2.GaussianBlur(cv2.resize(light, (16, 16), interpolation=cv2.INTER_AREA), (5, 5), 0)
    return cv2.resize(small, light.shape, interpolation=cv2.INTER_CUBIC)


def _clutter(canvas: Canvas, rng: np.random.Generator) -> Field:
    """A window of `_anatomical_noise`, of the same coarseness at every size."""
    row, column = rng.integers(0, _TILE // 2, 2)
    window = _anatomical_noise()[row : row + _TILE // 2, column : column + _TILE // 2]
    return cv2.resize(window, (canvas.size, canvas.size), interpolation=cv2.INTER_AREA)


@lru_cache(1)
def _anatomical_noise() -> Field:
    """Noise with a power of 1 / f^3, as that of overlapping tissue (Burgess et al., Medical Physics 28, 2001)."""
    radius = np.hypot(np.fft.fftfreq(_TILE)[:, None], np.fft.rfftfreq(_TILE))
    white = np.fft.rfft2(np.random.default_rng(0).standard_normal((_TILE, _TILE)))
    field = np.fft.irfft2(white * np.where(radius < 4 / _TILE, 0, np.maximum(radius, 1 / _TILE) ** -1.5))
    return (field / field.std()).astype(np.float32)


def _collimated(image: Layer, scene: Scene) -> Layer:
    """Blacken what the collimator covers."""
    left, top, right, bottom = scene.borders
    corners = np.array([(left, top), (1 - right, top), (1 - right, 1 - bottom), (left, 1 - bottom)]) - 0.5
    angle = np.deg2rad(scene.skew)
    turned = corners @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) + 0.5
    pixels = [np.rint(turned * len(image) * 16).astype(np.int32)]
    return cv2.min(image, cv2.fillPoly(np.full_like(image, 12), pixels, 255, cv2.LINE_AA, 4))


# --- what looks like a finding, or covers one, and is none; as densities ---


def add_mimics(canvas: Canvas, study: PhantomStudy, density: Field) -> None:
    """Add all mimics of a study to its frontal view."""
    for name in study.scene.mimics:
        density += _MIMICS[name](canvas, study.stream(name))


def _nipples(canvas: Canvas, rng: np.random.Generator) -> Field:
    at = rng.uniform((0.50, 0.66), (0.62, 0.76)) * ((-1, 1), (1, 1)) + rng.normal(0, 0.02, (2, 2))
    layer = canvas.fill(canvas.layer(), canvas.ellipse(at, rng.uniform(0.016, 0.024)))
    return np.float32(rng.uniform(0.15, 0.35)) * canvas.blur(layer, 0.006)


def _skin_fold(canvas: Canvas, rng: np.random.Generator) -> Field:
    """Denser and denser towards a line beside the wall, beyond which there is none of it."""
    sign = rng.choice((-1, 1))
    line = curve([(0.62, 0.0), (rng.uniform(0.7, 0.8), 0.3), (rng.uniform(0.72, 0.84), 0.6), (0.7, 0.95)])
    within = canvas.fill(canvas.layer(), [np.concatenate([line, [(0.1, 0.95), (0.1, 0)]]) * (sign, 1)])
    fold = canvas.blur(canvas.stroke(canvas.layer(), [line * (sign, 1)], (0.05, 255)), 0.03)
    return np.float32(rng.uniform(0.25, 0.45)) * fold * canvas.blur(within, 0.002)


def _azygos_lobe(canvas: Canvas, rng: np.random.Generator) -> Field:
    """A fine line through the right upper lobe to a drop beside the trachea."""
    line = curve([(-0.62, 0.03), (rng.uniform(-0.58, -0.48), rng.uniform(0.12, 0.2)), (-0.2, 0.3)])
    layer = canvas.stroke(canvas.layer(), [line], (0.004, 170))
    canvas.fill(layer, [canvas.ellipse((-0.2, 0.3), (0.018, 0.026))], 200)
    return np.float32(0.4) * canvas.blur(layer, 0.002)


def _electrodes(canvas: Canvas, rng: np.random.Generator) -> Field:
    """Pads of an electrocardiogram, and their wires."""
    layer = canvas.layer()
    for start in rng.uniform((-0.8, 0.1), (0.8, 0.9), (3, 2)):
        wire = curve(np.linspace(start, (rng.uniform(-1, 1), 1.4), 4) + rng.normal(0, (0.15, 0.1), (4, 2)))
        canvas.stroke(layer, [wire], (0.004, 120))
        canvas.fill(layer, [canvas.ellipse(wire[0], 0.014)], 200)
    return np.float32(0.8) * canvas.blur(layer, 0.002)


def _clips(canvas: Canvas, rng: np.random.Generator) -> Field:
    """Clips of an operation, in the armpit or below the liver."""
    at = rng.uniform(*(((0.95, 0.3), (1.05, 0.45)) if rng.random() < 0.5 else ((-0.5, 1.1), (-0.35, 1.2))))
    ends = at + rng.normal(0, 0.05, (4, 1, 2)) + rng.normal(0, 0.018, (4, 2, 2))
    return np.float32(1.4) * canvas.blur(canvas.stroke(canvas.layer(), ends, (0.006, 220)), 0.002)


_MIMICS: dict[str, Callable[[Canvas, np.random.Generator], Field]] = {
    "nipples": _nipples,
    "skin fold": _skin_fold,
    "azygos lobe": _azygos_lobe,
    "electrodes": _electrodes,
    "clips": _clips,
}
