/**
 * PNG (ISO/IEC 15948) to the values that are stored, of 8 or 16 bits.
 *
 * A browser's own decoder would do for people to look at, but it gives 8 bits, converts colours to those of the
 * screen, and multiplies by opacity: a model would see other pixels than it was trained on.
 */

import { checkSize, inflated } from "./bytes.js";

const START = [0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10];
const CHANNELS = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 }; // by colour type
const [GREY, PALETTE, GREY_ALPHA] = [0, 3, 4];
const CRITICAL = ["IHDR", "PLTE", "IDAT", "IEND"];
// Where the seven passes of an interlaced image begin, and their steps: x, y, x step, y step.
const PASSES = [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]];

export const isPng = (bytes) => START.every((byte, place) => bytes[place] === byte);

/** Return {data, width, height, channels} of one, three or four channels, and EXIF's bytes if there are any. */
export async function readPng(bytes) {
  const file = chunks(bytes);
  const header = new DataView(file.IHDR[0].slice().buffer);
  const [width, height, bits, colour] = [header.getUint32(0), header.getUint32(4), header.getUint8(8), header.getUint8(9)];
  checkSize(width, height);
  const shape = { width, height, bits, channels: CHANNELS[colour] };
  const passes = header.getUint8(12) ? PASSES : [[0, 0, 1, 1]];
  const parts = passes.map((pass) => ({ pass, ...passShape(shape, pass) })).filter((part) => part.width && part.height);
  const packed = await inflated(file.IDAT, parts.reduce((sum, part) => sum + part.height * (part.line + 1), 0));
  const values = new (bits === 16 ? Uint16Array : Uint8Array)(width * height * shape.channels);
  let at = 0;
  for (const part of parts) {
    at = unfilter(packed, at, part, Math.max(1, (bits * shape.channels) >> 3), (y, line) => unpack(values, shape, part, y, line));
  }
  return { ...coloured({ data: values, ...shape }, colour, file), exif: file.eXIf?.[0] };
}

/** Return the contents of the chunks by their kind, once each checksum is right. */
function chunks(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const found = {};
  for (let at = START.length, kind = ""; kind !== "IEND"; ) {
    const size = view.getUint32(at);
    const content = bytes.subarray(at + 8, at + 8 + size);
    kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (crc32(bytes.subarray(at + 4, at + 8 + size)) !== view.getUint32(at + 8 + size)) throw new Error("a checksum is wrong");
    if (!CRITICAL.includes(kind) && kind < "a") throw new Error("a critical chunk is unknown");
    (found[kind] ??= []).push(content);
    at += 12 + size;
  }
  return found;
}

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? 0xedb88320 ^ (byte >>> 1) : byte >>> 1;
  return byte;
});

function crc32(bytes) {
  let found = 0xffffffff;
  for (let i = 0; i < bytes.length; i++) found = TABLE[(found ^ bytes[i]) & 255] ^ (found >>> 8);
  return (found ^ 0xffffffff) >>> 0;
}

function passShape({ width, height, bits, channels }, [x, y, stepX, stepY]) {
  const [wide, high] = [Math.ceil((width - x) / stepX), Math.ceil((height - y) / stepY)];
  return { width: wide, height: high, line: Math.ceil((wide * bits * channels) / 8) };
}

/** Undo the filter of each line (9.2), in place; `each` gets a line's number and bytes. Return where they end. */
function unfilter(packed, at, { height, line }, step, each) {
  let above = new Uint8Array(line);
  for (let y = 0; y < height; y++) {
    const kind = packed[at];
    const row = packed.subarray(at + 1, at + 1 + line);
    if (kind > 4) throw new Error("a filter is unknown");
    for (let i = 0; i < line; i++) {
      const left = i < step ? 0 : row[i - step];
      if (kind === 1) row[i] += left;
      else if (kind === 2) row[i] += above[i];
      else if (kind === 3) row[i] += (left + above[i]) >> 1;
      else if (kind === 4) row[i] += paeth(left, above[i], i < step ? 0 : above[i - step]);
    }
    each(y, row);
    above = row;
    at += line + 1;
  }
  return at;
}

function paeth(left, above, corner) {
  const guess = left + above - corner;
  const [a, b, c] = [Math.abs(guess - left), Math.abs(guess - above), Math.abs(guess - corner)];
  return a <= b && a <= c ? left : b <= c ? above : corner;
}

/** Write a line of a pass into the image's values. */
function unpack(values, { width, bits, channels }, { pass: [x, y, stepX, stepY], width: wide }, row, line) {
  const start = (y + row * stepY) * width;
  for (let i = 0; i < wide * channels; i++) {
    const pixel = start + x + Math.floor(i / channels) * stepX;
    const bit = i * bits;
    const value = bits === 16 ? (line[2 * i] << 8) | line[2 * i + 1]
      : bits === 8 ? line[i] : (line[bit >> 3] >> (8 - bits - (bit & 7))) & ((1 << bits) - 1);
    values[pixel * channels + (i % channels)] = value;
  }
}

/** Spread grey of few bits to 8, and make colours of a palette and of grey with opacity, as OpenCV does. */
function coloured(image, colour, file) {
  const { data, bits } = image;
  if (colour === PALETTE) {
    const [colours, opacity] = [file.PLTE[0], file.tRNS?.[0]];
    const entry = (value) => [...colours.subarray(3 * value, 3 * value + 3), opacity?.[value] ?? 255];
    return mapped(image, opacity ? 4 : 3, (i) => entry(data[i]));
  }
  if (colour === GREY_ALPHA) return mapped(image, 4, (i) => [data[2 * i], data[2 * i], data[2 * i], data[2 * i + 1]]);
  if (colour === GREY && bits < 8) for (let i = 0; i < data.length; i++) data[i] *= 255 / ((1 << bits) - 1);
  return image;
}

function mapped({ data, width, height }, channels, pixel) {
  const found = new data.constructor(width * height * channels);
  for (let i = 0; i < width * height; i++) {
    const values = pixel(i);
    for (let c = 0; c < channels; c++) found[channels * i + c] = values[c];
  }
  return { data: found, width, height, channels };
}
