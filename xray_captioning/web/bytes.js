/** Bytes that are compressed, and what two readers of files share. */

import { ReadError } from "./errors.js";

/** Inflate bytes by the browser's own decoder to exactly `count` bytes, never to more. */
export async function inflated(parts, count) {
  const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
  const found = new Uint8Array(count);
  let at = 0;
  const reader = stream.getReader();
  while (at < count) {
    const { done, value } = await reader.read();
    if (done) throw new Error("ends early");
    const part = value.subarray(0, count - at);
    found.set(part, at);
    at += part.length;
  }
  reader.cancel().catch(() => {}); // what follows the pixels is not looked at
  return found;
}

/** Await a reader; whatever it raises for a damaged file becomes one sentence. */
export async function whole(reading, kind) {
  try {
    return await reading;
  } catch (error) {
    if (error instanceof ReadError) throw error;
    throw new ReadError(`is truncated or damaged ${kind}; get it again`);
  }
}

const MOST = 64e6; // pixels, as in Python: 8,000 x 8,000

/** Refuse an image, before memory is taken for it, that is too large or has no pixels. */
export function checkSize(width, height) {
  if (!width || !height) throw new Error("it has no pixels");
  if (width * height > MOST) {
    throw new ReadError(`${width} x ${height} pixels are more than the limit of 64,000,000; shrink it`);
  }
}
