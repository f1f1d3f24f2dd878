/**
 * From stored values to what a radiologist sees: rescaling, window or lookup table, and padding (DICOM PS3.3,
 * C.7.6.3, C.11.1 and C.11.2), in the order and with the exceptions of the Python package's `dicom/display.py`.
 *
 * All of it changes single values, of which there are at most 65,536, so it is worked out once for each that occurs.
 */

import { halfEven } from "./resize.js";

const INSTEAD = "the whole range of its pixels is shown instead";
const NO_WINDOW = `its window has no width, or a function that is unknown: ${INSTEAD}`;
const MISSES = `its window or lookup table shows none of its pixels: ${INSTEAD}`;
const [ALMOST_ALL, END] = [0.99, 0.01]; // of the pixels; of the range from black to white
const LOWEST = -32768; // of all stored values

const WINDOWS = {
  LINEAR: (value, centre, width) =>
    width === 1 ? Number(value > centre - 0.5) : clip((value - (centre - 0.5)) / (width - 1) + 0.5),
  LINEAR_EXACT: (value, centre, width) => clip((value - centre) / width + 0.5),
  SIGMOID: (value, centre, width) => 1 / (1 + Math.exp((-4 * (value - centre)) / width)),
};
const clip = (value) => Math.min(Math.max(value, 0), 1);

/** Return {data, notes}: grey in [0, 1], bone in white, of stored values; padding is black. */
export function displayed(stored, file) {
  const notes = [];
  const levels = occurring(stored, paddingOf(stored, file));
  const values = modality(levels.map((level) => level.value), file);
  const counted = levels.flatMap((level, i) => (level.padding ? [] : [i]));
  const picture = voi(values, file, levels, counted, notes);
  let unit = scaled(picture, counted);
  if (file.PhotometricInterpretation === "MONOCHROME1" && unit.some(Boolean)) unit = unit.map((value) => 1 - value);
  const shown = new Float32Array(65536 - LOWEST);
  levels.forEach(({ value, padding }, i) => (shown[value - LOWEST] = padding ? 0 : unit[i]));
  return { data: Float32Array.from(stored, (value) => shown[value - LOWEST]), notes };
}

/** Return each value that occurs, from the least on, how often, and whether it is padding. */
function occurring(stored, isPadding) {
  const counts = new Uint32Array(65536 - LOWEST);
  for (let i = 0; i < stored.length; i++) counts[stored[i] - LOWEST]++;
  const found = [];
  counts.forEach((count, i) => count && found.push({ value: i + LOWEST, count, padding: isPadding(i + LOWEST) }));
  return found;
}

/** Tell which values lie outside the exposed field; some files write a negative one without its sign. */
function paddingOf(stored, { PixelPaddingValue: value, PixelPaddingRangeLimit: limit }) {
  if (value === undefined) return () => false;
  const [low, high] = new stored.constructor([value, limit ?? value]).sort();
  return (given) => given >= low && given <= high;
}

function modality(values, { ModalityLUTSequence: tables, RescaleSlope: slope, RescaleIntercept: intercept }) {
  if (tables?.length) return lookedUp(values, tables[0]).values;
  return values.map((value) => value * (slope?.[0] ?? 1) + (intercept?.[0] ?? 0));
}

/** Apply the lookup table, or else the first window, that shows anything. */
function voi(values, file, levels, counted, notes) {
  const pictures = file.VOILUTSequence?.length ? file.VOILUTSequence.map((table) => lookedUp(values, table)) : windowed(values, file, notes);
  const found = pictures.find((picture) => shows(picture, levels, counted));
  if (!found && pictures.length) notes.push(MISSES);
  return found ? found.values : values;
}

function windowed(values, { WindowCenter: centres, WindowWidth: widths, VOILUTFunction }, notes) {
  if (!(centres?.length && widths?.length)) return [];
  const name = VOILUTFunction || "LINEAR";
  const wide = (width) => (name === "LINEAR" ? width >= 1 : width > 0);
  const pairs = centres.slice(0, widths.length).map((centre, i) => [centre, widths[i]]);
  const usable = pairs.filter(([centre, width]) => name in WINDOWS && wide(width) && Number.isFinite(centre + width));
  if (!usable.length) notes.push(NO_WINDOW);
  return usable.map((pair) => ({ values: values.map((value) => WINDOWS[name](value, ...pair)), range: [0, 1] }));
}

/** Tell whether pixels are not nearly all at one end of the range that they could have. */
function shows({ values, range }, levels, counted) {
  if (!counted.length) return true;
  const [low, high] = range ?? extremes(counted.map((i) => values[i]));
  if (low === high) return false;
  const margin = END * (high - low);
  const pixels = (among) => counted.reduce((sum, i) => sum + (among(values[i]) ? levels[i].count : 0), 0);
  const most = Math.max(pixels((value) => value < low + margin), pixels((value) => value > high - margin));
  return most / pixels(() => true) < ALMOST_ALL;
}

/** Replace values by those of a table, the first and last beyond its ends (C.11.1.1.1). */
function lookedUp(values, { descriptor: [count, first], table }) {
  const found = entries(table, ((count % 65536) + 65536) % 65536 || 65536);
  const start = firstValue(first, found.length, values);
  const place = (value) => Math.min(Math.max(halfEven(value) - start, 0), found.length - 1);
  return { values: values.map((value) => found[place(value)]) };
}

/** Return the value that a table begins with; of both readings of its sign, that which covers more. */
function firstValue(first, count, values) {
  const [low, high] = extremes(values);
  const other = first >= 32768 ? first - 65536 : first < 0 ? first + 65536 : first;
  const [given, turned] = [first, other].map((start) => Math.min(high, start + count - 1) - Math.max(low, start));
  return turned > given ? other : first;
}

/** Return the entries of a table, a byte or a word each. */
function entries(table, count) {
  const filled = new Uint8Array(table.length + (table.length % 2));
  filled.set(table);
  const words = new Uint16Array(filled.buffer);
  if (words.length >= count) return words.subarray(0, count);
  if (words.length === (count + 1) >> 1) return filled.subarray(0, count);
  throw new Error("a lookup table is shorter than it says");
}

/** Scale to [0, 1] by the least and greatest of the values that count. */
function scaled(values, counted) {
  if (!counted.length) return new Float32Array(values.length);
  const [low, high] = extremes(counted.map((i) => values[i]));
  if (!Number.isFinite(high - low)) throw new Error("the values have no range");
  return Float32Array.from(values, (value) => clip((value - low) / (high - low || 1)));
}

const extremes = (values) => values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
