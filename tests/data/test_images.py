"""Pixels in [0, 1], whatever the file; anything else is one error that names the file."""

import builtins
import os
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_captioning.data import levels
from xray_captioning.data.images import augment, decode_image, normalise, read_image, read_images
from xray_captioning.errors import ConfigError, ImageError, MissingExtraError

cv2 = pytest.importorskip("cv2")

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY = (np.add.outer(np.arange(40) * 3, np.arange(48) * 2) % 256).astype(np.uint8)
GREY16 = GREY.astype(np.uint16) * 257
COLOUR = np.stack([GREY, GREY[::-1], 255 - GREY], axis=-1)  # RGB


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(pixels, colour_type, before=b"", cut=None, filter_type=0):
    """Write a PNG by hand: pixels (h, w, channels) of big-endian bytes or words."""
    pixels = np.atleast_3d(pixels)
    height, width = pixels.shape[:2]
    depth = 8 * pixels.dtype.itemsize
    wide = pixels.astype(pixels.dtype.newbyteorder(">"))
    rows = b"".join(bytes([filter_type]) + row.tobytes() for row in wide)
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(rows)[:cut])
    return SIGNATURE + body + chunk(b"IEND", b"")


def jpeg(pixels, *flags):
    bgr = pixels if pixels.ndim == 2 else pixels[..., ::-1]
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 95, *flags])[1].tobytes()


def with_alpha(pixels, alpha):
    return np.concatenate([np.atleast_3d(pixels), alpha[..., None].astype(pixels.dtype)], axis=-1)


def exact(data, shape=GREY.shape):
    """Decode at the stored size: nearest neighbour to a square, then compare such a square."""
    return decode_image(data, "x.png", size=max(shape), resize="nearest")


def square(unit):
    side = max(unit.shape[:2])
    resized = cv2.resize(unit.astype(np.float32), (side, side), interpolation=cv2.INTER_NEAREST)
    return np.repeat(resized[..., None], 3, axis=2) if resized.ndim == 2 else resized


HALF = np.where(np.arange(48)[None] < 24, 255, 51).repeat(40, 0)
PALETTE = np.random.default_rng(1).integers(0, 256, (256, 3), np.uint8)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(GREY, 0), GREY / 255),
        (png(GREY16 ^ 3, 0), (GREY16 ^ 3) / 65535),
        (png(COLOUR, 2), COLOUR / 255),
        (png(COLOUR.astype(np.uint16) * 257, 2), COLOUR / 255),
        (png(GREY, 3, chunk(b"PLTE", PALETTE.tobytes())), PALETTE[GREY] / 255),
        (png(with_alpha(COLOUR, HALF), 6), COLOUR * (HALF / 255)[..., None] / 255),
        (png(with_alpha(GREY, HALF), 4), GREY * (HALF / 255) / 255),
        (png(with_alpha(GREY16, HALF * 257), 4), GREY * (HALF / 255) / 255),
        (
            png(GREY, 3, chunk(b"PLTE", PALETTE.tobytes()) + chunk(b"tRNS", bytes([0] * 100))),
            PALETTE[GREY] * (GREY >= 100)[..., None] / 255,
        ),
        (cv2.imencode(".png", GREY)[1].tobytes(), GREY / 255),
    ],
    ids=["grey", "grey16", "rgb", "rgb16", "palette", "rgba", "grey-alpha", "grey-alpha16", "palette-alpha", "cv2"],
)
def test_every_kind_of_png(data, expected):
    image = exact(data)
    assert (image.shape, image.dtype) == ((48, 48, 3), np.float32)
    np.testing.assert_allclose(image, square(expected), atol=0.5001 / 255)
    assert 0 <= image.min() <= image.max() <= 1


def test_sixteen_bits_keep_their_precision():
    image = exact(png(GREY16 | 3, 0))
    np.testing.assert_allclose(image[..., 0], square((GREY16 | 3) / 65535)[..., 0], atol=1e-6)


@pytest.mark.parametrize("flags", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)])
def test_jpeg_in_grey_and_colour(flags):
    smooth = cv2.GaussianBlur(GREY, (0, 0), 5)
    np.testing.assert_allclose(exact(jpeg(smooth, *flags)), square(smooth / 255), atol=0.03)
    red = np.zeros((40, 48, 3), np.uint8)
    red[:20, :, 0], red[20:, :, 0] = 240, 160
    means = exact(jpeg(red, *flags)).mean((0, 1))
    np.testing.assert_allclose(means, [200 / 255, 0, 0], atol=0.02)


