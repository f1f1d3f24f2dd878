/** Images of a study on canvases, with the attention of a word laid over them. */

import { picture } from "./image.js";
import { resized } from "./resize.js";

const LONGEST = 720; // pixels of an image on the page
const OPACITY = 0.72;
// Viridis without its darkest quarter, which would be black on black: read alike with every kind of colour vision.
const COLOURS = [
  [59, 82, 139], [47, 107, 142], [38, 130, 142], [31, 152, 139], [40, 174, 128], [78, 195, 107], [132, 212, 75], [194, 223, 35], [253, 231, 37],
];
const BOX = "#e69f00"; // orange of Okabe and Ito
const LUNG = 0.25 * 255; // the grey under the colour scale

/** Draw an image, once for all words, and return the canvas; `paint` then draws over it. */
export function canvasOf(image) {
  const still = picture(image, LONGEST);
  const canvas = Object.assign(document.createElement("canvas"), { width: still.width, height: still.height, still });
  paint(canvas, null);
  return canvas;
}

/**
 * Lay attention (rows * columns) over an image: the less attention, the less colour; `top` has the strongest. Boxes are
 * left, top, right and bottom in shares of the image. Regions see what is `offset`, down and right, from their place.
 */
export function paint(canvas, attention, [rows, columns] = [0, 0], top = 0, boxes = [], offset = [0, 0]) {
  const { still, width, height } = canvas;
  const shown = new ImageData(new Uint8ClampedArray(still.data), width, height);
  if (attention && top > 0) {
    const heat = resized({ data: Float32Array.from(attention), width: columns, height: rows, channels: 1 }, width, height, "linear");
    const [down, right] = [Math.round(offset[0] * height), Math.round(offset[1] * width)];
    heat.data.forEach((share, i) => {
      const [y, x] = [Math.floor(i / width) + down, (i % width) + right];
      if (y >= 0 && y < height && x >= 0 && x < width) tint(shown.data, 4 * (y * width + x), Math.min(share / top, 1));
    });
  }
  const drawn = canvas.getContext("2d");
  drawn.putImageData(shown, 0, 0);
  const thick = Math.max(width, height) / 180;
  for (const [left, upper, right, lower] of boxes) {
    for (const [colour, wide] of [["#000", 2 * thick], [BOX, thick]]) {
      Object.assign(drawn, { strokeStyle: colour, lineWidth: wide });
      drawn.strokeRect(left * width + thick, upper * height + thick, (right - left) * width - 2 * thick, (lower - upper) * height - 2 * thick);
    }
  }
}

/** Draw the colours from no attention to the most, as they look on a lung. */
export function paintScale(canvas) {
  const scale = new ImageData(canvas.width, 1);
  for (let i = 0; i < canvas.width; i++) {
    scale.data.set([LUNG, LUNG, LUNG, 255], 4 * i);
    tint(scale.data, 4 * i, i / (canvas.width - 1));
  }
  canvas.getContext("2d").putImageData(scale, 0, 0);
}

function tint(data, at, heat) {
  const place = heat * (COLOURS.length - 1);
  const low = Math.min(Math.floor(place), COLOURS.length - 2);
  const opacity = OPACITY * heat;
  for (let c = 0; c < 3; c++) {
    const colour = COLOURS[low][c] + (place - low) * (COLOURS[low + 1][c] - COLOURS[low][c]);
    data[at + c] = Math.round((1 - opacity) * data[at + c] + opacity * colour);
  }
}
