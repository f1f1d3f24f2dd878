/**
 * DICOM files (PS3.5) of one grey or RGB frame, uncompressed little endian or baseline JPEG, to pixels.
 *
 * Only the elements named here are read: no name, date or number of a patient, and no message quotes a file.
 */

import { checkSize } from "./bytes.js";
import { displayed } from "./display.js";
import { ReadError } from "./errors.js";
import { checkedFrame, readJpeg } from "./jpeg.js";

const IMPLICIT = "1.2.840.10008.1.2";
const EXPLICIT = "1.2.840.10008.1.2.1";
const BASELINE = "1.2.840.10008.1.2.4.50";
const [SYNTAX, PIXELS, ITEM, ITEM_END, SEQUENCE_END] = [0x00020010, 0x7fe00010, 0xfffee000, 0xfffee00d, 0xfffee0dd];
const LONG = ["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"]; // have lengths of 32 bits
const UNDEFINED = 0xffffffff;
const [DESCRIPTOR, TABLE] = [0x00283002, 0x00283006]; // of a lookup table
const SEQUENCES = { ModalityLUTSequence: 0x00283000, VOILUTSequence: 0x00283010 };
const ELEMENTS = { // number: 16 bits; decimal: one or several as text
  ViewPosition: [0x00185101, "text"], SamplesPerPixel: [0x00280002, "number"], PhotometricInterpretation: [0x00280004, "text"],
  PlanarConfiguration: [0x00280006, "number"], NumberOfFrames: [0x00280008, "decimal"], Rows: [0x00280010, "number"],
  Columns: [0x00280011, "number"], BitsAllocated: [0x00280100, "number"], BitsStored: [0x00280101, "number"],
  HighBit: [0x00280102, "number"], PixelRepresentation: [0x00280103, "number"], PixelPaddingValue: [0x00280120, "number"],
  PixelPaddingRangeLimit: [0x00280121, "number"], WindowCenter: [0x00281050, "decimal"], WindowWidth: [0x00281051, "decimal"],
  RescaleIntercept: [0x00281052, "decimal"], RescaleSlope: [0x00281053, "decimal"], VOILUTFunction: [0x00281056, "text"],
};

/** Tell whether bytes are DICOM, also without the preamble of 128 bytes. */
export function isDicom(bytes) {
  return beginning(bytes) !== null;
}

function beginning(bytes) {
  const text = (at, count) => String.fromCharCode(...bytes.subarray(at, at + count));
  if (text(128, 4) === "DICM") return 132;
  if (text(0, 4) === "DICM") return 4;
  if (bytes.length < 12) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, 8);
  const [group, length, hasKind] = [view.getUint16(0, true), view.getUint32(4, true), /^[A-Z]{2}$/.test(text(4, 2))];
  if (group === 2) return hasKind ? 0 : null;
  return group === 8 && ((length <= 256 && length % 2 === 0) || hasKind) ? 0 : null;
}

/** Return {data, width, height, channels}, floating-point in [0, 1], bone in white, with `view` and `notes`. */
export async function readDicom(bytes) {
  const file = parsed(bytes);
  check(file);
  const stored = file.syntax === BASELINE ? await jpegValues(file) : plainValues(file);
  const shape = { width: file.Columns, height: file.Rows, channels: file.SamplesPerPixel, view: namedView(file.ViewPosition) };
  if (file.SamplesPerPixel === 1) return { ...displayed(stored, file), ...shape };
  const most = 2 ** file.BitsStored - 1;
  return { data: Float32Array.from(stored, (value) => Math.min(value / most, 1)), ...shape, notes: [] };
}

