"""DICOM as it is displayed, from files written here; nothing of a patient ever comes out."""

import io
import logging
import os
import struct
import sys
import traceback
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xray_captioning.config import Config
from xray_captioning.data.dicom.pixels import decode_dicom, view_of
from xray_captioning.data.images import arranged, decode_image, read_image, read_images
from xray_captioning.data.levels import ImageWarning
from xray_captioning.data.sources.lookup import ImageFinder
from xray_captioning.data.targets import study_images
from xray_captioning.errors import ImageError, MissingExtraError

cv2 = pytest.importorskip("cv2")
pydicom = pytest.importorskip("pydicom")

from pydicom import uid  # noqa: E402
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402

NAME = "Doe^Jane"
RAMP = np.add.outer(np.arange(40) * 60, np.arange(48) * 30).astype(np.uint16)  # to 3,750
COLOUR = np.stack([RAMP >> 4, RAMP[::-1] >> 4, 255 - (RAMP >> 4)], axis=-1).astype(np.uint8)
SYNTAXES = [
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.RLELossless,
    uid.JPEG2000Lossless,
    uid.JPEGLSLossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLossless,
]
JPEG_LOSSLESS = {uid.JPEGLosslessSV1: 1, uid.JPEGLossless: 6}  # and the predictor that they use


def dicom(pixels=RAMP, syntax=uid.ExplicitVRLittleEndian, frame=None, **elements):
    """Write a file; `frame` is the compressed image, `elements` go over those of the pixels."""
    data = Dataset()
    data.PatientName, data.PatientID = NAME, "MRN-77"
    data.SOPClassUID, data.SOPInstanceUID = uid.DigitalXRayImageStorageForPresentation, "1.2.3"
    data.Rows, data.Columns = pixels.shape[:2]
    data.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    data.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        data.PlanarConfiguration = 0
    data.BitsAllocated = data.BitsStored = 8 * pixels.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    big = syntax == uid.ExplicitVRBigEndian
    data.PixelData = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<")).tobytes()
    data["PixelData"].VR = "OW" if pixels.itemsize == 2 else "OB"
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    with pydicom.config.disable_value_validation():
        for element, value in elements.items():
            setattr(data, element, value)
    if syntax.is_compressed and syntax != uid.DeflatedExplicitVRLittleEndian:
        data.PixelData = encapsulate([frame or compressed(pixels, syntax)])
        data["PixelData"].VR = "OB"
    file = io.BytesIO()
    pydicom.dcmwrite(file, data, enforce_file_format=True)
    return file.getvalue()


def compressed(pixels, syntax):
    if syntax in (uid.RLELossless, uid.JPEGLSLossless):
        plain = pydicom.dcmread(io.BytesIO(dicom(pixels)))
        plain.compress(syntax, generate_instance_uid=False)
        return pydicom.encaps.get_frame(plain.PixelData, 0, number_of_frames=1)
    if syntax == uid.JPEGBaseline8Bit:
        flags = [cv2.IMWRITE_JPEG_QUALITY, 95]
        return cv2.imencode(".jpg", pixels[..., ::-1] if pixels.ndim == 3 else pixels, flags)[1].tobytes()
    if syntax in JPEG_LOSSLESS:
        return jpeg(pixels, 8 * pixels.itemsize, JPEG_LOSSLESS[syntax])
    image = pytest.importorskip("PIL.Image").fromarray(pixels)
    file = io.BytesIO()
    image.save(file, "JPEG2000", no_jp2=True)
    return file.getvalue()


def jpeg(pixels, bits, predictor=None):
    """Return what imagecodecs writes: lossless with a predictor, else as good as it can."""
    imagecodecs = pytest.importorskip("imagecodecs")
    lossless = {"lossless": True, "predictor": predictor} if predictor else {"level": 100}
    return imagecodecs.jpeg8_encode(pixels, bitspersample=bits, **lossless)


def decode(data):
    return decode_dicom(data, "x.dcm", 1e6)


def own_range(values):
    return (values - values.min()) / (values.max() - values.min())


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.keyword)
def test_every_lossless_syntax(syntax):
    image = decode(dicom(syntax=syntax))
    assert (image.shape, image.dtype) == (RAMP.shape, np.float32)
    np.testing.assert_allclose(image, RAMP / RAMP.max(), atol=1e-6)
    colour = decode(dicom(COLOUR, syntax))
    np.testing.assert_allclose(colour, COLOUR / 255, atol=1e-6)


