/** Which value is white, and which images show nothing: the rules of the Python package's `data/levels.py`. */

import { ReadError } from "./errors.js";
import { halfEven } from "./resize.js";

const DEPTHS = [8, 10, 12, 14, 16]; // bits that detectors deliver
const LITTLE = 0.1; // of the range from black to white
const SAMPLE = 32; // lines and columns that are looked at
const TAILS = [0.005, 0.995]; // quantiles: markers and defective pixels do not count
const FAINT = "nearly all of its pixels lie within 10% of the range, so that it shows next to nothing; look at it";

/** Return the value that stands for white: of 16 bits the greatest that the bits in use can hold. */
export function white({ data }) {
  if (data instanceof Float32Array) return 1;
  if (data instanceof Uint8Array) return 255;
  const most = data.reduce((a, b) => Math.max(a, b), 0);
  return 2 ** DEPTHS.find((depth) => 2 ** depth > most) - 1;
}

/** Composite a fourth channel, opacity, on black. */
export function onBlack(image) {
  const { data, width, height } = image;
  if (image.channels !== 4) return image;
  const found = new data.constructor(width * height * 3);
  const most = data instanceof Uint8Array ? 255 : 65535;
  for (let i = 0; i < width * height; i++) {
    const opacity = Math.fround(data[4 * i + 3] / most);
    for (let c = 0; c < 3; c++) found[3 * i + c] = halfEven(Math.fround(data[4 * i + c] * opacity));
  }
  return { data: found, width, height, channels: 3 };
}

/** Refuse an image of a single value; return a notice where it shows next to nothing. */
export function checked(image) {
  const { data, channels } = image;
  if (data.every((value, i) => value === data[i % channels])) {
    const value = [...data.subarray(0, data.every((v) => v === data[0]) ? 1 : channels)].map(shown).join(", ");
    throw new ReadError(`all of its pixels have one value (${value}), so that it shows nothing; get it again, or take it out`);
  }
  const some = sampled(image).sort();
  const [low, high] = TAILS.map((tail) => some[halfEven(tail * (some.length - 1))]);
  return high - low < LITTLE * white(image) ? [FAINT] : [];
}

const shown = (value) => String(Number(value.toPrecision(6)));

function sampled({ data, width, height, channels }) {
  const [rows, columns] = [height, width].map((side) => Math.max(1, Math.floor(side / SAMPLE)));
  const found = [];
  for (let y = 0; y < height; y += rows) {
    for (let x = 0; x < width; x += columns) {
      for (let c = 0; c < channels; c++) found.push(data[(y * width + x) * channels + c]);
    }
  }
  return Float32Array.from(found);
}
