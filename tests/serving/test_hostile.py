"""Whatever is sent, the answer is a problem document, and the next good request is captioned."""

import json
import time

import numpy as np
import pytest

from .parts import GREY, black, body, chunk, dicom, encoded, exchange, form, post, serving

pytestmark = pytest.mark.usefixtures("eagerly")

pytestmark = pytest.mark.slow
WITHIN = 20.0  # seconds; the limit of a request, on a machine that has other things to do
FLIPS, CUTS = 24, 16


def cuts(name, data):
    places = np.unique(np.linspace(0, len(data) - 1, CUTS).astype(int))
    return [(f"{name} cut at {at}", data[:at]) for at in places]


def flips(name, data, seed, where=slice(None)):
    """Flip a bit in each copy; `where` is the part whose damage must be found out."""
    rng = np.random.default_rng(seed)
    found = []
    for at in rng.choice(np.arange(len(data))[where], FLIPS):
        bit = int(rng.integers(8))
        broken = data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]
        found.append((f"{name} bit {bit} of {at}", broken))
    return found


def png_chunks():
    """Chunks that lie with a checksum that does not."""
    start, end = b"\x89PNG\r\n\x1a\n", chunk(b"IEND", b"")
    header = b"\0\0\0\x40\0\0\0\x40\x08\0\0\0\0"
    cases = {
        "no header": start + end,
        "no data": start + chunk(b"IHDR", header) + end,
        "bad data": start + chunk(b"IHDR", header) + chunk(b"IDAT", b"not zlib") + end,
        "no width": start + chunk(b"IHDR", bytes(4) + header[4:]) + chunk(b"IDAT", b"") + end,
        "long": start + b"\xff\xff\xff\xffIHDR" + header,
        "depth": start + chunk(b"IHDR", header[:8] + b"\x63\0\0\0\0") + chunk(b"IDAT", b"") + end,
    }
    return [(f"png with {name}", data) for name, data in cases.items()]


def too_large():
    """Images that are, or say that they are, a little above the megapixel that is allowed here, or strips."""
    found = [(f"png of {w} x {h}", black(w, h)) for w, h in [(1001, 1000), (1000, 1001), (1, 11), (33, 3)]]
    for rows, columns in [(1001, 1000), (1000, 1001), (1, 11), (11, 1), (0, 5)]:
        found.append((f"dicom of {rows} x {columns}", dicom(Rows=rows, Columns=columns)))
    found += [(f"dicom of {n} frames", dicom(NumberOfFrames=n)) for n in (2, 1000)]
    jpeg = encoded(".jpg")
    at = jpeg.index(b"\xff\xc0") + 5
    for size in (b"\3\xe9\3\xe8", b"\0\0\0\0", b"\0\x0b\0\1", b"\0\1\0\x0b"):
        found.append((f"jpeg of {size.hex()}", jpeg[:at] + size + jpeg[at + 4 :]))
    return found


def other_kinds():
    texts = ["", "\0", "GIF89a", "BM", "%PDF-1.7", "PK\3\4", "<svg/>", "<?xml?>", "RIFF", "II*\0"]
    texts += ["#!/bin/sh", "cbuiltins\nlen\n(S'true'\ntR.", "\x7fELF", "{}", "a" * 1000]
    found = [(f"not an image: {text[:8]!r}", text.encode("latin-1")) for text in texts]
    found += [(f"{n} bytes of 255", b"\xff" * n) for n in (1, 2, 3, 131, 132, 1000)]
    found.append(("only a preamble", bytes(128) + b"DICM"))
    found += [("dicom of noise", bytes(128) + b"DICM" + np.random.default_rng(9).bytes(2000))]
    return found


def files():
    """Return names and contents of files that are no image."""
    noise = np.random.default_rng(3).integers(0, 256, (64, 64), dtype=np.uint8)
    png, jpeg, medical = encoded(".png", noise), encoded(".jpg", noise), dicom(noise)
    found = other_kinds() + png_chunks() + too_large()
    for name, data in [("png", png), ("jpeg", jpeg), ("dicom", medical)]:
        found += cuts(name, data)
    found += flips("png", png, 0)  # every bit is under a checksum
    found += flips("dicom magic", medical, 1, slice(128, 132))
    found += flips("jpeg magic", jpeg, 2, slice(0, 3))
    return found


def maybe_files():
    """Return files of which some can still be read: there is no checksum in them."""
    noise = np.random.default_rng(4).integers(0, 256, (64, 64), dtype=np.uint8)
    return [
        *flips("jpeg", encoded(".jpg", noise), 5),
        *flips("dicom head", dicom(noise), 6, slice(132, 700)),
        *flips("dicom pixels", dicom(noise), 7, slice(800, None)),
    ]