def test_jpeg():
    smooth = (RAMP >> 4).astype(np.uint8)
    image = decode(dicom(smooth, uid.JPEGBaseline8Bit))
    np.testing.assert_allclose(image, own_range(smooth.astype(float)), atol=0.03)
    data = dicom(COLOUR, uid.JPEGBaseline8Bit, PhotometricInterpretation="YBR_FULL_422")
    assert np.abs(decode(data) - COLOUR / 255).mean() < 0.04


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("predictor", [1, 4, 7])
def test_jpeg_lossless_of_every_depth(bits, predictor):
    values = (RAMP.astype(float) / RAMP.max() * (2**bits - 1)).astype(np.uint8 if bits == 8 else "u2")
    syntax = uid.JPEGLosslessSV1 if predictor == 1 else uid.JPEGLossless
    frame = jpeg(values, bits, predictor)
    image = decode(dicom(values, syntax, frame, BitsStored=bits, HighBit=bits - 1))
    np.testing.assert_allclose(image, values / values.max(), atol=1e-6)


@pytest.mark.parametrize("syntax", [uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless])
def test_a_compressed_image_is_deeper_than_the_header_says(syntax):
    frame = compressed(RAMP, syntax)
    image = decode(dicom(RAMP, syntax, frame, BitsStored=8, HighBit=7))  # of 16 allocated
    np.testing.assert_allclose(image, RAMP / RAMP.max(), atol=1e-6)
    with pytest.raises(ImageError, match="damaged"):
        decode(dicom(RAMP.astype(np.uint8), syntax, frame))
    with pytest.raises(ImageError, match="damaged"):
        decode(dicom(RAMP[:-1], syntax, frame))


@pytest.mark.parametrize("pixels", [RAMP, COLOUR])
def test_pixels_of_several_frames_under_a_header_of_one(pixels):
    twice = np.concatenate([pixels, pixels]).tobytes()
    with pytest.raises(ImageError, match="damaged"):
        decode(dicom(pixels, PixelData=twice))


@pytest.mark.parametrize("syntax", [uid.JPEGLSLossless, uid.JPEG2000Lossless])
def test_a_compressed_image_is_too_short_for_its_size(monkeypatch, syntax):
    flat = np.zeros_like(RAMP)
    flat[:, 20:] = 1000
    data = dicom(flat, syntax)
    assert decode(data).max() == 1
    monkeypatch.setattr("xray_captioning.data.dicom.pixels._PIXELS", 0)
    monkeypatch.setattr("xray_captioning.data.dicom.pixels._PIXELS_A_BYTE", 2)
    with pytest.raises(ImageError, match="damaged"):
        decode(data)


def test_what_is_saturated_stays_white():
    stored = np.full((348, 348), 200, np.uint8)
    stored[:174], stored[-3:] = 255, 0
    image = decode_image(dicom(stored), "x.dcm", 112)
    assert image.max() == 1


def test_jpeg_lossless_of_signed_values():
    values = RAMP.astype(np.int16) - 1000
    frame = jpeg(values.view(np.uint16), 16, 1)
    image = decode(dicom(values, uid.JPEGLosslessSV1, frame))
    np.testing.assert_allclose(image, own_range(values.astype(float)), atol=1e-6)


def test_jpeg_of_12_bits():
    image = decode(dicom(RAMP, uid.JPEGExtended12Bit, jpeg(RAMP, 12), BitsStored=12, HighBit=11))
    np.testing.assert_allclose(image, own_range(RAMP.astype(float)), atol=0.002)


def test_luminance_and_chrominance_become_rgb():
    ybr = cv2.cvtColor(COLOUR, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]]
    image = decode(dicom(np.ascontiguousarray(ybr), PhotometricInterpretation="YBR_FULL"))
    np.testing.assert_allclose(image, COLOUR / 255, atol=0.02)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
def test_depths_and_signs(dtype):
    span = np.iinfo(dtype)
    values = np.linspace(span.min, span.max, 40 * 48).reshape(40, 48).astype(dtype)
    np.testing.assert_allclose(decode(dicom(values)), own_range(values.astype(float)), atol=1e-6)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_fewer_bits_are_stored_than_allocated(bits):
    values = (RAMP >> (12 - bits) if bits < 12 else RAMP << (bits - 12)).astype(np.uint16)
    image = decode(dicom(values, BitsStored=bits, HighBit=bits - 1))
    np.testing.assert_allclose(image, values / values.max(), atol=1e-6)


def test_bone_is_white_in_monochrome1():
    image = decode(dicom(PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_allclose(image, 1 - RAMP / RAMP.max(), atol=1e-6)


def linear(values, centre, width):
    """DICOM PS3.3 C.11.2.1.2.1, to [0, 1]."""
    return np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (2, -1000), (0.5, 3.5), (-1, 4095)])
