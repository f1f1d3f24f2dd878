/** Which way up a PNG is, as its EXIF says (Exif 2.32, 4.6.4); browsers turn a JPEG themselves. */

const [ORIENTATION, UPRIGHT, WORD] = [274, 1, 3];

/** Return 1 to 8: 1, which is upright, where none can be read. `exif` is a small TIFF, or undefined. */
export function orientation(exif) {
  try {
    const view = new DataView(exif.buffer, exif.byteOffset, exif.length);
    const little = view.getUint16(0) === 0x4949;
    const page = view.getUint32(4, little);
    for (let i = 0; i < view.getUint16(page, little); i++) {
      const row = page + 2 + 12 * i;
      if (view.getUint16(row, little) !== ORIENTATION || view.getUint16(row + 2, little) !== WORD) continue;
      const value = view.getUint16(row + 8, little);
      return value >= 1 && value <= 8 ? value : UPRIGHT;
    }
  } catch {
    // No EXIF, or a damaged one: the image itself may be read.
  }
  return UPRIGHT;
}

/** Turn an image as EXIF's orientation says. */
export function turned(image, value) {
  if (value === UPRIGHT) return image;
  const { data, channels } = image;
  const swapped = value >= 5; // rows and columns change places
  const [width, height] = swapped ? [image.height, image.width] : [image.width, image.height];
  const found = new data.constructor(data.length);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const column = [2, 3, 6, 7].includes(value) ? width - 1 - x : x;
      const row = [3, 4, 7, 8].includes(value) ? height - 1 - y : y;
      const from = (swapped ? column * image.width + row : row * image.width + column) * channels;
      for (let c = 0; c < channels; c++) found[at++] = data[from + c];
    }
  }
  return { ...image, data: found, width, height };
}
