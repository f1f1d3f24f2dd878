/** JPEG (ITU-T T.81): checked here from start to end, decoded by the browser. */

import { checkSize } from "./bytes.js";
import { ReadError } from "./errors.js";

const FRAMES = Array.from({ length: 16 }, (_, i) => 0xc0 + i).filter((marker) => ![0xc4, 0xc8, 0xcc].includes(marker));
const [SCAN, END, FILL] = [0xda, 0xd9, 0xff];
const isBare = (marker) => marker === 1 || (marker >= 0xd0 && marker <= 0xd7); // without a length

export const isJpeg = (bytes) => bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff;

/** Return {data, width, height, channels}: 8 bits of grey or RGB, the right way up as EXIF says. */
export async function readJpeg(bytes) {
  const { channels, ...frame } = checkedFrame(bytes);
  checkSize(frame.width, frame.height);
  if (frame.bits !== 8) throw new ReadError(`is a JPEG of ${frame.bits} bits, which this page does not decode; save it as PNG`);
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/jpeg" }), { colorSpaceConversion: "none" });
  const { width, height } = bitmap;
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const colours = context.getImageData(0, 0, width, height).data;
  const kept = channels === 1 ? 1 : 3;
  const data = new Uint8Array(width * height * kept);
  for (let i = 0, at = 0; i < colours.length; i += 4) for (let c = 0; c < kept; c++) data[at++] = colours[i + c];
  return { data, width, height, channels: kept };
}

/** Walk the segments to the end and return {bits, height, width, channels}. A browser fills up what is cut off. */
export function checkedFrame(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let frame = null;
  for (let at = 2; ; ) {
    const marker = view.getUint8(at + 1);
    if (view.getUint8(at) !== FILL) throw new Error("a marker is missing");
    if (marker === END) break;
    if (marker === FILL || isBare(marker)) {
      at += marker === FILL ? 1 : 2;
      continue;
    }
    const content = at + 4;
    if (FRAMES.includes(marker)) {
      const [height, width] = [view.getUint16(content + 1), view.getUint16(content + 3)];
      frame = { bits: view.getUint8(content), height, width, channels: view.getUint8(content + 5) };
    }
    at += 2 + view.getUint16(at + 2);
    if (marker === SCAN) at = afterScan(bytes, at);
  }
  if (!frame) throw new Error("it has no image header");
  return frame;
}

function afterScan(bytes, at) {
  for (; at + 1 < bytes.length; at++) {
    const next = bytes[at + 1];
    if (bytes[at] === FILL && next !== 0 && next !== FILL && !isBare(next)) return at;
  }
  throw new Error("its end is missing");
}