def with_scans(number):
    """Return a JPEG with so many scans more: refinements, of few bytes but of all pixels."""
    data = jpeg(GREY, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    start, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    return data[:end] + data[start:end] * number + data[end:]


def test_a_jpeg_of_scans_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(levels, "_MOST_SCANS", 12)
    plain = decode_image(with_scans(0), "x.jpg")
    assert decode_image(with_scans(2), "x.jpg").shape == plain.shape
    with pytest.raises(ImageError, match="damaged"):
        decode_image(with_scans(12), "x.jpg")


def test_unknown_chunks_of_a_png(capfd):
    expected = decode_image(png(GREY, 0), "x.png")
    with_text = png(GREY, 0, before=chunk(b"jaNe", b"x"))
    np.testing.assert_array_equal(decode_image(with_text, "x.png"), expected)
    with pytest.raises(ImageError, match="damaged"):
        decode_image(png(GREY, 0, before=chunk(b"JaNe", b"x")), "x.png")
    assert "JaNe" not in capfd.readouterr().err  # libpng would say it


def test_jpeg_with_restart_markers_padding_and_a_tail():
    plain = jpeg(GREY)
    with_restarts = jpeg(GREY, cv2.IMWRITE_JPEG_RST_INTERVAL, 2)
    np.testing.assert_array_equal(exact(with_restarts), exact(plain))
    padded = plain[:2] + b"\xff\xff\xff" + plain[2:]
    np.testing.assert_array_equal(exact(padded + b"tail"), exact(plain))


def test_nearest_is_opencv_on_bytes(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(png(COLOUR, 2))
    rgb = cv2.imread(str(path))[..., ::-1]
    for size in (7, 64):
        older = cv2.resize(rgb, (size, size), interpolation=cv2.INTER_NEAREST) / 255
        image = read_image(path, size, "nearest")
        np.testing.assert_array_equal(image, older.astype(np.float32))


def test_area_averages_when_shrinking_and_never_overshoots():
    checks = np.kron(np.indices((32, 32)).sum(0) % 2, np.ones((2, 2))).astype(np.uint8) * 255
    small = decode_image(png(checks, 0), "x", size=16)
    np.testing.assert_allclose(small, 0.5, atol=1 / 255)
    large = decode_image(png(GREY, 0), "x", size=100)
    linear = decode_image(png(GREY, 0), "x", size=100, resize="linear")
    np.testing.assert_array_equal(large, linear)


@pytest.mark.filterwarnings("ignore::xray_captioning.data.levels.ImageWarning")
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1)])
def test_odd_shapes(shape):
    line = np.full(shape, 51, np.uint8)
    line[-1, -1] = 50
    if line.size == 1:
        with pytest.raises(ImageError, match="one value"):
            decode_image(png(line, 0), "x", size=8)
    else:
        image = read_images([png(line, 0)] * 2, size=8)[1]
        np.testing.assert_allclose(image, 0.2, atol=1 / 255)


def test_a_path_its_bytes_and_its_pixels_are_the_same_image(tmp_path):
    (tmp_path / "a.png").write_bytes(png(COLOUR, 2))
    pixels = (COLOUR / np.float32(255)).astype(np.float32)
    expected = read_image(tmp_path / "a.png", size=20, resize="nearest")
    double = COLOUR / 255
    for source in (str(tmp_path / "a.png"), png(COLOUR, 2), pixels, COLOUR, double):
        np.testing.assert_array_equal(read_image(source, size=20, resize="nearest"), expected)
    for size in (10, 200):  # uint8 is the file's own pixels for any way of resizing
        np.testing.assert_array_equal(read_image(COLOUR, size), read_image(png(COLOUR, 2), size))


def test_grey_pixels_of_any_shape_and_depth_are_the_grey_file():
    expected = read_image(png(GREY, 0), size=20)
    half = (GREY / 255).astype(np.float16)
    for pixels, close in ((GREY, 0), (GREY[..., None], 0), (GREY / 255, 3e-3), (half, 3e-3)):
        np.testing.assert_allclose(read_image(pixels, size=20), expected, atol=close)
    both = read_images([GREY, np.dstack([GREY] * 3)], size=20)
    np.testing.assert_array_equal(*both)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (COLOUR.astype("int64") * 300, r"whole numbers from 0 to 7\d+; give whole numbers from 0"),
        (COLOUR.astype("int16") - 5, "outside the range, whole numbers from -5"),
        (np.eye(4, dtype=bool), "type bool are refused; give whole numbers"),
        (np.eye(4, dtype=complex), "type complex"),
        (np.full((4, 4), 7, np.uint8), r"have one value \(7\)"),
        (np.zeros((4, 4, 3), np.float32), r"have one value \(0, 0, 0\)"),
        (np.zeros((4, 4, 4), np.float32), r"shape \(4, 4, 4\)"),
        (np.zeros(4, np.float32), r"shape \(4,\)"),
        (COLOUR.astype("float64"), r"outside the range, floating-point from 0 to 25\d; give"),
        (np.zeros((0, 4, 3), np.float32), r"shape \(0, 4, 3\)"),
        (np.full((4, 4, 3), 2, np.float32), "outside"),
        (np.full((4, 4, 3), np.nan, np.float32), "outside"),
    ],
)
def test_pixels_of_another_kind(pixels, message):
    with pytest.raises(ImageError, match=message):
        read_image(pixels)