def test_rescale_and_window(photometric, slope, intercept):
    centre, width = 1500 * slope + intercept, abs(1000 * slope)
    data = dicom(
        PhotometricInterpretation=photometric,
        RescaleSlope=slope,
        RescaleIntercept=intercept,
        WindowCenter=[centre, 1],
        WindowWidth=[width, 1],
    )
    expected = linear(RAMP * float(slope) + intercept, centre, width)
    inverted = photometric == "MONOCHROME1"
    np.testing.assert_allclose(decode(data), 1 - expected if inverted else expected, atol=1e-6)


def test_window_functions():
    exact = decode(dicom(WindowCenter=2000, WindowWidth=1000, VOILUTFunction="LINEAR_EXACT"))
    np.testing.assert_allclose(exact, np.clip((RAMP - 2000.0) / 1000 + 0.5, 0, 1), atol=1e-6)
    sigmoid = decode(dicom(WindowCenter=2000, WindowWidth=1000, VOILUTFunction="SIGMOID"))
    curve = 1 / (1 + np.exp(-4 * (RAMP - 2000.0) / 1000))
    np.testing.assert_allclose(sigmoid, own_range(curve), atol=1e-6)


def table(values, first, bits, count=None, kind="<u2", signed=False):
    """Return a lookup table of these entries, `count` of which its descriptor speaks of."""
    item = Dataset()
    count = len(values) if count is None else count
    item.add_new("LUTDescriptor", "SS" if signed else "US", [count, first, bits])
    data = np.asarray(values, kind).tobytes()
    item.add_new("LUTData", "OW", data + bytes(len(data) % 2))
    return item


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("syntax", SYNTAXES[:2], ids=lambda syntax: syntax.keyword)
def test_lookup_tables(bits, syntax):
    entries = np.rint(np.linspace(0, 1, 3000) ** 2 * (2**bits - 1)).astype(int)
    expected = own_range(entries[np.clip(RAMP.astype(int) - 100, 0, 2999)])
    for sequence in ("VOILUTSequence", "ModalityLUTSequence"):
        data = dicom(syntax=syntax, **{sequence: [table(entries, 100, bits)]})
        np.testing.assert_allclose(decode(data), expected, atol=1e-6)


def warned(data):
    """Decode, and return the picture and the one reason that is told."""
    with pytest.warns(ImageWarning) as told:
        image = decode(data)
    assert len(told) == 1
    return image, str(told[0].message)


@pytest.mark.parametrize(
    "window",
    [
        {"WindowWidth": 0},
        {"WindowWidth": 0.5},
        {"WindowWidth": 0, "VOILUTFunction": "SIGMOID"},
        {"WindowWidth": -9, "VOILUTFunction": "LINEAR_EXACT"},
        {"WindowWidth": 1000, "VOILUTFunction": "LOG"},
        {"WindowWidth": [0, 0]},
    ],
)
def test_a_window_that_cannot_be_used_is_left_out_and_told(window):
    image, told = warned(dicom(WindowCenter=[2000, 2000], **window))
    np.testing.assert_allclose(image, RAMP / RAMP.max(), atol=1e-6)
    assert told.startswith("x.dcm: its window has no width, or a function that is unknown")


@pytest.mark.parametrize(("centre", "width"), [(30000, 100), (-5000, 50), (-100, 300), (9e9, 1)])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_window_outside_of_the_pixels_is_left_out_and_told(photometric, centre, width):
    elements = {"PhotometricInterpretation": photometric, "RescaleSlope": 2, "RescaleIntercept": 9}
    image, told = warned(dicom(WindowCenter=centre, WindowWidth=width, **elements))
    np.testing.assert_array_equal(image, decode(dicom(**elements)))
    assert "shows none of its pixels" in told
    table_of_one, told = warned(dicom(VOILUTSequence=[table([7] * 9, 0, 12)], **elements))
    np.testing.assert_array_equal(table_of_one, image)
    assert "shows none of its pixels" in told


def test_the_first_window_that_shows_anything_is_taken():
    for centre, width in (([1500, 9, 9], [1000, 9, 9]), ([5, 1500, 2], [0, 1000, 9])):
        image = decode(dicom(WindowCenter=centre, WindowWidth=width))
        np.testing.assert_allclose(image, linear(RAMP.astype(float), 1500, 1000), atol=1e-6)
    image = decode(dicom(WindowCenter=[-9000, 1500], WindowWidth=[10, 1000]))
    np.testing.assert_allclose(image, linear(RAMP.astype(float), 1500, 1000), atol=1e-6)
    threshold = decode(dicom(WindowCenter=1500.5, WindowWidth=1))
    np.testing.assert_array_equal(threshold, RAMP > 1500)


