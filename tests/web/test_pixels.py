"""What the page's own readers make of files is what `read_image` makes of them, to 1e-6 of white."""

import io
import struct
import zlib

import numpy as np
import pytest

from tests.web.node import node
from xray_captioning.data.images import read_image
from xray_captioning.data.resizing import opencv
from xray_captioning.data.studies import named_view
from xray_captioning.errors import ImageError

pydicom = pytest.importorskip("pydicom")
RNG = np.random.default_rng(0)
SIZE = 32
PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
KINDS = [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2), (1, 3), (2, 3), (4, 3), (8, 3)]
KINDS += [(8, 4), (16, 4), (8, 6), (16, 6)]  # bits and colour type

READ = """
const { readImage, modelPixels } = await load("image.js");
const found = {};
for (const name of given) {
  try {
    const image = await readImage(new Uint8Array(fs.readFileSync(name)));
    fs.writeFileSync(name + ".pixels", new Uint8Array(modelPixels(image, 32, "area").buffer));
    found[name] = { notes: image.notes, view: image.view };
  } catch (error) {
    found[name] = { error: error.constructor.name === "ReadError" ? error.message : error.stack };
  }
}
return found;
"""


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(bits, colour, interlaced=False, *more):
    """A PNG of random bytes, lines of every filter."""
    width, height, lines = 53, 41, b""
    for x, y, right, down in PASSES if interlaced else [(0, 0, 1, 1)]:
        wide, high = -(-(width - x) // right), -(-(height - y) // down)
        for _ in range(high):
            lines += bytes([RNG.integers(5)]) + RNG.bytes(-(-wide * bits * CHANNELS[colour] // 8))
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    parts = [(b"IHDR", header), *more, (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def pngs():
    for bits, colour in KINDS:
        palette = [(b"PLTE", RNG.bytes(3 * 2**bits))] if colour == 3 else []
        clear = {0: b"\0\1", 2: b"\0\1" * 3, 3: RNG.bytes(max(1, 2**bits - 1))}.get(colour)
        for interlaced in (False, True):
            yield f"png {bits} {colour} {interlaced}", png(bits, colour, interlaced, *palette)
            if clear:
                yield (
                    f"png {bits} {colour} {interlaced} clear",
                    png(bits, colour, interlaced, *palette, (b"tRNS", clear)),
                )
    for way in range(1, 9):
        exif = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 274, 3, 1, way, 0, 0)
        yield f"png turned {way}", png(8, 0, False, (b"eXIf", exif))
    few = RNG.integers(0, 3000, (70, 60)).astype("uint16")
    yield "png of 12 bits", bytes(opencv().imencode(".png", few)[1])
    yield "png faint", bytes(opencv().imencode(".png", (few // 300 + 90).astype("uint8"))[1])


def dicom(pixels, syntax, **elements):
    data, bits = pydicom.Dataset(), 8 * pixels.itemsize
    data.SOPClassUID = data.SOPInstanceUID = "1.2.3"
    data.Rows, data.Columns, data.SamplesPerPixel = (
        *pixels.shape[:2],
        pixels.size // (pixels.shape[0] * pixels.shape[1]),
    )
    data.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    data.BitsAllocated, data.BitsStored, data.HighBit = bits, bits, bits - 1
    data.PixelRepresentation, data.PlanarConfiguration = int(pixels.dtype.kind == "i"), 0
    for name, value in elements.items():
        setattr(data, name, value)
    data.PixelData = pixels.tobytes() + bytes(pixels.nbytes % 2)
    data["PixelData"].VR = "OB" if bits == 8 else "OW"
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    file = io.BytesIO()
    pydicom.dcmwrite(file, data, enforce_file_format=True)
    return file.getvalue()


def table(first, bits, entries, kind="US"):
    item = pydicom.Dataset()
    item.add_new(0x00283002, kind, [len(entries), first, bits])
    item.add_new(0x00283006, "OW", entries.tobytes())
    return pydicom.Sequence([item])


def dicoms(syntax):
    grey, deep = RNG.integers(0, 256, (50, 61)).astype("uint8"), RNG.integers(0, 4096, (50, 61)).astype("uint16")
    signed, colour = (
        RNG.integers(-2000, 2000, (50, 61)).astype("int16"),
        RNG.integers(0, 256, (50, 61, 3)).astype("uint8"),
    )
    steps = np.sort(RNG.integers(0, 4096, 1024)).astype("uint16")
    inverted = {"PhotometricInterpretation": "MONOCHROME1"}
    window = {"WindowCenter": ["90000", "2000", "1000"], "WindowWidth": ["10", "1500", "300"]}
    yield "8 bits", dicom(grey, syntax)
    yield "12 of 16 bits", dicom(deep, syntax, BitsStored=12, HighBit=11)
    yield "upper bits", dicom(deep << 4, syntax, BitsStored=12, HighBit=15)
    yield "unused bits", dicom(signed & 0x1FFF | 0x6000, syntax, BitsStored=12, HighBit=11)
    yield "inverted", dicom(deep, syntax, **inverted)
    plain = dicom(deep, syntax, BitsStored=12, HighBit=11)
    yield "an element without its kind", plain.replace(b"\x28\0\x01\x01US\2\0", b"\x28\0\x01\x01\2\0\0\0")
    yield (
        "rescaled",
        dicom(signed, syntax, RescaleSlope="1.5", RescaleIntercept="-1024", WindowCenter="40", WindowWidth="400"),
    )
    for function in ("LINEAR", "LINEAR_EXACT", "SIGMOID", "ODD"):
        yield f"window {function}", dicom(deep, syntax, VOILUTFunction=function, **window)
    yield "window without width", dicom(deep, syntax, WindowCenter="2000", WindowWidth="0")
    yield "window beside", dicom(deep, syntax, WindowCenter="20000", WindowWidth="10")
    yield "padding", dicom(deep, syntax, PixelPaddingValue=0, PixelPaddingRangeLimit=600, **window, **inverted)
    yield "signed padding", dicom(signed, syntax, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1500)
    yield "table", dicom(deep, syntax, VOILUTSequence=table(500, 12, steps))
    yield "signed table", dicom(signed, syntax, VOILUTSequence=table(-500, 12, steps, "SS"))
    yield "table of bytes", dicom(deep, syntax, VOILUTSequence=table(500, 8, (steps >> 4).astype("uint8")))
    yield "two tables", dicom(deep, syntax, ModalityLUTSequence=table(500, 12, steps), **window)
    yield "colour", dicom(colour, syntax)
    yield "planes", dicom(colour, syntax, PlanarConfiguration=1)
    yield "lateral", dicom(grey, syntax, ViewPosition="LL")


def files():
    yield from pngs()
    for kind in ("Implicit", "Explicit"):
        for name, content in dicoms(getattr(pydicom.uid, f"{kind}VRLittleEndian")):
            yield f"{kind} {name}", content


def test_pixels_and_notices_are_those_of_read_image(tmp_path):
    given = dict(files())
    for name, content in given.items():
        (tmp_path / name).write_bytes(content)
    found = node(tmp_path, READ, list(given))
    for name, content in given.items():
        told = []
        expected = read_image(content, SIZE, note=lambda _, what, told=told: told.append(what))
        assert "error" not in found[name], (name, found[name])
        pixels = np.frombuffer((tmp_path / f"{name}.pixels").read_bytes(), "float32")
        np.testing.assert_allclose(pixels.reshape(expected.shape), expected, atol=1e-6, rtol=0, err_msg=name)
        assert [note[:40] for note in found[name]["notes"]] == [note[:40] for note in told], name
        assert found[name]["view"] == ("lateral" if "lateral" in name else "unknown")


def test_bad_files_are_refused_in_one_line(tmp_path):
    whole, cut = png(8, 0), dicom(np.eye(40, dtype="uint8"), pydicom.uid.ExplicitVRLittleEndian)
    given = {
        "empty": (b"", "is empty"),
        "text": (b"a text that is no image at all", "is none of PNG, JPEG and DICOM"),
        "cut": (whole[:-40], "is truncated or damaged PNG"),
        "altered": (whole[:60] + b"xx" + whole[62:], "is truncated or damaged PNG"),
        "cut DICOM": (cut[:-99], "is truncated or damaged DICOM"),
        "flat": (
            bytes(opencv().imencode(".png", np.full((9, 9), 7, "uint8"))[1]),
            "all of its pixels have one value (7)",
        ),
        "frames": (
            dicom(np.eye(40, dtype="uint8"), pydicom.uid.ExplicitVRLittleEndian, NumberOfFrames=2),
            "holds 2 frames",
        ),
        "swapped": (cut.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0"), "byte-swapped DICOM"),
    }
    for name, (content, _) in given.items():
        (tmp_path / name).write_bytes(content)
    found = node(tmp_path, READ, list(given))
    for name, (content, said) in given.items():
        assert said in found[name]["error"], (name, found[name])
        assert "\n" not in found[name]["error"]
        if name != "swapped":  # which Python reads
            with pytest.raises(ImageError):
                read_image(content)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_resizing_is_opencvs(tmp_path, kind):
    from xray_captioning.data.resizing import resized

    most, jobs, expected = {"uint8": 255, "uint16": 65535, "float32": 1}[kind], [], []
    for rule in ("area", "linear", "nearest"):
        for shape in ((97, 131), (60, 301), (50, 33, 3), (224, 112), (224, 112, 3), (336, 224), (113, 112)):
            image = (RNG.random(shape) * most).astype(kind)
            (tmp_path / f"{len(jobs)}").write_bytes(image.tobytes())
            jobs.append([str(len(jobs)), shape[1], shape[0], 3 if len(shape) > 2 else 1, rule])
            expected.append(resized(image, 56, rule, most))
    code = f"""
const {{ resized }} = await load("resize.js");
const Kind = {{ uint8: Uint8Array, uint16: Uint16Array, float32: Float32Array }}["{kind}"];
for (const [name, width, height, channels, rule] of given) {{
  const data = new Kind(new Uint8Array(fs.readFileSync(name)).buffer);
  fs.writeFileSync(name, new Uint8Array(resized({{ data, width, height, channels }}, 56, 56, rule).data.buffer));
}}
return null;
"""
    node(tmp_path, code, jobs)
    for (name, *job), other in zip(jobs, expected, strict=True):
        found = np.frombuffer((tmp_path / name).read_bytes(), kind).reshape(other.shape)
        # Where it enlarges 16 bits OpenCV rounds some halves another way: one of 65,535.
        enlarged = job[-1] == "linear" or min(job[:2]) < 56
        away = {"uint8": 0, "uint16": int(enlarged), "float32": 1e-6}[kind]
        np.testing.assert_allclose(found.astype(float), other.astype(float), atol=away, rtol=0, err_msg=str(job))


def test_views_have_the_names_that_python_knows(tmp_path):
    words = [
        "PA",
        "AP SUPINE",
        "Postero-anterior",
        "ANTERO POSTERIOR",
        "P.A.",
        "A.P. erect",
        "face",
        "Profil",
        "LL",
        "L",
    ]
    words += ["LATERAL DECUBITUS", "AP/LAT", "oblique PA", "P.A. and lateral", "", "VIEW 1", "posteroanterior", "Lat."]
    found = node(tmp_path, 'const { namedView } = await load("dicom.js"); return given.map(namedView);', words)
    assert found == [named_view(word) for word in words]
    assert found[:10] == ["frontal"] * 7 + ["lateral"] * 3
