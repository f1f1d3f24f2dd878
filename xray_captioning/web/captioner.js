/** The captioner of an exported bundle: images of one study in, a caption and probabilities of findings out. */

import { calibrationOf } from "./calibration.js";
import { ReadError } from "./errors.js";
import { finder } from "./findings.js";
import { modelPixels } from "./image.js";
import { regionsOf } from "./regions.js";
import { Decoder, fetched, fetchedJson, Graphs } from "./runtime.js";
import { search } from "./search.js";
import { prettified, sentencesOf, tokenizerOf } from "./words.js";

const IMPOSSIBLE = -1e8; // log-probability of a place in the beam that no caption has

export class Captioner {
  constructor(parts) {
    Object.assign(this, parts);
  }

  /** Load what `page` (page.json) names from the folder `base`; its files have the digests named there. */
  static async load(runtime, base, page) {
    const read = (name) => fetched(base + name, page.files[name]);
    const readJson = (name) => fetchedJson(base + name, page.files[name]);
    const has = (name) => name in page.files;
    const [about, words, confidence] = await Promise.all([
      readJson("captioner.json"), readJson("tokenizer.json"), has("calibration.json") ? readJson("calibration.json") : null,
    ]);
    const graphs = await Graphs.load(runtime, about.export.graphs, read);
    const arrays = new Float32Array(Uint8Array.from(atob(page.calibration), (letter) => letter.charCodeAt(0)).buffer);
    return new Captioner({
      config: about.config, findings: about.findings, grid: about.grid, channels: about.export.channels,
      offset: page.offset, evidence: page.evidence && { ...page.evidence, find: finder(page.evidence) },
      notice: about.about.notice, tokenizer: tokenizerOf(words), calibration: calibrationOf(confidence, arrays), graphs,
    });
  }

  /** Return the caption of images in the places of their views, null where one is missing, and findings' probabilities. */
  async caption(images, beamSize) {
    const maps = await this.encoded(images);
    const features = this.features(maps);
    const found = await search(new Decoder(this.graphs, features), this.rules(), beamSize, this.config.decoding.length_penalty);
    const caption = this.spelled(found);
    if (this.calibration) {
      caption.novelty = this.calibration.novelty(maps.filter(Boolean));
      if (caption.novelty <= 1) {
        const known = { ...this.config.decoding, beam_size: beamSize, ...(beamSize === 1 && { length_penalty: 0 }) };
        for (const one of caption.sentences) one.confidence = this.calibration.confidence(one.logProbability, known);
      }
    }
    const { probabilities, activation } = await this.classified(features);
    // Null where it was not measured how often regions are right; of unfamiliar images it was not.
    const isKnown = this.evidence && (caption.novelty ?? 0) <= 1;
    caption.regions = isKnown ? regionsOf(caption, { ...this, ...this.evidence }, features.mask.data, activation) : null;
    return { caption, probabilities };
  }

  /** Encode each image once: features (rows, columns, channels) for each view, or null. */
  async encoded(images) {
    const { size, resize, views, repeat_single_view: repeats } = this.config.image;
    const first = images.find(Boolean);
    const placed = Array.from({ length: views }, (_, i) => images[i] ?? (repeats ? first : null));
    const done = new Map();
    for (const image of new Set(placed.filter(Boolean))) {
      const pixels = this.graphs.tensor("float32", modelPixels(image, size, resize), [1, size, size, 3]);
      done.set(image, (await this.graphs.run("encoder", { images: pixels })).maps.data);
    }
    return placed.map((image) => done.get(image) ?? null);
  }

  /** Return the tensors that the graphs take of a study: its regions in order of view, row and column, and which are real. */
  features(maps) {
    const [rows, columns] = this.grid;
    const each = rows * columns;
    const regions = new Float32Array(maps.length * each * this.channels);
    const mask = new Uint8Array(maps.length * each);
    maps.forEach((map, view) => {
      if (!map) return;
      regions.set(map, view * each * this.channels);
      mask.fill(1, view * each, (view + 1) * each);
    });
    return {
      regions: this.graphs.tensor("float32", regions, [1, mask.length, this.channels]),
      mask: this.graphs.tensor("bool", mask, [1, mask.length]),
    };
  }

  /** Return the probabilities of findings, and what each region adds to them where the graph gives it. */
  async classified(features) {
    if (!this.findings.length) return { probabilities: null, activation: null };
    const { probabilities: { data }, activation } = await this.graphs.run("classifier", features);
    return { probabilities: Object.fromEntries(this.findings.map((name, i) => [name, data[i]])), activation: activation?.data ?? null };
  }

  rules() {
    const { start, end, unknown } = this.tokenizer;
    const { maximum_length: length, prettify } = this.config.text;
    const banned = prettify ? [...new Set([0, start, unknown])] : [];
    return { start, end, length: length - 1, banned, noRepeat: this.config.decoding.no_repeat_ngram };
  }

  /** Turn what a search found into a caption. */
  spelled({ captions: [first, ...others], attention }) {
    const words = this.words(first.tokens);
    const sentences = sentencesOf(words).map(({ text, places, ...where }) => ({
      text: this.displayed(text), logProbability: mean(places.map((place) => first.gains[place])), confidence: null, ...where,
    }));
    return {
      text: this.displayed(joined(words)),
      words: words.map(({ word }) => word),
      logProbability: first.total,
      sentences,
      attention: attention[0] ? words.map(({ places }) => this.views(places.map((place) => attention[place]))) : null,
      alternatives: others.filter(({ total }) => total > IMPOSSIBLE)
        .map(({ tokens, total }) => ({ text: this.displayed(joined(this.words(tokens))), logProbability: total })),
      novelty: null,
    };
  }

  /** Return the words of a row of tokens, each with the places of its tokens. */
  words(tokens) {
    const { start, end, unknown, words } = this.tokenizer;
    const until = tokens.indexOf(end);
    const kept = Array.from(until < 0 ? tokens : tokens.subarray(0, until), (token) => token || unknown);
    return words([start, ...kept]).map(({ word, places }) => ({ word, places: places.map((place) => place - 1) }));
  }

  /** Return the mean attention of tokens on each view, (rows * columns). */
  views(rows) {
    const each = this.grid[0] * this.grid[1];
    const whole = Float32Array.from(rows[0], (_, i) => mean(rows.map((row) => row[i])));
    return Array.from({ length: this.config.image.views }, (_, view) => whole.subarray(view * each, (view + 1) * each));
  }

  displayed(text) {
    return this.config.text.prettify ? prettified(text) : text;
  }
}

/** Put images, which know their `view`, into the places of a model: a known view never takes the other's. */
export function arranged(images, count) {
  const rest = [...images];
  const take = (...views) => {
    const found = views.map((view) => rest.find((image) => image.view === view)).find(Boolean) ?? null;
    if (found) rest.splice(rest.indexOf(found), 1);
    return found;
  };
  const placed = count === 1 ? [take("frontal", "unknown", "lateral")] : [take("frontal", "unknown"), take("lateral", "unknown")];
  const chosen = count === 1 ? placed : [...placed, ...rest].slice(0, count);
  if (chosen.filter(Boolean).length < images.length) {
    const wanted = count === 2 ? "one frontal and one lateral image" : `${count} images`;
    throw new ReadError(
      `${images.length} images (${images.map(({ view }) => view).join(", ")}), but this model looks at ${wanted}; choose among them`);
  }
  return chosen;
}

const joined = (words) => words.map(({ word }) => word).join(" ");
const mean = (values) => Math.fround(values.reduce((a, b) => a + b, 0) / values.length);
