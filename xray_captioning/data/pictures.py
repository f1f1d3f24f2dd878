"""Radiographs for people to look at: in their own proportions, unlike what a model is given."""

from pathlib import Path

from xray_captioning.data.dicom.pixels import decode_dicom
from xray_captioning.data.dicom.reading import is_dicom
from xray_captioning.data.images import MAX_PIXELS, Pixels, decode_image, opencv, read_image
from xray_captioning.data.kinds import container_shape


def read_picture(path: str, longest: int) -> Pixels:
    """Read an image file as RGB (height, width, 3), float32 in [0, 1], in its own proportions.

    The longer side has at most `longest` pixels; nothing is enlarged.
    """
    square = read_image(path, longest)  # refuses what is damaged
    shape = _shape(Path(path).read_bytes(), path, MAX_PIXELS)
    return _in_proportion(square if max(shape) >= longest else read_image(path, max(shape)), shape)


def decode_picture(
    data: bytes, name: str, longest: int, max_pixels: float, max_ratio: float
) -> Pixels:
    """Decode the bytes of an image in its own proportions; a small one is enlarged.

    All but the longer side is as :func:`xray_captioning.data.images.decode_image` takes it.
    """
    square = decode_image(data, name, longest, max_pixels=max_pixels, max_ratio=max_ratio)
    return _in_proportion(square, _shape(data, name, max_pixels))


def _in_proportion(square: Pixels, shape: tuple[int, int]) -> Pixels:
    """Shrink a square made of an image to the proportions, height and width, that it had."""
    scale = len(square) / max(shape)
    height, width = (max(1, round(side * scale)) for side in shape)
    picture: Pixels = opencv().resize(square, (width, height), interpolation=opencv().INTER_AREA)
    return picture


def _shape(data: bytes, name: str, max_pixels: float) -> tuple[int, int]:
    """Return height and width of an image that has been decoded before."""
    if is_dicom(data):
        height, width = decode_dicom(data, name, max_pixels, note=lambda *_: None).shape[:2]
        return height, width
    return container_shape(data)
