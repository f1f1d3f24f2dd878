"""Attention over pixels, and images as files."""

import base64

import cv2
import numpy as np
import pytest

from xray_captioning.plots import View, colour_scale, data_uri, encode, overlay, strongest


def views():
    first, second = np.zeros((2, 4, 4), np.float32)
    first[0, 0], second[3, 3] = 0.75, 0.25
    return [
        View("frontal", np.full((560, 420), 0.5, np.float32), first),
        View("lateral", np.full((420, 560), 0.5, np.float32), second),
    ]


def luminance(rgb):
    unit = np.asarray(rgb) / 255
    linear = np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def test_the_overlay_colours_where_the_attention_lies():
    assert [one.share for one in views()] == [0.75, 0.25]
    top = strongest(views())
    assert top == 0.75
    first, second = (overlay(one, top).astype(int) for one in views())
    colourful = [np.ptp(image, axis=2) for image in (first, second)]
    assert colourful[0][:50, :50].mean() > 60
    assert not colourful[0][300:, 200:].any()  # the grey of the radiograph is left as it is
    # One scale for both views: less attention, less colour.
    assert 0 < colourful[1][-20:, -20:].mean() < colourful[0][:20, :20].mean()


def test_the_overlay_covers_what_the_encoder_saw():
    """Of an image 40 wide and 20 high, the middle square; and with black around it, all of it."""
    view = View("frontal", np.full((20, 40), 0.5, np.float32), np.full((2, 2), 0.25))
    middle = overlay(view._replace(seen=(0.0, 0.25, 1.0, 0.5)), 0.25).astype(int)
    coloured = np.ptp(middle, axis=2) > 0
    assert coloured[:, 10:30].all()
    assert coloured.sum() == 20 * 20
    below = view._replace(attention=np.float32([[0, 0], [0.5, 0.5]]), seen=(-0.5, 0.0, 2.0, 1.0))
    padded = np.ptp(overlay(below, 0.5).astype(int), axis=2)
    assert padded.shape == (20, 40)
    assert padded[0].max() < padded[-1].min()


def test_without_attention_an_image_is_grey():
    plain = [one._replace(attention=None) for one in views()]
    assert strongest(plain) == plain[0].share == 0
    for one in (*plain, views()[0]):
        assert (overlay(one, 0) == 128).all()


def test_the_colours_are_told_apart_without_colour_too():
    lightness = [luminance(colour) for colour in colour_scale(9)]
    assert lightness == sorted(lightness)
    assert lightness[-1] > 2 * lightness[0]


def decode(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def test_an_encoded_image_has_the_same_pixels():
    rng = np.random.default_rng(0)
    grey, colour = (rng.integers(0, 256, shape).astype(np.uint8) for shape in ((9, 7), (9, 7, 3)))
    assert np.array_equal(decode(encode(grey)), grey)
    assert np.array_equal(decode(encode(grey / np.float32(255))), grey)
    assert np.array_equal(decode(encode(colour)), colour[..., ::-1])
    assert np.array_equal(decode(encode(np.stack([grey] * 3, 2))), grey)


@pytest.mark.parametrize(("suffix", "kind"), [(".png", "png"), (".jpg", "jpeg")])
def test_a_data_uri_holds_an_image(suffix, kind):
    start, content = data_uri(np.full((4, 5), 0.5), suffix).split(",")
    assert start == f"data:image/{kind};base64"
    assert decode(base64.b64decode(content)).tolist() == [[128] * 5] * 4
