/** Ids of tokens to words, sentences, and text as people read it. */

const PAD = 0;
const GPT2_END = "<|endoftext|>";

/** Return a tokenizer of a parsed `tokenizer.json`: ids of the special tokens, and `words(ids)`. */
export function tokenizerOf(content) {
  return content.kind === "byte_pairs" ? bytePairs(content) : plainWords(content);
}

function plainWords({ words, marks = ["<unk>", "<cls>", "<end>"] }) {
  const [unknown, start, end] = marks.map((mark) => words.indexOf(mark) + 1);
  const isSpecial = String(marks) === "<unk>,<cls>,<end>"; // whose start token may stand in the middle, too
  return {
    start, end, unknown,
    words: (ids) => spoken(ids, start, end).filter(({ id }) => isSpecial || id !== start)
      .map(({ id, place }) => ({ word: words[id - 1], places: [place] })),
  };
}

function bytePairs({ vocabulary }) {
  const start = vocabulary.length + 1;
  const end = vocabulary.indexOf(GPT2_END) + 1;
  return { start, end, unknown: PAD, words: (ids) => pieced(spoken(ids, start, end).filter(({ id }) => id !== start), vocabulary) };
}

/** Return the tokens before the end with their places, without padding and the first start. */
function spoken(ids, start, end) {
  const found = [];
  for (const [place, id] of Array.from(ids).entries()) {
    if (id === end) break;
    if (id !== PAD) found.push({ id, place });
  }
  return found[0]?.id === start ? found.slice(1) : found;
}

/** Put byte pairs together: a token that spells parts of two words belongs to both. */
function pieced(tokens, vocabulary) {
  const spelled = tokens.map(({ id }) => bytesOf(vocabulary[id - 1]));
  const bytes = Uint8Array.from(spelled.flat());
  const owners = spelled.flatMap((part, i) => part.map(() => i)); // the token of each byte
  const found = [];
  const isSpace = (byte) => (byte >= 9 && byte <= 13) || (byte >= 28 && byte <= 32); // as Python has it
  for (let at = 0; at < bytes.length; ) {
    const gap = at;
    while (at < bytes.length && isSpace(bytes[at])) at++;
    const from = at;
    while (at < bytes.length && !isSpace(bytes[at])) at++;
    if (from === at) break;
    const [first, last] = [owners[gap], owners[at - 1]];
    found.push({ word: new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes.slice(from, at)), places: tokens.slice(first, last + 1).map(({ place }) => place) });
  }
  return found;
}

// The byte of each of GPT-2's symbols, which is its character or, if that cannot be seen, one from 256 on.
const BYTES = new Map();
for (let byte = 0, other = 256; byte < 256; byte++) {
  const seen = (byte >= 33 && byte < 127) || (byte >= 161 && byte < 173) || byte >= 174;
  BYTES.set(String.fromCharCode(seen ? byte : other++), byte);
}

function bytesOf(symbol) {
  const found = [...symbol].map((character) => BYTES.get(character));
  return found.includes(undefined) ? [...new TextEncoder().encode(symbol)] : found;
}

/** Return the words, their text and their tokens' places of each sentence that says something. */
export function sentencesOf(words) {
  const found = [];
  let first = 0;
  words.forEach(({ word }, i) => {
    if (word !== "." && i + 1 < words.length) return;
    const part = words.slice(first, i + 1);
    if (part.some((one) => isSpoken(one.word))) {
      found.push({ first, count: part.length, text: part.map((one) => one.word).join(" "), places: part.flatMap((one) => one.places) });
    }
    first = i + 1;
  });
  return found;
}

export const isSpoken = (word) => /[\p{L}\p{N}]/u.test(word);

/** Write a cleaned text for display: "no effusion ." as "No effusion." */
export function prettified(text) {
  const parts = text.replace(/\s+([,%])/g, "$1").trim().split(/\s*\.+(?:\s+|$)/).filter(Boolean);
  return parts.map((part) => {
    const [first] = part;
    return `${first.toUpperCase()}${part.slice(first.length)}.`;
  }).join(" ");
}