def test_read_images_keeps_the_order(tmp_path):
    paths = []
    for value in range(30):
        paths.append(tmp_path / f"{value}.png")
        paths[-1].write_bytes(png(np.array([[value, 255], [255, 255]], np.uint8), 0))
    images = read_images(paths, size=2)
    assert images.shape == (30, 2, 2, 3)
    np.testing.assert_allclose(images[:, 0, 0, 0] * 255, np.arange(30), atol=1e-4)
    assert read_images([], size=4).shape == (0, 4, 4, 3)
    paths[7].write_bytes(b"")
    with pytest.raises(ImageError, match=r"7\.png"):
        read_images(paths, size=4)


# --- files that are not images


THUMBNAIL = jpeg(GREY[:8, :8])
JPEG = jpeg(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8))
JPEG_WITH_THUMBNAIL = JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(THUMBNAIL) + 2) + THUMBNAIL + JPEG[2:]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"hello", "none of PNG, JPEG, TIFF, BMP, WebP and DICOM"),
        (b"RIFF\0\0\0\0WAVE", "none of PNG, JPEG"),
        (b"BM" + bytes(60), "damaged"),
        (SIGNATURE, "truncated"),
        (png(GREY, 0)[:200], "truncated"),
        (png(GREY, 0)[:-12], "truncated"),
        (png(GREY, 0, cut=100), "damaged"),
        (png(GREY, 0, filter_type=9), "damaged"),
        (png(GREY, 0)[:100] + b"\x00\x01" + png(GREY, 0)[102:], "damaged"),
        (png(np.zeros((0, 5), np.uint8), 0), "damaged"),
        (JPEG[:3], "truncated"),
        (JPEG[: len(JPEG) // 2], "damaged"),
        (JPEG[:-2], "damaged"),
        (JPEG[:-600] + bytes(600), "damaged"),
        (JPEG_WITH_THUMBNAIL[:-2], "damaged"),
        (JPEG[:2] + b"\xff\xd9", "damaged"),
        (JPEG[:2] + b"\xff\xe1\x00\x04xx" + bytes(9), "damaged"),
    ],
)
def test_unusable_bytes_name_the_file(tmp_path, data, message, capfd):
    path = tmp_path / "scan 1.png"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=message) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    if message != "damaged":
        assert capfd.readouterr().err == ""


def test_thumbnail_does_no_harm():
    np.testing.assert_array_equal(exact(JPEG_WITH_THUMBNAIL), exact(JPEG))


@pytest.mark.parametrize("place", ["absent.png", "", "pipe"])
def test_what_is_no_file(tmp_path, place):
    if place == "pipe":
        if not hasattr(os, "mkfifo"):
            pytest.skip("no named pipes here")
        os.mkfifo(tmp_path / place)
    with pytest.raises(ImageError, match=r"does not exist|is not a file"):
        read_image(tmp_path / place)


def test_enormous_image_is_refused_before_decoding(monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("was decoded"))
    header = struct.pack(">IIBBBBB", 60, 60, 8, 0, 0, 0, 0)
    empty = SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    large = bytearray(JPEG)
    frame = large.index(b"\xff\xc0")
    large[frame + 5 : frame + 9] = struct.pack(">HH", 60, 60)
    for data in (empty, bytes(large)):
        with pytest.raises(ImageError, match=r"60 x 60 pixels.*raise the limit"):
            decode_image(data, "big.png", max_pixels=3599)
    with pytest.raises(ImageError, match="limit of 100"):
        decode_image(png(GREY, 0), "x.png", max_pixels=100)
    with pytest.raises(ImageError, match="48 x 40 pixels are a strip"):
        decode_image(png(GREY, 0), "x.png", max_ratio=1.1)


