"""Which value is white, and what shows nothing."""

import sys
import types
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_captioning.data import levels
from xray_captioning.data.images import decode_image, read_image, read_images
from xray_captioning.data.levels import ImageWarning, white
from xray_captioning.errors import DataError, ImageError

cv2 = pytest.importorskip("cv2")

EIGHT = np.add.outer(np.arange(40) * 3, np.arange(48) * 2).astype(np.uint8)  # to 211


def encoded(pixels, suffix=".png"):
    return cv2.imencode(suffix, pixels)[1].tobytes()


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_a_file_of_16_bits_is_the_picture_that_it_is_in_8(bits, suffix):
    expected = read_image(encoded(EIGHT), 20)
    deep = EIGHT.astype(np.uint16) * (2**bits // 256)
    colour = np.dstack([deep] * 3)
    for pixels in (deep, colour):
        image = read_image(encoded(pixels, suffix), 20)
        np.testing.assert_allclose(image, expected, atol=1.2 / 255)
    for pixels in (deep, colour, deep.astype(">u2"), deep.astype(np.int32), deep.astype(np.int64)):
        np.testing.assert_allclose(read_image(pixels, 20), expected, atol=1.2 / 255)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 65535))
def test_white_is_the_most_that_the_bits_in_use_can_hold(greatest):
    pixels = np.array([[0, greatest]], np.uint16)
    assert white(pixels) in (255, 1023, 4095, 16383, 65535)
    assert greatest <= white(pixels)
    assert greatest * 4 >= white(pixels) or white(pixels) == 255
    assert white(pixels.astype(np.uint8) if greatest < 256 else EIGHT) == 255


@pytest.mark.parametrize("greatest", [16384, 40000, 65535])
def test_true_16_bits_and_8_bits_stay_as_they_are(greatest):
    deep = np.linspace(0, greatest, 64 * 64).reshape(64, 64).astype(np.uint16)
    expected = deep.astype(np.float32) / np.float32(65535)
    np.testing.assert_array_equal(read_image(encoded(deep), None)[..., 0], expected)
    dark = EIGHT // 2
    expected = dark.astype(np.float32) / np.float32(255)
    for source in (encoded(dark), dark):
        np.testing.assert_array_equal(read_image(source, None)[..., 0], expected)


def test_floating_point_is_from_0_to_1_and_never_guessed():
    unit = (EIGHT / np.float32(255)).astype(np.float32)
    expected = read_image(encoded(EIGHT), None)
    np.testing.assert_array_equal(read_image(encoded(unit, ".tiff"), None), expected)
    for pixels in (EIGHT.astype(np.float32), unit - 0.5, unit * np.nan):
        for source in (encoded(pixels, ".tiff"), pixels):
            with pytest.raises(ImageError, match="outside the range, floating-point from"):
                read_image(source)


@pytest.mark.parametrize("value", [0, 128, 255, 4095])
def test_an_image_of_one_value_is_refused(tmp_path, value):
    pixels = np.full((9, 9), value, np.uint8 if value < 256 else np.uint16)
    (tmp_path / "a.png").write_bytes(encoded(pixels))
    for source in (tmp_path / "a.png", encoded(np.dstack([pixels] * 3)), pixels):
        with pytest.raises(DataError, match=rf"one value \({value}[, 0-9]*\), so that it shows"):
            read_image(source)
    with pytest.raises(ImageError, match=r"a\.png: all of its pixels"):
        read_images([tmp_path / "a.png"])


def test_an_image_of_one_colour_is_refused():
    with pytest.raises(ImageError, match=r"one value \(9, 20, 7\)"):
        read_image(np.full((9, 9, 3), (9, 20, 7), np.uint8))


def faint(*hot):
    pixels = 100 + EIGHT // 16
    for row, value in enumerate(hot):
        pixels[row, 0] = value
    return pixels


def test_an_image_that_shows_next_to_nothing_is_told_of():
    hot = (EIGHT // 8).astype(np.uint16) * 8  # to 208 of 65,535, and one defective pixel
    hot[0, 0] = 65535
    for pixels in (faint(), faint(0, 255), hot, np.float32(0.5) + EIGHT / np.float32(4000)):
        with pytest.warns(ImageWarning, match="image: nearly all of its pixels lie within 10%"):
            read_image(pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_image(EIGHT)
        read_image(EIGHT // 4)


def test_what_is_told_of_many_images_is_told_once():
    good, files = encoded(EIGHT), [encoded(faint())] * 5
    with pytest.warns(ImageWarning) as told:
        read_images([good, *files, good], size=8)
    [warning] = [warning.message for warning in told]
    assert (warning.count, str(warning)[:31]) == (5, "image (and 4 more images): near")
    with pytest.warns(ImageWarning, match="b.png: nearly"):
        decode_image(files[0], "b.png")


def test_pillow_while_another_thread_imports_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", types.ModuleType("PIL.Image"))
    assert not levels.is_pillow("a.png")
