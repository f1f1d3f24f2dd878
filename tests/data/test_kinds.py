"""TIFF, BMP and WebP, the way up of pictures, and images of Pillow."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_captioning.data.images import decode_image, read_image
from xray_captioning.errors import ImageError

cv2 = pytest.importorskip("cv2")
Image = pytest.importorskip("PIL.Image")
ImageOps = pytest.importorskip("PIL.ImageOps")

GREY = np.add.outer(np.arange(40) * 3, np.arange(48) * 2).astype(np.uint8)
COLOUR = np.stack([GREY, GREY[::-1], 255 - GREY], axis=-1)
DEEP = GREY.astype(np.uint16) * 257


def saved(image, kind, **options):
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def tiff(pixels, photometric=1, order="<", kind=1, pages=1, **tags):
    """Write a TIFF by hand: uncompressed pixels in one strip; `tags` are t266=value."""
    height, width = pixels.shape[:2]
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    values = {256: width, 257: height, 258: 8 * pixels.itemsize, 259: 1, 262: photometric}
    values |= {273: 8, 277: pixels[0, 0].size, 278: height, 279: len(data), 339: kind}
    values |= {int(name[1:]): value for name, value in tags.items()}
    file = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8 + len(data)) + data
    for page in range(pages):
        file += struct.pack(order + "H", len(values))
        for tag, value in sorted(values.items()):
            file += struct.pack(order + "HHII", tag, 4, 1, value)
        file += struct.pack(order + "I", len(file) + 4 if page < pages - 1 else 0)
    return file


def exact(data):
    return decode_image(data, "x", None)


@pytest.mark.parametrize("kind", ["TIFF", "BMP", "WEBP"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_every_mode_of_every_kind(kind, mode):
    image = Image.fromarray(COLOUR if mode in ("P", "RGB", "RGBA") else GREY).convert(mode)
    data = saved(image, kind, **({"lossless": True} if kind == "WEBP" else {}))
    expected = np.asarray(image.convert("RGB")) / np.float32(255)
    np.testing.assert_array_equal(exact(data), expected.astype(np.float32))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("pixels", [GREY, DEEP, COLOUR], ids=["grey", "deep", "colour"])
def test_compressed_tiff(compression, pixels):
    plain, data = (exact(saved(pixels, "TIFF", compression=how)) for how in (None, compression))
    np.testing.assert_array_equal(data, plain)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("pixels", [GREY, DEEP, DEEP >> 4, GREY / np.float32(255)])
def test_white_may_be_zero(order, pixels):
    kind = 3 if pixels.dtype.kind == "f" else 1
    dark, light = (exact(tiff(pixels, how, order, kind)) for how in (1, 0))
    np.testing.assert_allclose(light, 1 - dark, atol=1e-6)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("value", range(1, 9))
def test_the_way_up_is_the_one_that_exif_names(kind, value):
    """Independent: Pillow's `exif_transpose`, and its own drawing of the eight."""
    exif = Image.Exif()
    exif[0x112] = value
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(GREY, kind, exif=exif, **options)
    image = Image.open(io.BytesIO(data))
    upright = np.asarray(ImageOps.exif_transpose(image).convert("L")) / 255
    np.testing.assert_allclose(exact(data)[..., 0], upright, atol=1 / 255)
    assert decode_image(data, "x", 96, "fit").shape[:2] == tuple(2 * n for n in upright.shape)
    if kind == "PNG":
        np.testing.assert_array_equal(read_image(image, None), exact(data))


def test_damaged_exif_turns_nothing():
    exif = Image.Exif()
    exif[0x112] = 6
    data = saved(GREY, "JPEG", exif=exif, quality=100)
    old = b"\x01\x12\0\x03\0\0\0\x01\0\x06"
    assert data.count(old) == 1
    assert exact(data.replace(old, b"\x01\x12" * 5)).shape == (40, 48, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tiff(GREY, pages=2), "holds 2 pages; save one"),
        (tiff(GREY.astype(np.int8), kind=2), "of a kind that is not read"),
        (tiff(GREY.astype(np.int32)), "of a kind that is not read"),
        (tiff(GREY.astype(np.float16), kind=3), "of a kind that is not read"),
        (saved(Image.fromarray(COLOUR).convert("CMYK"), "TIFF"), "of a kind that is not read"),
        (tiff(GREY, t273=400), "truncated"),
        (tiff(GREY, t256=0), "damaged"),
        (saved(GREY, "TIFF")[:-1], "truncated"),
        (tiff(GREY)[:4] + struct.pack("<I", 8) + bytes(2) + struct.pack("<I", 8), "damaged"),
        (b"BM" + saved(GREY, "BMP")[2:-1], "truncated"),
        (saved(GREY, "WEBP")[:-2], "truncated"),
        (saved(GREY, "WEBP", save_all=True, append_images=[Image.fromarray(255 - GREY)]), "animation"),
    ],
)
def test_what_is_not_read_is_one_line(data, message, capfd):
    with pytest.raises(ImageError, match=message) as caught:
        decode_image(data, "x")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("compression", "kind"), [("tiff_lzw", "u1"), ("tiff_lzw", "u2"), ("tiff_deflate", "u1")])
