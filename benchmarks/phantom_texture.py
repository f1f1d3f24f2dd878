"""How near the texture of easy and hard phantoms comes to that of real radiographs: a table and a picture.

    python benchmarks/phantom_texture.py --images nih14/images --out docs/phantom_texture.png

Compared are frontal images at one size: the mean of the logarithms of their power spectra, averaged over all
directions (each image less its mean, under a Hann window), and the histogram of their grey levels. A distance
between spectra is the root mean square of the difference of these logarithms over the frequencies, one between
histograms the earth mover's. The row "real, other half" says how far two halves of the real images are apart.
The images are only read; nothing is kept of them but these two curves.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from xray_captioning.data.images import read_image
from xray_captioning.data.opening import IMAGE_SUFFIXES
from xray_captioning.evaluation.table import format_markdown
from xray_captioning.phantom.dataset import render
from xray_captioning.phantom.hard import study_at

SEED = 1
Array = Any


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="folder of real frontal radiographs")
    parser.add_argument("--out", type=Path, required=True, help="picture to write")
    parser.add_argument("--studies", type=int, default=500, help="phantoms, and at most as many real images twice")
    parser.add_argument("--size", type=int, default=224, help="pixels")
    parser.add_argument("--difficulties", type=float, nargs="+", default=[0.0, 0.5, 1.0])
    given = parser.parse_args()
    paths = sorted(path for path in given.images.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    real = list(map(np.array, zip(*(texture(image) for image in real_images(paths[: 2 * given.studies], given.size)))))
    halves = [[rows[start::2].mean(0) for rows in real] for start in (0, 1)]
    curves = {"real": [rows.mean(0) for rows in real]}
    for difficulty in given.difficulties:
        drawn = map(texture, phantoms(given.studies, given.size, difficulty))
        curves[f"difficulty {difficulty:g}"] = [np.mean(rows, 0) for rows in zip(*drawn)]
    compared = {name: (curve, curves["real"]) for name, curve in curves.items() if name != "real"}
    rows = [[name, *distances(*pair)] for name, pair in {**compared, "real, other half": halves}.items()]
    print(format_markdown([dict(zip(("images", "spectra (decades)", "grey levels"), row)) for row in rows]))
    draw_curves(curves, given.out)


def real_images(paths: Iterable[Path], size: int) -> Iterator[Array]:
    """Yield grey images (size, size) in [0, 1]."""
    return (read_image(path, size)[..., 0] for path in paths)


def phantoms(studies: int, size: int, difficulty: float) -> Iterator[Array]:
    """Yield the frontal views of studies of that difficulty."""
    return (render(study_at(SEED, index, difficulty)[0], size)[0] / 255 for index in range(studies))


def texture(image: Array) -> tuple[Array, Array]:
    """Return the logarithm of an image's radial power spectrum, from 1 cycle on, and its grey histogram."""
    size = len(image)
    window = np.hanning(size)[:, None] * np.hanning(size)
    power = np.abs(np.fft.rfft2((image - image.mean()) * window)) ** 2
    radius = np.hypot(np.fft.fftfreq(size, 1 / size)[:, None], np.arange(size // 2 + 1)).round().astype(int)
    total, count = (np.bincount(radius.ravel(), of)[1 : size // 2] for of in (power.ravel(), None))
    grey, _ = np.histogram(image, 64, (0, 1), density=True)
    return np.log10(total / count + 1e-9), grey / 64


def distances(one: Any, other: Any) -> tuple[float, float]:
    """Return how far two spectra, and two histograms, are apart."""
    spectra = float(np.sqrt(np.mean((one[0] - other[0]) ** 2)))
    return spectra, float(np.abs(np.cumsum(one[1] - other[1])).sum() / 64)


def draw_curves(curves: dict[str, Any], path: Path) -> None:
    """Draw spectra and histograms of all."""
    from matplotlib.figure import Figure

    figure = Figure((9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, (spectrum, grey) in curves.items():
        style = {"color": "black", "linewidth": 2} if name == "real" else {}
        left.loglog(np.arange(1, len(spectrum) + 1), 10**spectrum, label=name, **style)
        right.plot((np.arange(64) + 0.5) / 64, grey, **style)
    left.set(xlabel="cycles per image", ylabel="power", title="spectrum")
    right.set(xlabel="grey level", ylabel="share of pixels", title="histogram")
    left.legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