@pytest.mark.parametrize("syntax", SYNTAXES[:3], ids=lambda syntax: syntax.keyword)
def test_a_table_may_begin_with_a_negative_value(syntax):
    entries = np.rint(np.linspace(0, 1, 3000) ** 2 * 4095).astype(int)
    expected = own_range(entries[np.clip(RAMP.astype(int) - 100, 0, 2999)])
    for item in (table(entries, 65536 - 924, 12), table(entries, -924, 12, signed=True)):
        if syntax.is_little_endian:
            data = dicom(syntax=syntax, RescaleIntercept=-1024, RescaleSlope=1, VOILUTSequence=[item])
            np.testing.assert_allclose(decode(data), expected, atol=1e-6)
    values = RAMP.astype(np.int16) - 1024
    if syntax.is_little_endian:
        data = dicom(values, syntax, ModalityLUTSequence=[table(entries, -924, 12, signed=True)])
        np.testing.assert_allclose(decode(data), expected, atol=1e-6)


@pytest.mark.parametrize("size", [2999, 3000])
@pytest.mark.parametrize("signed", [False, True])
def test_a_table_may_hold_bytes(size, signed):
    entries = np.rint(np.linspace(0, 1, size) ** 2 * 255).astype(int)
    expected = own_range(entries[np.clip(RAMP.astype(int) - 100, 0, size - 1)])
    item = table(entries, 100, 8, kind="u1", signed=signed)
    packed = Dataset()  # two to a word, as pydicom reads them where their kind is a word
    packed.add_new("LUTDescriptor", "US", [size, 100, 8])
    padded = np.append(entries, [0] * (size % 2)).astype("u1").view("<u2")
    packed.add_new("LUTData", "US", padded.tolist())
    big = dicom(syntax=uid.ExplicitVRBigEndian, VOILUTSequence=[packed])
    for data in (dicom(VOILUTSequence=[item]), dicom(VOILUTSequence=[packed]), big):
        np.testing.assert_allclose(decode(data), expected, atol=1e-6)


def test_a_table_of_65536_entries_says_that_it_has_none():
    entries = np.arange(65536)[::-1]
    data = dicom(syntax=uid.ImplicitVRLittleEndian, VOILUTSequence=[table(entries, 0, 16, 0)])
    np.testing.assert_allclose(decode(data), 1 - RAMP / RAMP.max(), atol=1e-6)


@pytest.mark.parametrize(
    ("syntax", "high"), [*[(syntax, high) for syntax in SYNTAXES[:5] for high in (13, 15)], (uid.JPEGLSLossless, 15)]
)
def test_pixels_may_lie_in_the_upper_bits_of_their_words(syntax, high):
    words = (RAMP << (high - 11)) | (1 if high == 15 else 0)  # an overlay in the lowest bit
    data = dicom(words, syntax, BitsStored=12, HighBit=high)
    np.testing.assert_allclose(decode(data), RAMP / RAMP.max(), atol=1e-6)
    windowed = dicom(words, syntax, BitsStored=12, HighBit=high, WindowCenter=1500, WindowWidth=1000)
    expected = linear(RAMP.astype(float), 1500, 1000)
    np.testing.assert_allclose(decode(windowed), expected, atol=1e-6)


def test_signed_pixels_in_the_upper_bits():
    values = RAMP.astype(np.int16) - 1800
    data = dicom(values << 4, BitsStored=12, HighBit=15, WindowCenter=-300, WindowWidth=1000)
    np.testing.assert_allclose(decode(data), linear(values.astype(float), -300, 1000), atol=1e-6)


@pytest.mark.parametrize("kind", ["u1", "<u2"])
@pytest.mark.parametrize("size", [255, 256])
def test_palettes(kind, size):
    """C.7.9: what lies beyond the ends of the table takes its first and last entry."""
    colours = np.random.default_rng(0).integers(0, 256, (size, 3))
    if kind == "<u2":
        colours *= 257
    elements = {"PhotometricInterpretation": "PALETTE COLOR"}
    for index, name in enumerate(("Red", "Green", "Blue")):
        item = table(colours[:, index], 1000, 8 if kind == "u1" else 16, kind=kind)
        elements[f"{name}PaletteColorLookupTableDescriptor"] = item.LUTDescriptor
        elements[f"{name}PaletteColorLookupTableData"] = item.LUTData
    expected = colours[np.clip(RAMP.astype(int) - 1000, 0, size - 1)] / (255 if kind == "u1" else 65535)
    np.testing.assert_allclose(decode(dicom(**elements)), expected, atol=1e-6)