function parsed(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const start = beginning(bytes);
  const meta = elements(view, start, bytes.length, true, (tag) => tag >>> 16 !== 2);
  const syntax = meta[SYNTAX] ? text(view, meta[SYNTAX]) : isExplicit(view, meta.end) ? EXPLICIT : IMPLICIT;
  if (![IMPLICIT, EXPLICIT, BASELINE].includes(syntax)) {
    throw new ReadError(
      "is compressed or byte-swapped DICOM, and this page reads uncompressed little-endian and baseline JPEG files; export it so, or as PNG");
  }
  const explicit = syntax !== IMPLICIT;
  const set = elements(view, meta.end, bytes.length, explicit);
  const file = { syntax, view, pixels: set[PIXELS] };
  for (const [name, [tag, kind]] of Object.entries(ELEMENTS)) file[name] = set[tag] && READ[kind](view, set[tag]);
  const isSigned = (kind) => kind === "SS" || (!explicit && file.PixelRepresentation === 1);
  for (const [name, tag] of Object.entries(SEQUENCES)) file[name] = set[tag] && tables(view, set[tag], explicit, isSigned);
  return file;
}

const isExplicit = (view, at) => /^[A-Z]{2}$/.test(String.fromCharCode(view.getUint8(at + 4), view.getUint8(at + 5)));

/** Return place, length and kind of each element by its tag, and where they `end`; `stop` tells the first beyond. */
function elements(view, at, end, explicit, stop = () => false) {
  const found = {};
  while (at + 8 <= end) {
    const tag = view.getUint16(at, true) * 65536 + view.getUint16(at + 2, true);
    if (stop(tag)) break;
    const element = header(view, at, tag, explicit);
    if (element.length === UNDEFINED) element.length = undefinedLength(view, element, end, explicit);
    else if (element.at + element.length > end) throw new Error("an element is cut");
    found[tag] = element;
    at = element.at + element.length;
    if (tag === ITEM_END || tag === SEQUENCE_END) break;
  }
  return { ...found, end: at };
}

function header(view, at, tag, explicit) {
  // What has no two capitals there is written implicitly, as in a file that somebody put together.
  if (tag >>> 16 === 0xfffe || !explicit || !isExplicit(view, at)) return { at: at + 8, length: view.getUint32(at + 4, true), kind: "" };
  const kind = String.fromCharCode(view.getUint8(at + 4), view.getUint8(at + 5));
  if (LONG.includes(kind)) return { at: at + 12, length: view.getUint32(at + 8, true), kind };
  return { at: at + 8, length: view.getUint16(at + 6, true), kind };
}

/** Return the length of a sequence, an item or fragments that only their end tells. */
function undefinedLength(view, element, end, explicit) {
  // An unknown sequence is written implicitly (PS3.5, 6.2.2).
  return elements(view, element.at, end, explicit && element.kind !== "UN").end - element.at;
}

/** Yield place and length of the items of a sequence, or of the fragments of compressed pixels. */
function* parts(view, { at, length }, explicit) {
  for (const end = at + length; at + 8 <= end; ) {
    const tag = view.getUint16(at, true) * 65536 + view.getUint16(at + 2, true);
    if (tag !== ITEM) return;
    const part = header(view, at, tag, explicit);
    if (part.length === UNDEFINED) part.length = undefinedLength(view, part, end, explicit);
    yield part;
    at = part.at + part.length;
  }
}

function tables(view, sequence, explicit, isSigned) {
  const inside = explicit && sequence.kind !== "UN";
  return Array.from(parts(view, sequence, inside), ({ at, length }) => {
    const { [DESCRIPTOR]: descriptor, [TABLE]: table } = elements(view, at, at + length, inside);
    return {
      descriptor: numbers(view, descriptor, isSigned(descriptor.kind)),
      table: new Uint8Array(view.buffer, view.byteOffset + table.at, table.length),
    };
  });
}

const text = (view, { at, length }) =>
  String.fromCharCode(...new Uint8Array(view.buffer, view.byteOffset + at, length)).replace(/[\0\s]+$/, "").trim();
const numbers = (view, { at, length }, signed = false) =>
  Array.from({ length: length >> 1 }, (_, i) => (signed ? view.getInt16(at + 2 * i, true) : view.getUint16(at + 2 * i, true)));
const READ = {
  text,
  number: (view, element) => numbers(view, element)[0],
  decimal: (view, element) => text(view, element).split("\\").filter((part) => part.trim()).map((part) => {
    if (Number.isNaN(Number(part))) throw new Error("a number is none");
    return Number(part);
  }),
};

const NEEDED = ["SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"];

