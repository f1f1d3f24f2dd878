"""Images that are no chest X-rays, or no longer look like one."""

from collections.abc import Sequence

import cv2
import numpy as np

from xray_captioning.data.images import Pixels

SIDE = 256  # pixels
TEXT = "This page was written to be read, not to be taken for a radiograph."
DEGREES = (-20, -10, 0, 10, 20)


def strange_images(frontal: Sequence[Pixels], lateral: Sequence[Pixels]) -> dict[str, list[Pixels]]:
    """Return images of each kind: drawn, or made of chest X-rays.

    Parameters
    ----------
    frontal, lateral : sequence of array, each (height, width, 3), float32 in [0, 1]
    """
    rng = np.random.default_rng(0)
    both = [*frontal, *lateral]
    return {
        "drawn photographs": [photograph(rng) for _ in range(20)],
        "a page of text": [page()],
        "uniform noise, grey and coloured": [noise(rng, i % 3 > 0) for i in range(15)],
        "drawn X-rays of a hand": [hand(degrees) for degrees in DEGREES],
        "phantoms inverted": [1 - chest for chest in both],
        "phantoms turned by 90 degrees": [np.rot90(chest).copy() for chest in both],
        "frontal phantoms turned by 180 degrees": [chest[::-1, ::-1].copy() for chest in frontal],
        "frontal phantoms, upper half black": [half_black(chest) for chest in frontal],
    }


def noise(rng: np.random.Generator, coloured: bool) -> Pixels:
    """Return pixels that know nothing of each other."""
    found = rng.random((SIDE, SIDE, 3), np.float32)
    return found if coloured else found[..., :1].repeat(3, axis=2)


def half_black(chest: Pixels) -> Pixels:
    """Return an image without its upper half."""
    found = chest.copy()
    found[: len(found) // 2] = 0
    return found


def photograph(rng: np.random.Generator) -> Pixels:
    """Draw coloured things before a sky, and a word."""
    sky = np.linspace((90, 140, 220), (200, 180, 150), SIDE)[:, None].repeat(SIDE, axis=1)
    image = sky.astype(np.uint8)
    for _ in range(9):
        colour = [int(part) for part in rng.integers(0, 256, 3)]
        centre = [int(part) for part in rng.integers(0, 256, 2)]
        cv2.circle(image, centre, int(rng.integers(10, 50)), colour, -1)
        cv2.rectangle(image, centre, [part + 40 for part in centre], colour[::-1], -1)
    cv2.putText(image, "HOLIDAY", (40, 200), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (255, 255, 255), 3)
    return image.astype(np.float32) / 255


def page() -> Pixels:
    """Draw lines of black letters on white."""
    image = np.full((2 * SIDE, 2 * SIDE, 3), 255, np.uint8)
    for line in range(20):
        cv2.putText(image, TEXT[line:], (20, 30 + 24 * line), cv2.FONT_HERSHEY_PLAIN, 0.9, (0,) * 3)
    return image.astype(np.float32) / 255


def hand(degrees: float) -> Pixels:
    """Draw bright bones in soft tissue, five fingers, before black."""
    image = np.zeros((SIDE, SIDE), np.float32)
    cv2.ellipse(image, (128, 190), (50, 55), 0, 0, 360, 0.4, -1)
    tips = [(60, 60), (100, 30), (136, 20), (172, 40), (40, 140)]
    for width, shade in ((24, 0.4), (9, 0.85)):
        for x, y in tips:
            cv2.line(image, (128 + (x - 128) // 3, 190), (x, y), shade, width)
    turn = cv2.getRotationMatrix2D((128, 128), degrees, 1)
    turned = cv2.warpAffine(cv2.GaussianBlur(image, (0, 0), 1.5), turn, (SIDE, SIDE))
    return turned[..., None].repeat(3, axis=2)