def test_a_negative_padding_value_may_be_written_without_its_sign():
    values = RAMP.astype(np.int16) - 1000
    values[:, :5] = -2000
    data = with_bytes(dicom(values, PixelPaddingValue=-2000), b"\x28\x00\x20\x01SS", b"\x28\x00\x20\x01US")
    image = decode(data)
    assert (image[:, :5] == 0).all()
    np.testing.assert_allclose(image[:, 5:], own_range(RAMP[:, 5:].astype(float)), atol=1e-6)


HIGH_THROUGHPUT = [uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K]


@pytest.mark.parametrize("syntax", HIGH_THROUGHPUT, ids=lambda syntax: syntax.keyword)
def test_high_throughput_jpeg_2000(syntax):
    encode = pytest.importorskip("imagecodecs").htj2k_encode
    for pixels in (RAMP, RAMP.astype(np.int16) - 1800, (RAMP >> 4).astype(np.uint8)):
        image = decode(dicom(pixels, syntax, encode(pixels)))
        np.testing.assert_allclose(image, own_range(pixels.astype(float)), atol=1e-6)
    data = dicom(COLOUR, syntax, encode(COLOUR), PhotometricInterpretation="YBR_RCT")
    np.testing.assert_allclose(decode(data), COLOUR / 255, atol=1e-6)


def without_preamble(data, meta=True):
    """Return the file from its first element on, or from the first that describes it."""
    start = 132
    while not meta and data[start : start + 2] == b"\2\0":
        wide = data[start + 4 : start + 6] in (b"OB", b"OW", b"UN")
        size = struct.unpack_from("<I" if wide else "<H", data, start + (8 if wide else 6))[0]
        start += size + (12 if wide else 8)
    return data[start:]


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.keyword)
def test_a_file_without_its_preamble(tmp_path, syntax):
    whole = dicom(syntax=syntax, ViewPosition="LL")
    cut = [without_preamble(whole), b"DICM" + without_preamble(whole)]
    if syntax in SYNTAXES[:2]:
        cut.append(without_preamble(whole, meta=False))
        assert cut[-1].startswith(b"\x08\0\x16\0")
    path = tmp_path / "scan"
    for data in cut:
        np.testing.assert_array_equal(decode(data), decode(whole))
        assert view_of(data) == "lateral"
        path.write_bytes(data)
        np.testing.assert_array_equal(read_image(path, 16), read_image(whole, 16))


def test_padding_is_black_and_does_not_count():
    padded = RAMP.copy()
    padded[:, :5] = 65535
    for photometric, sign in (("MONOCHROME2", 1), ("MONOCHROME1", -1)):
        data = dicom(padded, PixelPaddingValue=65535, PhotometricInterpretation=photometric)
        image = decode(data)
        assert (image[:, :5] == 0).all()
        np.testing.assert_allclose(image[:, 5:], own_range(RAMP[:, 5:] * float(sign)), atol=1e-6)
    ranged = dicom(padded, PixelPaddingValue=65535, PixelPaddingRangeLimit=65000)
    assert (decode(ranged)[:, :5] == 0).all()
    assert not decode(dicom(np.full_like(RAMP, 9), PixelPaddingValue=9)).any()
    black = decode(dicom(PixelPaddingValue=500, PixelPaddingRangeLimit=0))
    least = RAMP[RAMP > 500].min()
    np.testing.assert_array_equal(black == 0, least >= RAMP)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_an_image_of_one_value_is_black(photometric):
    data = dicom(np.full_like(RAMP, 700), PhotometricInterpretation=photometric)
    assert not decode(data).any()