def test_huge_file_of_another_kind_is_not_loaded(tmp_path):
    path = tmp_path / "disk.png"
    with open(path, "wb") as file:
        file.truncate(1 << 23)
    tracemalloc.start()
    with pytest.raises(ImageError, match="none of PNG"):
        read_image(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@settings(max_examples=200, deadline=None)
@given(
    start=st.sampled_from([png(GREY, 0), png(COLOUR, 2), JPEG, JPEG_WITH_THUMBNAIL, jpeg(COLOUR)]),
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), max_size=6),
    end=st.integers(0, 10**6) | st.none(),
)
def test_damaged_bytes_decode_or_raise_one_error(start, flips, end):
    data = bytearray(start)
    for at, mask in flips:
        data[at % len(data)] ^= mask
    cut = bytes(data[: end % len(data) if end is not None else None])
    try:
        image = decode_image(cut, "x", size=8)
    except ImageError as error:
        assert "\n" not in str(error)  # noqa: PT017
        assert str(error).count("x: ") == 1  # noqa: PT017
    else:
        assert image.shape == (8, 8, 3)
        assert len(cut) == len(data) or start.startswith(b"\xff\xd8")


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([b"", SIGNATURE, b"\xff\xd8\xff"]), st.binary(max_size=200))
def test_noise_is_no_image(start, noise):
    with pytest.raises(ImageError):
        decode_image(start + noise, "x", size=8)


def test_every_truncation_is_found():
    for data in (png(GREY, 0), JPEG, jpeg(COLOUR, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)):
        for cut in range(1, 40):
            with pytest.raises(ImageError):
                decode_image(data[: len(data) * cut // 40], "x", size=8)


def test_settings_that_cannot_work():
    with pytest.raises(ConfigError, match="area, linear, nearest"):
        decode_image(png(GREY, 0), "x", resize="cubic")
    with pytest.raises(ConfigError, match="at least 1"):
        decode_image(png(GREY, 0), "x", size=0)


def test_without_opencv(monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest):
        if name == "cv2":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match="opencv-python-headless"):
        decode_image(png(GREY, 0), "x")


# --- normalise and augment


def test_normalise():
    rng = np.random.default_rng(0)
    images = rng.random((2, 2, 8, 8, 3))
    np.testing.assert_array_equal(normalise(images, "unit"), images.astype(np.float32))
    scaled = normalise(images, "imagenet")
    assert scaled.dtype == np.float32
    deviation = np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(scaled * deviation + [0.485, 0.456, 0.406], images, atol=1e-6)
    with pytest.raises(ConfigError, match="unit or imagenet"):
        normalise(images, "zscore")


def lopsided(n=20, size=64):
    """Grey images whose left is bright: an arrow, so that a mirror shows."""
    image = np.full((size, size), 0.2, np.float32)
    image[size // 4 : size // 2, size // 8 : size // 2] = 0.9
    return np.broadcast_to(image[None, ..., None], (n, size, size, 3)).copy()


def test_augment_never_mirrors_and_keeps_the_range():
    images = lopsided(200)
    before = images.copy()
    varied = augment(images, np.random.default_rng(0))
    np.testing.assert_array_equal(images, before)
    assert (varied.shape, varied.dtype) == (images.shape, np.float32)
    assert np.isfinite(varied).all()
    assert 0 <= varied.min() <= varied.max() <= 1
    upright, mirrored = (image - image.mean() for image in (images[0], images[0][:, ::-1]))
    for one in varied:
        centred = one - one.mean()
        assert (centred * upright).sum() > (centred * mirrored).sum()


def test_augment_varies_position_and_exposure_and_keeps_grey_grey():
    varied = augment(lopsided(), np.random.default_rng(0))
    np.testing.assert_allclose(varied[..., 0], varied[..., 2], atol=1e-6)
    assert np.std(varied[:, 24:28, 24:28].mean((1, 2, 3))) > 0.01
    columns = np.arange(64)
    centres = [(image[..., 0].sum(0) * columns).sum() / image[..., 0].sum() for image in varied]
    assert np.std(centres) > 0.3
    again = augment(lopsided(), np.random.default_rng(0))
    np.testing.assert_array_equal(varied, again)
    assert not np.array_equal(varied, augment(lopsided(), np.random.default_rng(1)))


# --- real files


def test_real_images(shared_data):
    paths = sorted((shared_data / "iu" / "images" / "images_normalized").glob("*.png"))[:4]
    paths += sorted((shared_data / "iu" / "NLMCXR_png").glob("*.png"))
    paths += sorted((shared_data / "nih14" / "originals").glob("*.png"))[:3]
    paths += sorted((shared_data / "nih14" / "images").glob("*.jpg"))[:20]
    images = read_images(paths, size=64)
    assert 0.1 < images.mean() < 0.9
    assert (images.std((1, 2, 3)) > 0.05).all()


def test_real_image_as_the_older_projects_read_it(shared_data):
    path = shared_data / "iu" / "images" / "images_normalized" / "3_IM-1384-1001.dcm.png"
    rgb = cv2.imread(str(path))[..., ::-1]
    older = cv2.resize(rgb, (224, 224), interpolation=cv2.INTER_NEAREST) / 255
    np.testing.assert_array_equal(read_image(path, 224, "nearest"), older.astype(np.float32))
