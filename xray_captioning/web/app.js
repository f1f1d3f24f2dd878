/** The page: files of one study come in, and what the model says of them is shown. */

import { stated } from "./calibration.js";
import { arranged, Captioner } from "./captioner.js";
import { canvasOf, paint, paintScale } from "./drawing.js";
import { ReadError } from "./errors.js";
import { readImage } from "./image.js";
import { fetchedJson, LoadError, startRuntime } from "./runtime.js";
import { showAnswer, showFailure, say } from "./answer.js";

const MOST_BEAMS = 5;
const READY = "Ready. The caption will appear here.";
const at = (id) => document.getElementById(id);
const study = []; // images that were read: each knows its canvas and its view
let captioner = null;
let page = null;
let asked = 0; // counts what was asked for: an answer is shown only if nothing was asked for since

async function load() {
  page = await fetchedJson("page.json", document.body.dataset.pageIntegrity);
  captioner = await Captioner.load(await startRuntime(at("runtime")), "bundle/", page);
  forbidRequests();
  const { decoding } = captioner.config;
  for (let size = 1; size <= Math.max(MOST_BEAMS, decoding.beam_size); size++) at("beam").add(new Option(size === 1 ? "1 (greedy)" : size, size));
  at("beam").value = decoding.beam_size;
  at("hedge").hidden = at("strange").hidden = !captioner.calibration;
  at("origin").textContent = captioner.notice ? `This model was ${captioner.notice}.` : "";
  at("progress").hidden = true;
  document.body.dataset.ready = "";
  say(READY);
  await update();
}

/** From now on the browser itself refuses every request of this page: no image can leave it. */
function forbidRequests() {
  const rule = Object.assign(document.createElement("meta"), { httpEquiv: "Content-Security-Policy", content: "default-src 'none'; img-src data:" });
  document.head.append(rule);
}

/** Read files and add them to the study; where they do not fit beside what is there, they are a new one. */
async function add(files) {
  showFailure("");
  const most = captioner?.config.image.views ?? 2;
  if (files.length > most) return showFailure(`${files.length} images given, but this model looks at ${most}; choose among them`);
  if (study.length + files.length > most) study.length = 0;
  for (const file of files) {
    try {
      const image = await readImage(new Uint8Array(await file.arrayBuffer()));
      study.push(Object.assign(image, { canvas: canvasOf(image) }));
    } catch (error) {
      showFailure(`image ${study.length + 1}: ${explained(error)}`);
    }
  }
  drawStudy();
  await update();
}

function explained(error) {
  if (error instanceof ReadError) return error.message;
  return error instanceof RangeError ? "is too large for this browser's memory; shrink it" : "cannot be read; save it anew as PNG";
}

function drawStudy() {
  document.body.classList.toggle("filled", study.length > 0);
  at("invitation").textContent = study.length ? "Add an image, or choose another study" : "Choose the images of one study, or drop them here";
  at("views").replaceChildren(...study.map((image, place) => {
    const name = `Image ${place + 1}`;
    image.canvas.setAttribute("role", "img");
    image.canvas.setAttribute("aria-label", name);
    const view = document.createElement("select");
    view.setAttribute("aria-label", `${name} shows`);
    for (const [value, text] of [["unknown", "view not said"], ["frontal", "frontal"], ["lateral", "lateral"]]) view.add(new Option(text, value));
    view.value = image.view;
    view.onchange = () => { image.view = view.value; again(); };
    const remove = Object.assign(document.createElement("button"), { type: "button", textContent: "Remove" });
    remove.setAttribute("aria-label", `Remove image ${place + 1}`);
    remove.onclick = () => { study.splice(place, 1); drawStudy(); again(); at("files").focus(); };
    const pick = Object.assign(document.createElement("div"), { className: "pick" });
    pick.append(view, remove);
    const item = document.createElement("li");
    item.append(image.canvas, pick);
    return item;
  }));
}

/** What was wrong with a file before has been seen. */
function again() {
  showFailure("");
  return update();
}

/** Let the model caption the study as it is now, and show what it says. */
async function update() {
  const own = ++asked;
  at("answer").hidden = at("scale").hidden = true;
  at("regions").replaceChildren();
  for (const { canvas } of study) paint(canvas, null);
  if (!captioner) return;
  if (!study.length) return say(READY);
  say("Reading …");
  await new Promise((resolve) => setTimeout(resolve, 20)); // so that this is seen before the processor is busy
  if (own !== asked) return;
  try {
    const places = arranged(study, captioner.config.image.views);
    const began = performance.now();
    const found = await captioner.caption(places, Number(at("beam").value));
    if (own !== asked) return;
    study.answer = { ...found, places, milliseconds: performance.now() - began };
    show();
  } catch (error) {
    if (own !== asked) return;
    say("");
    showFailure(error instanceof ReadError ? error.message : "the model could not be run on these images; choose others");
  }
}

function show() {
  if (!study.answer || !study.length) return;
  const { caption, probabilities } = study.answer;
  const wanted = { threshold: Number(at("threshold").value), showUnfamiliar: at("unfamiliar").value !== "" };
  say("");
  showAnswer(study, stated(caption, probabilities, wanted), captioner, page);
  document.body.dataset.answer = asked;
}

at("files").onchange = () => { add([...at("files").files]); at("files").value = ""; };
at("beam").onchange = again;
at("threshold").onchange = at("unfamiliar").onchange = show;
// Files that miss the frame must not replace the page.
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files.length) add([...event.dataTransfer.files]);
  });
}
paintScale(at("colours"));
load().catch((error) => {
  at("progress").hidden = true;
  say("");
  showFailure(error instanceof LoadError ? error.message : "this browser cannot run the model; use a newer one");
});