/** Refuse, before decoding, what cannot or should not be decoded. */
function check(file) {
  if (!file.pixels || !file.Rows || !file.Columns) throw new ReadError("is DICOM without an image, or cut before it; get it again");
  const frames = file.NumberOfFrames?.[0] || 1;
  if (frames > 1) throw new ReadError(`holds ${frames} frames; export one frame as a file of its own`);
  checkSize(file.Columns, file.Rows);
  if (NEEDED.some((name) => file[name] === undefined)) throw new Error("an element is missing");
  const kind = file.PhotometricInterpretation;
  const grey = ["MONOCHROME1", "MONOCHROME2"].includes(kind);
  const jpeg = file.syntax === BASELINE;
  const colour = kind === "RGB" || (jpeg && ["YBR_FULL", "YBR_FULL_422"].includes(kind));
  if (!(grey || colour) || file.SamplesPerPixel !== (grey ? 1 : 3)) {
    throw new ReadError("is DICOM of neither grey nor RGB pixels, which this page does not read; export it as PNG");
  }
  if (![8, 16].includes(file.BitsAllocated)) throw new ReadError("has pixels of neither 8 nor 16 bits; export it as PNG");
}

/** Return the stored values, wherever in their words they lie (PS3.5, 8.1.1), line by line. */
function plainValues({ view, pixels, ...file }) {
  const { BitsAllocated: allocated, PixelRepresentation: signed } = file;
  const above = Math.max(0, file.HighBit + 1 - file.BitsStored);
  const count = file.Rows * file.Columns * file.SamplesPerPixel;
  if (pixels.length < (count * allocated) / 8) throw new Error("its pixels are not all there");
  const kinds = allocated === 8 ? [Uint8Array, Int8Array] : [Uint16Array, Int16Array];
  const start = view.byteOffset + pixels.at;
  const values = new kinds[signed ? 1 : 0](view.buffer.slice(start, start + (count * allocated) / 8));
  const unused = Math.max(0, allocated - file.BitsStored - above);
  // Typed arrays give back the sign that the uppermost bit in use has.
  if (unused) for (let i = 0; i < count; i++) values[i] <<= unused;
  if (unused + above) for (let i = 0; i < count; i++) values[i] >>= unused + above;
  return file.SamplesPerPixel === 3 && file.PlanarConfiguration ? interleaved(values, count / 3) : values;
}

function interleaved(values, pixels) {
  return values.map((_, i) => values[(i % 3) * pixels + Math.floor(i / 3)]);
}

async function jpegValues(file) {
  const { buffer, byteOffset } = file.view;
  const [, ...fragments] = parts(file.view, file.pixels, true); // the first lists where frames begin
  const contents = fragments.map(({ at, length }) => new Uint8Array(buffer, byteOffset + at, length));
  const frame = new Uint8Array(await new Blob(contents).arrayBuffer());
  const coded = checkedFrame(frame);
  if (coded.height !== file.Rows || coded.width !== file.Columns || coded.channels !== file.SamplesPerPixel) {
    throw new Error("the compressed image is of another shape than the header says");
  }
  file.BitsStored = Math.max(file.BitsStored, coded.bits);
  const { data } = await readJpeg(frame);
  return file.PixelRepresentation ? new Int8Array(data.buffer) : data;
}

const WORDS = {
  frontal: ["AP", "PA", "FRONTAL", "FACE", "POSTEROANTERIOR", "ANTEROPOSTERIOR"],
  lateral: ["LL", "RL", "LAT", "LATERAL", "LLAT", "RLAT", "PROFILE", "PROFIL"],
};

/** Return the view that words such as "AP SUPINE" name: frontal, lateral or unknown. */
export function namedView(name = "") {
  const upper = name.toUpperCase();
  if (upper.trim() === "L") return "lateral";
  const words = upper.replace(/(?<=TERO)[- ]|(?<=\b[A-Z])\.(?=[A-Z]\b)/g, "").match(/[A-Z]+/g) ?? [];
  const [frontal, lateral] = Object.values(WORDS).map((known) => words.some((word) => known.includes(word)));
  if (frontal === lateral || /DECUB|OBL/.test(upper)) return "unknown"; // a lateral decubitus is no lateral view
  return frontal ? "frontal" : "lateral";
}
