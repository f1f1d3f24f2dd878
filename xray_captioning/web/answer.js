/** What the model says, in the page: sentences whose words show where the decoder read, findings, alternatives. */

import { isUnfamiliar } from "./calibration.js";
import { paint } from "./drawing.js";
import { isSpoken } from "./words.js";

const SEEN = 0.05; // probability from which a finding has a line of its own
const DEEPEST = 0.34; // opacity of the surest sentence's shade
const at = (id) => document.getElementById(id);
const percent = (share) => `${Math.round(100 * share)} %`;

function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

export function say(text) {
  at("state").textContent = text;
  at("state").hidden = !text;
}

export function showFailure(text) {
  at("wrong").textContent = text;
  at("wrong").hidden = !text;
}

/** Show an answer, of which `said` is what may be said (`stated` in calibration.js). */
export function showAnswer(study, said, captioner, page) {
  const { caption, milliseconds } = study.answer;
  at("answer").hidden = false;
  at("unlike").hidden = !isUnfamiliar(caption);
  at("unlike").textContent = `Not like the chest X-rays this model was trained on: ${
    said.silent ? "nothing is said of them." : "what it says of them means nothing and has no confidence."}`;
  at("notes").replaceChildren(...study.flatMap((image, i) => image.notes.map((note) => make("li", {}, `image ${i + 1}: ${note}`))));
  showCaption(study, said, captioner, new Set(page.findingWords));
  showFindings(said.probabilities);
  at("others-part").hidden = !said.alternatives.length;
  at("others").replaceChildren(...said.alternatives.map((other) =>
    make("li", {}, other.text, make("small", {}, ` (log-probability ${other.logProbability.toFixed(1)})`))));
  const figures = [
    said.silent ? "" : `log-probability ${caption.logProbability.toFixed(1)}`,
    caption.novelty === null ? "" : `novelty ${caption.novelty.toFixed(2)}`,
    `${Math.round(milliseconds)} ms on this device`,
  ].filter(Boolean).join(", ");
  at("about").textContent = `${figures[0].toUpperCase()}${figures.slice(1)}.`;
}

function showCaption(study, said, captioner, findingWords) {
  const { caption } = study.answer;
  const buttons = [];
  at("caption").replaceChildren(...said.sentences.flatMap((sentence) => [sentenceOf(sentence, caption, buttons), " "]));
  if (!said.sentences.length && !said.silent) at("caption").append(make("em", {}, "The model wrote nothing."));
  for (const button of buttons) button.classList.toggle("finding", findingWords.has(caption.words[button.place].toLowerCase()));
  const choose = (chosen) => {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button === chosen));
    const isHere = ({ first, count }) => chosen && chosen.place >= first && chosen.place < first + count;
    const regions = (caption.regions ?? []).filter(({ sentence }) => isHere(caption.sentences[sentence]));
    showAttention(study, chosen && caption.attention ? caption.attention[chosen.place] : null, chosen?.textContent, captioner, regions);
    showRegions(study, regions, caption.words);
  };
  for (const button of buttons) button.onclick = () => choose(button);
  // Where the decoder read for a finding says more than for "the": one of those is shown first.
  const seen = new Set((caption.regions ?? []).flatMap(({ words }) => words));
  choose(buttons.find((button) => seen.has(button.place)) ?? buttons.find((button) => button.classList.contains("finding")) ?? buttons[0]);
  const known = said.sentences.some((sentence) => sentence.confidence !== null && !said.strange);
  at("hint").textContent = [
    known ? "Percentages are confidence, calibrated on validation studies: of sentences marked 80 %, about 80 % were right there." : "",
    buttons.length && caption.attention ? "Choose a word to see where the decoder read." : "",
  ].filter(Boolean).join(" ");
}

/** Return a sentence, its words as buttons; those of one that is withheld are not there. */
function sentenceOf(sentence, caption, buttons) {
  if (sentence.withheld) return make("span", { className: "sentence withheld" }, sentence.shown);
  const element = make("span", { className: "sentence" });
  const words = sentence.text.split(" ");
  const places = Array.from({ length: sentence.count }, (_, i) => sentence.first + i).filter((place) => isSpoken(caption.words[place]));
  // A display that joins or parts words differently from the model's is shown as it is.
  const plain = words.length !== places.length;
  for (const [i, word] of words.entries()) {
    if (plain) {
      element.append(i ? ` ${word}` : word);
      continue;
    }
    const button = make("button", { type: "button", className: "word", textContent: word.replace(/[.,]+$/, ""), place: places[i] });
    buttons.push(button);
    element.append(i ? " " : "", button, word.slice(button.textContent.length));
  }
  if (sentence.confidence !== null) {
    element.append(make("small", {}, `\u00a0${percent(sentence.confidence)}`));
    element.style.background = `rgba(var(--sure), ${(DEEPEST * sentence.confidence).toFixed(3)})`;
  }
  return element;
}

/** Return the image of a study that is in a view's place, or stands for one that is missing. */
const imageOf = (study, view) => study.answer.places[view] ?? study.answer.places.find(Boolean);

function showRegions(study, regions, words) {
  at("regions").replaceChildren(...regions.map((one) => make("li", {}, `Box on image ${study.indexOf(imageOf(study, one.view)) + 1}: “${
    one.words.map((word) => words[word]).join(" ")}” (${one.finding}), by ${one.method}. The strongest point of such a map lies in the finding in ${
    percent(one.hits)} of the measured cases, by chance in ${percent(one.chance)}.`)));
}

function showAttention(study, views, word, { grid, offset }, regions) {
  const { places } = study.answer;
  const top = views ? Math.max(...views.map((view) => Math.max(...view))) : 0;
  for (const image of study) {
    const view = places.indexOf(image);
    const boxes = regions.filter((one) => imageOf(study, one.view) === image).map(({ box }) => box);
    paint(image.canvas, views?.[view] ?? null, grid, top, boxes, offset);
  }
  at("scale").hidden = !views;
  if (!views) return;
  const shares = study.map((image, i) => {
    const share = views[places.indexOf(image)]?.reduce((a, b) => a + b, 0) ?? 0;
    return `${percent(share)} on image ${i + 1}`;
  });
  at("top").textContent = `${(100 * top).toFixed(1)} % of the attention on a region`;
  at("of").textContent = `Attention of “${word}”: ${shares.join(", ")}. It shows where the decoder read, not why.`;
}

function showFindings(probabilities) {
  const all = Object.entries(probabilities ?? {}).sort((a, b) => b[1] - a[1]);
  const likely = all.filter(([, chance]) => chance >= SEEN);
  at("findings-part").hidden = !all.length;
  at("findings").replaceChildren(...likely.map(([name, chance]) => make("tr", {},
    make("td", {}, name), make("td", { className: "bar" }, make("meter", { value: chance, title: percent(chance) })),
    make("td", { className: "number" }, percent(chance)))));
  const rest = likely.length ? `${all.length - likely.length} others` : `All ${all.length}`;
  at("rest").textContent = likely.length === all.length ? "" : `${rest} below 5 %.`;
}