def test_damage_inside_of_a_compressed_tiff_is_found(compression, kind):
    noise = np.random.default_rng(0).integers(1, 256, (40, 48)).astype(kind)
    data = saved(noise, "TIFF", compression=compression)
    middle = len(data) // 2
    with pytest.raises(ImageError, match="damaged"):
        exact(data[:middle] + bytes(60) + data[middle + 60 :])


def test_enormous_images_are_refused_before_decoding(monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("was decoded"))
    webp = saved(GREY, "WEBP", lossless=True)
    for data, most in ((webp, 100), (saved(GREY, "BMP"), 100), (tiff(GREY), 100), (tiff(GREY, t259=5), 100)):
        with pytest.raises(ImageError, match=r"\d+ x \d+ pixels are more than the limit"):
            decode_image(data, "x", max_pixels=most)


WHOLE = [
    tiff(GREY),
    tiff(DEEP, order=">"),
    saved(COLOUR, "TIFF", compression="tiff_lzw"),
    saved(GREY, "TIFF", compression="tiff_deflate"),
    saved(COLOUR, "BMP"),
    saved(GREY, "WEBP"),
    saved(COLOUR, "WEBP", lossless=True),
]


@pytest.mark.filterwarnings("ignore::xray_captioning.data.levels.ImageWarning")
@settings(max_examples=200, deadline=None)
@given(
    start=st.sampled_from(WHOLE),
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), max_size=6),
    early=st.booleans(),
    end=st.integers(0, 10**6) | st.none(),
)
def test_damaged_bytes_decode_or_raise_one_error(start, flips, early, end):
    data = bytearray(start)
    for at, mask in flips:  # half of them at the end, where a TIFF has its tables
        place = len(data) - 1 - at % min(200, len(data)) if early else at % len(data)
        data[place] ^= mask
    cut = bytes(data[: end % len(data) if end is not None else None])
    try:
        image = decode_image(cut, "x", size=8, max_pixels=1e6)
    except ImageError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert 0 <= image.min() <= image.max() <= 1


def test_every_truncation_is_found():
    for data in WHOLE:
        for cut in range(1, 40):
            with pytest.raises(ImageError):
                decode_image(data[: len(data) * cut // 40], "x", size=8)


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "RGB", "RGBA", "LA", "PA", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "I;16"]
)
def test_an_image_of_pillow_in_any_mode(mode):
    """The same as its pixels, and as its file where PNG has the mode."""
    deep = {"I": DEEP.astype(np.int32), "I;16": DEEP, "F": GREY / np.float32(255)}
    if mode in deep:
        image, expected = Image.fromarray(deep[mode]), read_image(deep[mode], 20)
    else:
        image = Image.fromarray(COLOUR).convert("RGB" if mode in ("LAB", "PA") else mode)
        if mode == "PA":
            image = image.convert("P").convert("PA")
        if mode == "LAB":
            image = Image.merge("LAB", image.split())
        expected = read_image(np.asarray(image.convert("RGB")), 20)
    assert image.mode == mode
    np.testing.assert_allclose(read_image(image, 20), expected, atol=1e-6)
    if mode in ("1", "L", "P", "RGB", "RGBA", "LA", "I;16"):
        np.testing.assert_array_equal(read_image(saved(image, "PNG"), 20), read_image(image, 20))


def test_transparency_of_a_palette_is_black():
    image = Image.fromarray(COLOUR).convert("P")
    image.info["transparency"] = image.getpixel((0, 0))
    np.testing.assert_array_equal(read_image(image, 20), read_image(saved(image, "PNG"), 20))
    assert (read_image(image, None)[0, 0] == 0).all()


def test_an_image_of_pillow_whose_file_is_cut_is_one_error():
    image = Image.open(io.BytesIO(saved(GREY, "JPEG")[:-100]))
    with pytest.raises(ImageError, match="image: is truncated, damaged"):
        read_image(image)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
        (b" <!DOCTYPE html><html>Not found</html>", "is a web page; get the image itself"),
    ],
)
def test_what_stands_in_place_of_an_image_is_named(data, message):
    with pytest.raises(ImageError, match=message):
        decode_image(data, "x.png")
