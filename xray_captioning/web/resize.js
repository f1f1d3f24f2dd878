/**
 * Pixels to a square, exactly as OpenCV does it: whole numbers are rounded as there, halves to the even one, and
 * sums have the 32 bits of its floating-point numbers. Whatever differs here, the model would see.
 *
 * An image is {data, width, height, channels}; data are the values line by line, of 8 or 16 bits or floating-point.
 */

const { fround } = Math;

/** Resize by a rule of the bundle's configuration, "area", "linear" or "nearest", in the depth that is stored. */
export function resized(image, width, height, rule = "area") {
  if (image.width === width && image.height === height) return image;
  const shrinks = width <= image.width && height <= image.height;
  if (rule === "nearest") return nearest(image, width, height);
  return rule === "area" && shrinks ? area(image, width, height) : linear(image, width, height);
}

// OpenCV divides twice, which is not always the same as dividing once the other way round.
const scaleOf = (before, after) => 1 / (after / before);
const like = (image, width, height) => ({
  data: new image.data.constructor(width * height * image.channels), width, height, channels: image.channels,
});

/** Return the nearest whole number, of halves the even one; floating-point stays as it is. */
function roundingOf({ data }) {
  if (data instanceof Float32Array) return (value) => value;
  const most = data instanceof Uint8Array ? 255 : 65535;
  return (value) => Math.min(Math.max(halfEven(value), 0), most);
}

export function halfEven(value) {
  const low = Math.floor(value);
  const rest = value - low;
  return rest > 0.5 || (rest === 0.5 && low % 2) ? low + 1 : low;
}

function nearest(image, width, height) {
  const found = like(image, width, height);
  const { channels } = image;
  const place = (i, before, after) => Math.min(Math.floor(i * scaleOf(before, after)), before - 1);
  for (let y = 0, at = 0; y < height; y++) {
    const line = place(y, image.height, height) * image.width;
    for (let x = 0; x < width; x++) {
      const from = (line + place(x, image.width, width)) * channels;
      for (let c = 0; c < channels; c++) found.data[at++] = image.data[from + c];
    }
  }
  return found;
}

/** Average what each new pixel covers. */
function area(image, width, height) {
  const scales = [scaleOf(image.width, width), scaleOf(image.height, height)];
  const whole = scales.every((scale) => Math.abs(scale - Math.round(scale)) < Number.EPSILON);
  return whole ? blocks(image, width, height, ...scales.map(Math.round)) : weighted(image, width, height, ...scales);
}

/** Average blocks of whole pixels. */
function blocks(image, width, height, wide, high) {
  const found = like(image, width, height);
  const { data, channels } = image;
  const round = roundingOf(image);
  const exact = !(data instanceof Float32Array);
  const share = fround(1 / fround(wide * high));
  const halves = exact && wide === 2 && high === 2; // rounds halves up
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < channels; c++) {
        let sum = 0;
        for (let i = 0; i < high; i++) {
          let from = ((y * high + i) * image.width + x * wide) * channels + c;
          for (let j = 0; j < wide; j++, from += channels) sum += data[from];
        }
        found.data[at++] = halves ? (sum + 2) >> 2 : round(fround(fround(sum) * share));
      }
    }
  }
  return found;
}

/** Average with the share of each pixel that is covered, first in lines, then over them. */
function weighted(image, width, height, scaleX, scaleY) {
  const found = like(image, width, height);
  const { data, channels } = image;
  const round = roundingOf(image);
  const columns = shares(image.width, width, scaleX);
  const length = width * channels;
  const line = new Float32Array(length);
  const sum = new Float32Array(length);
  const finish = (y) => {
    for (let i = 0; i < length; i++) found.data[y * length + i] = round(sum[i]);
  };
  let row = 0;
  for (const { to, from, share } of shares(image.height, height, scaleY)) {
    line.fill(0);
    for (const column of columns) {
      const [source, target] = [(from * image.width + column.from) * channels, column.to * channels];
      for (let c = 0; c < channels; c++) line[target + c] += fround(data[source + c] * column.share);
    }
    if (to !== row) {
      finish(row);
      sum.fill(0);
      row = to;
    }
    for (let i = 0; i < length; i++) sum[i] += fround(share * line[i]);
  }
  finish(row);
  return found;
}

/** Return which old pixels each new one of a line covers, and by which share of itself. */
function shares(before, after, scale) {
  const found = [];
  for (let to = 0; to < after; to++) {
    const [start, stop] = [to * scale, to * scale + scale];
    const cell = Math.min(scale, before - start);
    const last = Math.min(Math.floor(stop), before - 1);
    const first = Math.min(Math.ceil(start), last);
    if (first - start > 1e-3) found.push({ to, from: first - 1, share: fround((first - start) / cell) });
    for (let from = first; from < last; from++) found.push({ to, from, share: fround(1 / cell) });
    if (stop - last > 1e-3) found.push({ to, from: last, share: fround(Math.min(stop - last, 1, cell) / cell) });
  }
  return found;
}

/** Interpolate between the four old pixels around each new one. */
function linear(image, width, height) {
  const bytes = image.data instanceof Uint8Array;
  if (bytes && image.width === 2 * width && image.height === 2 * height) return blocks(image, width, height, 2, 2);
  const found = like(image, width, height);
  const { data, channels } = image;
  const mixed = bytes ? mixedBytes : mixedFloats;
  const round = roundingOf(image);
  const columns = between(image.width, width, bytes).map((one) => ({ ...one, share: one.first === one.second ? 0 : one.share }));
  const rows = between(image.height, height, bytes);
  for (let y = 0, at = 0; y < height; y++) {
    const [top, bottom] = [rows[y].first * image.width, rows[y].second * image.width];
    for (let x = 0; x < width; x++) {
      const { first, second, share } = columns[x];
      for (let c = 0; c < channels; c++) {
        const pixel = (line, column) => data[(line + column) * channels + c];
        found.data[at++] = round(mixed(
          pixel(top, first), pixel(top, second), pixel(bottom, first), pixel(bottom, second), share, rows[y].share));
      }
    }
  }
  return found;
}

/** Return the old pixels beside each new one, and the share of the second; of bytes in 32 bits. */
function between(before, after, bytes) {
  const scale = scaleOf(before, after);
  const inside = (place) => Math.min(Math.max(place, 0), before - 1);
  return Array.from({ length: after }, (_, to) => {
    const exact = (to + 0.5) * scale - 0.5;
    const place = bytes ? fround(exact) : exact;
    const low = Math.floor(place);
    return { first: inside(low), second: inside(low + 1), share: fround(place - low) };
  });
}

const mix = (a, b, share) => fround(fround(a * fround(1 - share)) + fround(b * share));
const mixedFloats = (a, b, c, d, x, y) => mix(mix(a, b, x), mix(c, d, x), y);

/** As `mixedFloats` in whole numbers: shares of 11 bits. */
function mixedBytes(a, b, c, d, x, y) {
  const [x0, x1, y0, y1] = [fround(1 - x), x, fround(1 - y), y].map((share) => halfEven(fround(share * 2048)));
  const [upper, lower] = [a * x0 + b * x1, c * x0 + d * x1];
  return ((((upper >> 4) * y0) >> 16) + (((lower >> 4) * y1) >> 16) + 2) >> 2;
}
