/** An image file to pixels as the model takes them, and as people look at them. */

import { whole } from "./bytes.js";
import { isDicom, readDicom } from "./dicom.js";
import { ReadError } from "./errors.js";
import { isJpeg, readJpeg } from "./jpeg.js";
import { checked, onBlack, white } from "./levels.js";
import { orientation, turned } from "./orientation.js";
import { isPng, readPng } from "./png.js";
import { resized } from "./resize.js";

/** Read a PNG, JPEG or DICOM file: {data, width, height, channels, view, notes}; what cannot be read is a ReadError. */
export async function readImage(bytes) {
  if (!bytes.length) throw new ReadError("is empty; get it again");
  const image = { view: "unknown", notes: [], ...(await stored(bytes)) };
  return { ...image, notes: [...image.notes, ...checked(image)] };
}

async function stored(bytes) {
  if (isDicom(bytes)) return whole(readDicom(bytes), "DICOM");
  if (isJpeg(bytes)) return whole(readJpeg(bytes), "JPEG");
  if (!isPng(bytes)) throw new ReadError("is none of PNG, JPEG and DICOM; convert it");
  const { exif, ...image } = await whole(readPng(bytes), "PNG");
  return onBlack(turned(image, orientation(exif)));
}

/** Return the pixels that the model takes, RGB in [0, 1] of a square, (size, size, 3). */
export function modelPixels(image, size, rule) {
  const { data, channels } = resized(image, size, size, rule);
  const most = white(image);
  const found = new Float32Array(size * size * 3);
  for (let i = 0; i < found.length; i++) found[i] = data[channels === 3 ? i : Math.floor(i / 3)] / most;
  return found;
}

/** Return a picture for people, in proportion: RGBA of a canvas, no longer than `longest`. */
export function picture(image, longest) {
  const scale = Math.min(1, longest / Math.max(image.width, image.height));
  const [width, height] = [image.width, image.height].map((side) => Math.max(1, Math.round(side * scale)));
  const { data, channels } = resized(image, width, height);
  const most = white(image);
  const found = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) found.data[4 * i + c] = (255 * data[channels * i + (channels === 3 ? c : 0)]) / most;
    found.data[4 * i + 3] = 255;
  }
  return found;
}
