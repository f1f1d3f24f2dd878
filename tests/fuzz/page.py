"""The page's own readers of images, in Node, beside those of Python."""

import atexit
import struct
import subprocess
import zlib
from functools import cache
from pathlib import Path

import numpy as np

from tests.fuzz import inputs
from tests.fuzz.harness import own_folder
from xray_captioning.errors import ImageError, XrayCaptioningError

SIZE = 16
PNG = b"\x89PNG\r\n\x1a\n"
READ, REFUSED, FAULT = range(3)
# A frame is a number of 32 bits and as many bytes; an answer is one after how it went.
_LOOP = """
import fs from "fs";
const { readImage, modelPixels } = await import(process.argv[2] + "/image.js");
const { ReadError } = await import(process.argv[2] + "/errors.js");
const bytes = (count) => {
  const found = Buffer.alloc(count);
  for (let at = 0; at < count; ) {
    const more = fs.readSync(0, found, at, count - at);
    if (!more) process.exit();
    at += more;
  }
  return found;
};
const answer = (how, content) => {
  const head = Buffer.alloc(5);
  head.writeUInt8(how);
  head.writeUInt32LE(content.length, 1);
  for (const part of [head, content]) for (let at = 0; at < part.length; ) at += fs.writeSync(1, part, at);
};
let late = null; // what a reader left to itself and nobody waits for
process.on("unhandledRejection", (error) => (late = error));
for (;;) {
  const data = new Uint8Array(bytes(bytes(4).readUInt32LE()));
  try {
    const found = modelPixels(await readImage(data), SIZE, "area");
    if (late) throw late;
    answer(0, new Uint8Array(found.buffer));
  } catch (error) {
    const refused = error instanceof ReadError && !late;
    answer(refused ? 1 : 2, Buffer.from(refused ? error.message : String(error.stack)));
  }
  late = null;
}
""".replace("SIZE", str(SIZE))


@cache
def _node() -> subprocess.Popen[bytes]:
    import xray_captioning

    web = Path(xray_captioning.__file__).parent / "web"
    (script := own_folder() / "loop.mjs").write_text(_LOOP, "utf-8")
    found = subprocess.Popen(["node", script, web.as_uri()], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    atexit.register(found.kill)
    return found


def _answered(data: bytes) -> tuple[int, bytes]:
    process = _node()
    process.stdin.write(struct.pack("<I", len(data)) + data)
    process.stdin.flush()
    how, count = struct.unpack("<BI", process.stdout.read(5))
    return how, process.stdout.read(count)


def with_sums(data: bytes) -> bytes:
    """Return a PNG whose chunks have sums that fit, so that their content is looked at, too; others as they are."""
    if data[:8] != PNG:
        return data
    found, at = bytearray(data), 8
    while at + 12 <= len(found):
        end = at + 8 + int.from_bytes(found[at : at + 4], "big")
        found[end : end + 4] = struct.pack(">I", zlib.crc32(found[at + 4 : end]))[: max(0, len(found) - end)]
        at = end + 4
    return bytes(found)


def page(data: bytes) -> None:
    """What both read is the same, and what the page refuses is one sentence."""
    from xray_captioning.data.images import decode_image

    data = with_sums(data) if len(data) % 2 else data
    how, content = _answered(data)
    assert how != FAULT, content.decode()
    if how == REFUSED:
        raise ImageError(content.decode())
    found = np.frombuffer(content, np.float32).reshape(SIZE, SIZE, 3)
    assert 0 <= found.min() <= found.max() <= 1
    try:
        wanted = decode_image(data, "it", size=SIZE, max_pixels=64e6, note=lambda *_: None)
    except XrayCaptioningError:
        return  # libpng and pydicom want more of a file
    np.testing.assert_allclose(found, wanted, atol=2e-6)


def files() -> list[bytes]:
    """PNG and DICOM that is not compressed; a JPEG is for the browser to decode."""
    return [one for one in inputs.images() if one[:8] == PNG] + inputs.dicoms()[:3]