def test_images_read_it_like_any_other(tmp_path):
    path = tmp_path / "scan.dcm"
    path.write_bytes(dicom())
    image = read_image(path, size=16)
    assert (image.shape, image.dtype) == ((16, 16, 3), np.float32)
    small = cv2.resize((RAMP / RAMP.max()).astype(np.float32), (16, 16), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(image, np.repeat(small[..., None], 3, axis=2), atol=1e-6)
    nearest = decode_image(dicom(COLOUR), "x", size=48, resize="nearest")
    expected = cv2.resize(COLOUR, (48, 48), interpolation=cv2.INTER_NEAREST) / 255
    np.testing.assert_allclose(nearest, expected, atol=1e-6)
    many = read_images([path] * 20, size=16)
    np.testing.assert_array_equal(many, np.stack([image] * 20))


def test_files_are_found_and_a_converted_copy_is_preferred(tmp_path):
    for name in ("a.dcm", "b.DICOM", "c.dcm", "c.dcm.png"):
        (tmp_path / name).write_bytes(b"")
    finder = ImageFinder(tmp_path)
    found = [os.path.basename(finder.find(key)) for key in "abc"]
    assert found == ["a.dcm", "b.DICOM", "c.dcm.png"]


# --- the view


VIEWS = {
    "frontal": ["PA", "AP", "pa ", "AP SUPINE", "FRONTAL"],
    "lateral": ["LL", "RL", "LATERAL", "Left Lateral", "LAT"],
    "unknown": ["", "LLD", "RLD", "LAO", "RPO", "L LAT DECUBITUS", "PA AND LATERAL", "XAPX"],
}


@pytest.mark.parametrize("syntax", SYNTAXES[:4], ids=lambda syntax: syntax.keyword)
def test_view(tmp_path, syntax):
    path = tmp_path / "scan.dcm"
    for view, positions in VIEWS.items():
        for position in positions:
            data = dicom(syntax=syntax, ViewPosition=position)
            path.write_bytes(data)
            assert view_of(path) == view_of(data) == view, position


def test_view_needs_no_pixels_and_never_complains(tmp_path, monkeypatch):
    data = dicom(ViewPosition="PA")
    monkeypatch.setattr(pydicom.pixels, "pixel_array", lambda *_: pytest.fail("were decoded"))
    assert view_of(data[: len(data) // 2]) == "frontal"
    unreadable = [dicom(), data[:140], b"", b"\x89PNG\r\n\x1a\n", tmp_path, tmp_path / "absent"]
    assert {view_of(source) for source in unreadable} == {"unknown"}


def test_frontal_views_come_first_and_lateral_ones_last(tmp_path):
    lateral, frontal, unknown = (dicom(ViewPosition=word) for word in ("LL", "PA", ""))
    assert arranged([lateral, frontal], 2) == [frontal, lateral]
    assert arranged([lateral, unknown], 2) == [unknown, lateral]
    assert arranged([unknown, frontal], 2) == [frontal, unknown]
    assert arranged([lateral], 2) == [None, lateral]
    assert arranged([lateral], 1) == [lateral]
    assert arranged([lateral], 2, ["frontal"]) == [lateral]  # what is given counts for more
    path = tmp_path / "scan.dcm"
    path.write_bytes(frontal)
    assert arranged([lateral, path], 2) == [path, lateral]
    pixels = np.zeros((4, 4, 3), np.float32)
    assert arranged([lateral, pixels], 2)[0] is pixels
    with pytest.raises(ImageError, match=r"2 images \(frontal, frontal\).*one frontal and one lat"):
        arranged([frontal, path], 2)


def test_training_and_captioning_put_a_dicom_file_in_the_same_place(tmp_path):
    """A table without views: the model is trained on what it is later asked about."""
    import pandas as pd

    paths = [str(tmp_path / name) for name in ("a.dcm", "b.dcm")]
    for path, view in zip(paths, ("LL", "PA")):
        Path(path).write_bytes(dicom(ViewPosition=view))
    rows = [(paths, ["unknown"] * 2), (paths[:1], ["unknown"]), (paths[:1], ["frontal"])]
    table = pd.DataFrame(rows, columns=["images", "views"])
    expected = [paths[::-1], [None, paths[0]], paths[:1]]
    assert study_images(table, Config()) == expected
    assert [arranged(images, 2) for images, _ in rows[:2]] == expected[:2]


def test_images_that_name_no_view_stay_in_their_order(tmp_path):
    given = ["b.png", str(tmp_path / "absent.dcm"), b"\x89PNG", dicom(), "a.png"]
    assert arranged(given, 5) == given
    assert arranged([None, "a.png"], 2) == [None, "a.png"]


# --- files that cannot be used


def with_bytes(data, old, new):
    assert data.count(old) == 1
    return data.replace(old, new)


def forged(dataset):
    """Write a Deflated file of any content."""
    start = dicom(syntax=uid.DeflatedExplicitVRLittleEndian)
    head = start.index(b"1.2.840.10008.1.2.1.99") + 22
    while start[head : head + 2] == b"\x02\x00":
        head += 8 + struct.unpack_from("<H", start, head + 6)[0]
    packer = zlib.compressobj(9, wbits=-15)
    return start[:head] + packer.compress(dataset) + packer.flush()


def said_longer(data):
    """The pixels are all there, but their element claims more: what it holds may be others'."""
    at = data.index(struct.pack("<HH", 0x7FE0, 0x0010)) + 8
    return data[:at] + struct.pack("<I", struct.unpack_from("<I", data, at)[0] + 2) + data[at + 4 :]


SIZE_IN_JPEG, LARGER = struct.pack(">HH", 40, 48), struct.pack(">HH", 1001, 1000)
RLE_LONG = struct.pack("<16I", 2, 64, 64, *[0] * 13) + b"\x81\x00" * 100
RLE_PADDED = compressed(RAMP, uid.RLELossless) + b"\x80" * 5000  # which means nothing
SCANS = compressed(COLOUR, uid.JPEGBaseline8Bit)
SCANS = SCANS[:-2] + SCANS[SCANS.rindex(b"\xff\xda") : -2] * 100 + SCANS[-2:]
UNUSABLE = {
    "half": (dicom()[: len(dicom()) // 2], "truncated"),
    "before the pixels": (dicom()[:400], "truncated"),
    "said to be longer": (said_longer(dicom()), "truncated or damaged"),
    "last bytes": (dicom()[:-2], "truncated"),
    "header only": (dicom()[:132], "without an image, or cut"),
    "no pixels": (dicom(PixelData=b""), "without an image"),
    "no rows": (dicom(Rows=0), "without an image"),
    "too few pixels": (dicom(Rows=4000), "truncated or damaged"),
    "frames": (dicom(NumberOfFrames=3), "holds 3 frames; export one frame"),
    "palette": (dicom(PhotometricInterpretation="PALETTE COLOR"), "truncated or damaged"),
    "ybr partial": (dicom(PhotometricInterpretation="YBR_PARTIAL_420"), "neither grey nor RGB"),
    "samples": (dicom(SamplesPerPixel=3, PlanarConfiguration=0), "neither grey nor RGB"),
    "bits": (dicom(BitsAllocated=32, BitsStored=32), "neither 8 nor 16"),
    "large": (dicom(Rows=1001, Columns=1000), "1000 x 1001 pixels.*raise the limit"),
    "syntax": (dicom(syntax=uid.MPEG2MPML, frame=b"12"), "compressed as MPEG2.*uncompressed"),
    "words": (with_bytes(dicom(WindowCenter=12345678, WindowWidth=9), b"12345678", b"Doe^Jane"), "damaged"),
    "infinite": (dicom(RescaleSlope="1e305", RescaleIntercept="-1e308"), "damaged"),
    "short table": (dicom(VOILUTSequence=[table(range(300), 0, 12, count=400)]), "damaged"),
    "one value": (dicom(np.full_like(RAMP, 700)), r"one value .*shows nothing"),
    "cut jpeg": (dicom(COLOUR, uid.JPEGBaseline8Bit, compressed(COLOUR, uid.JPEGBaseline8Bit)[:400]), "damaged"),
    "cut lossless": (dicom(syntax=uid.JPEGLosslessSV1, frame=jpeg(RAMP, 16, 1)[:400]), "damaged"),
    "larger inside, lossless": (
        dicom(syntax=uid.JPEGLosslessSV1, frame=with_bytes(jpeg(RAMP, 16, 1), SIZE_IN_JPEG, LARGER)),
        "1000 x 1001 pixels",
    ),
    "larger inside": (
        dicom(COLOUR, uid.JPEGBaseline8Bit, with_bytes(compressed(COLOUR, uid.JPEGBaseline8Bit), SIZE_IN_JPEG, LARGER)),
        "1000 x 1001 pixels",
    ),
    "many scans": (dicom(COLOUR, uid.JPEGBaseline8Bit, SCANS, PhotometricInterpretation="YBR_FULL_422"), "damaged"),
    "rle of nothing": (dicom(syntax=uid.RLELossless, frame=RLE_PADDED), "damaged"),
    "rle of too many": (dicom(syntax=uid.RLELossless, frame=RLE_LONG), "damaged"),
    "deflated too well": (forged(bytes(8_100_000)), "damaged"),
    "cut deflate": (dicom(syntax=uid.DeflatedExplicitVRLittleEndian)[:-200], "damaged"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable_files_are_one_error_that_tells_nothing(tmp_path, case, caplog, capfd):
    data, message = UNUSABLE[case]
    path = tmp_path / "scan 1.dcm"
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match=message) as caught:
            decode_image(path.read_bytes(), str(path), max_pixels=1e6)
    assert str(caught.value).startswith(f"{path}: ")
    told = "".join(traceback.format_exception(caught.value)) + caplog.text + "".join(capfd.readouterr())
    assert "\n" not in str(caught.value)
    assert caplog.text == ""
    assert "Doe" not in told
    assert "MRN" not in told


def test_enormous_image_is_refused_before_decoding(monkeypatch):
    monkeypatch.setattr(pydicom.pixels, "pixel_array", lambda *_: pytest.fail("was decoded"))
    with pytest.raises(ImageError, match="48 x 40 pixels are more than the limit of 100"):
        decode_dicom(dicom(), "x", 100)


def test_process_is_left_as_it_was():
    log, filters = logging.getLogger("pydicom"), list(warnings.filters)
    level = log.level
    for data in (dicom(), dicom()[:300]):
        with pytest.raises(ImageError) if len(data) == 300 else warnings.catch_warnings():
            decode(data)
    assert log.level == level
    assert filters == list(warnings.filters)


def test_without_pydicom(monkeypatch):
    data = dicom()
    monkeypatch.setitem(sys.modules, "pydicom.pixels", None)
    for use in (decode, view_of):
        with pytest.raises(MissingExtraError, match=r"pip install 'xray-captioning\[dicom\]'"):
            use(data)
    assert view_of(b"\xff\xd8\xff") == "unknown"


WHOLE = [
    *[dicom(syntax=syntax, WindowCenter=2000, WindowWidth=1000) for syntax in SYNTAXES],
    dicom(COLOUR, uid.JPEGBaseline8Bit, PhotometricInterpretation="YBR_FULL_422"),
    dicom(VOILUTSequence=[table(range(300), 0, 12)], PixelPaddingValue=0),
    without_preamble(dicom(WindowCenter=[0, 9000], WindowWidth=[0, 9], RescaleSlope=2)),
    without_preamble(dicom(syntax=uid.ImplicitVRLittleEndian), meta=False),
]


@pytest.mark.filterwarnings("ignore::xray_captioning.data.levels.ImageWarning")
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    start=st.sampled_from(WHOLE),
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), max_size=6),
    early=st.booleans(),
    end=st.integers(0, 10**6) | st.none(),
)
def test_damaged_bytes_decode_or_raise_one_error(start, flips, early, end):
    data = bytearray(start)
    for at, mask in flips:  # half of them among the elements before the pixels
        data[132 + at % ((700 if early else len(data)) - 132)] ^= mask
    cut = bytes(data[: 132 + end % len(data) if end is not None else None])
    assert view_of(cut) in ("frontal", "lateral", "unknown")
    try:
        image = decode(cut)
    except ImageError as error:
        assert "\n" not in str(error)  # noqa: PT017
        assert "Doe" not in str(error)  # noqa: PT017
    else:
        assert image.dtype == np.float32
        assert 0 <= image.min() <= image.max() <= 1


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_noise_is_no_image(noise):
    with pytest.raises(ImageError):
        decode(bytes(128) + b"DICM" + noise)


# --- pydicom's own samples, as far as they come with it


READABLE = [
    "JPEG-lossy.dcm",
    "JPGExtended.dcm",
    "693_J2KI.dcm",
    "CT_small.dcm",
    "ExplVR_BigEnd.dcm",
    "J2K_pixelrep_mismatch.dcm",
    "JPEG2000.dcm",
    "JPEGLSNearLossless_16.dcm",
    "SC_rgb_gdcm_KY.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "SC_rgb_rle_16bit.dcm",
    "SC_rgb_small_odd.dcm",
    "SC_ybr_full_422_uncompressed.dcm",
    "examples_overlay.dcm",
    "examples_palette.dcm",
    "image_dfl.dcm",
]


def sample(name):
    path = pydicom.data.get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"{name} does not come with this pydicom")
    with open(path, "rb") as file:
        return file.read()


@pytest.mark.parametrize("name", READABLE)
def test_samples(name):
    image = decode(sample(name))
    assert image.min() < 0.3
    assert image.max() > 0.6
    assert image.std() > 0.05


@pytest.mark.parametrize("name", ["bigendian", "expb", "implicit", "jp2klossless", "jpeg_ls_lossless", "RLE", "padded"])
def test_samples_of_one_image_in_several_syntaxes(name):
    reference = decode(sample("MR_small.dcm"))
    np.testing.assert_array_equal(decode(sample(f"MR_small_{name}.dcm")), reference)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("MR_truncated.dcm", "truncated"),
        ("SC_rgb_rle_2frame.dcm", "2 frames"),
        ("JPEG2000-embedded-sequence-delimiter.dcm", "pixels are more"),
        ("liver_1frame.dcm", "neither 8 nor 16"),
        ("rtplan.dcm", "without an image"),
        ("meta_missing_tsyntax.dcm", "without an image"),
    ],
)
def test_samples_that_cannot_be_used(name, message):
    with pytest.raises(ImageError, match=message):
        decode(sample(name))