def forms():
    """Return names and what Flask's client is given; nothing of it is a good request."""
    good, kind = encoded(), "multipart/form-data; boundary=part"
    whole = body(good)
    texts = ["-1", "0", "1e3", "0x2", "NaN", "9" * 5000, "1;2", "'", "\0", "²", "true", " 1", "1 "]
    found = [(f"{f}={t[:9]!r}", form([good], **{f: t})) for f in ("beam_size",) for t in texts]
    found += [(f"threshold={t[:9]!r}", form([good], threshold=t)) for t in texts if t != "0"]
    found += [(f"alternatives={t[:9]!r}", form([good], alternatives=t)) for t in texts if t != "0"]
    names = ["image", "Images", "images[]", "images.1", "images.02", "images.9999", "__class__", ""]
    names += ["../../other", "images\0", "x" * 5000]
    found += [(f"field {name[:12]!r}", form([good], **{name: "1"})) for name in names]
    found += [(f"{n} files", form([good] * n)) for n in (0, 3, 90, 150)]
    found.append(("a huge field", form([good], beam_size="1" * 1_500_000)))
    found.append(("a huge file", form([bytes(3 << 20)])))
    for start, end in [(0, 20), (0, len(whole) // 2), (10, None), (0, len(whole) - 12)]:
        found.append((f"part {start}:{end}", {"data": whole[start:end], "content_type": kind}))
    kinds = ["", "image/png", "application/json", "multipart/form-data", "multipart/mixed; boundary=x"]
    kinds += [kind + "x", "multipart/form-data; boundary=" + "y" * 5000, "text/plain", "\x7f"]
    found += [(f"type {k[:30]!r}", {"data": whole, "content_type": k}) for k in kinds]
    return found


def test_there_are_enough():
    assert len(files()) + len(maybe_files()) + len(forms()) + len(tricks()) >= 300


def well(client, study):
    answer = client.post("/v1/captions", **form(study))
    assert client.get("/healthz").status_code == 200
    return answer.status_code == 200 and answer.json["text"]


def check(answer, name, begun, statuses):
    assert time.monotonic() - begun < WITHIN, name
    assert answer.status_code in statuses, (name, answer.status_code, answer.text)
    if answer.status_code != 200:
        assert answer.content_type == "application/problem+json", name
        document = json.loads(answer.text)
        assert document["status"] == answer.status_code
        assert len(document["detail"]) < 300, name


def test_files_that_are_no_images(client, study):
    for number, (name, data) in enumerate(files()):
        begun = time.monotonic()
        check(client.post("/v1/captions", **form([data])), name, begun, {413, 415, 422})
        assert number % 12 or well(client, study), name
    assert well(client, study)


def test_files_that_may_be_images(client, study):
    for name, data in maybe_files():
        begun = time.monotonic()
        check(client.post("/v1/captions", **form([data])), name, begun, {200, 415, 422})
    assert well(client, study)


def test_a_bad_file_beside_a_good_one(client, study):
    for name, data in files()[::9]:
        begun = time.monotonic()
        check(client.post("/v1/captions", **form([study[0], data])), name, begun, {413, 422})
        check(client.post("/v1/captions", **form(study, images_2=[data])), name, begun, {413, 422})
    assert well(client, study)


def test_forms_that_are_none(client, study):
    for name, request in forms():
        begun = time.monotonic()
        check(client.post("/v1/captions", **request), name, begun, {400, 413, 415, 422})
    assert well(client, study)


def tricks():
    return [
        *["../../../other", "/nowhere/other", "C:\\x.png", "a\0b.png", "x" * 3000, "|true", "$(true)"],
        *["%2e%2e%2f", "..\\..\\x", "<b>.png", "\u202egnp.exe", "CON", "~/.ssh/id", "a;b", "&#0;"],
    ]


@pytest.mark.parametrize("name", tricks(), ids=lambda name: ascii(name)[:20])
def test_names_of_files_are_not_used(client, study, name, capsys):
    import io

    data = {"images": [(io.BytesIO(file), name) for file in study]}
    answer = client.post("/v1/captions", data=data)
    assert answer.status_code == 200
    assert name not in answer.text + capsys.readouterr().err


def test_names_in_the_address(client):
    paths = ["/../nowhere", "/%2e%2e/x", "/v1//model", "/v1/captions/../../x", "/static/x"]
    for path in [*paths, "/\0"]:
        check(client.get(path), path, time.monotonic(), {404, 405})


def test_bit_flips_of_whole_requests(app, settings, study):
    whole = post(body(*study))
    with serving_of(app, settings) as port:
        for name, request in flips("request", whole, 8, slice(0, 260)):
            begun = time.monotonic()
            status, answer = exchange(port, request, end=True)
            assert time.monotonic() - begun < WITHIN, name
            assert status == 200 or 400 <= status < 500 or status == 501, (name, answer[:300])
        assert exchange(port, whole)[0] == 200


def serving_of(app, settings):
    """Serve an application that other tests go on using."""
    from contextlib import contextmanager
    from unittest import mock

    @contextmanager
    def lent():
        engine = app.extensions["captions"]
        with mock.patch.object(engine, "close"), serving(app, settings) as server:
            yield server.port
        engine.draining = False

    return lent()


def test_the_image_that_the_others_damage_is_accepted(client):
    assert client.post("/v1/captions", **form([encoded(image=GREY)])).status_code == 200
