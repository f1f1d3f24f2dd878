/**
 * Greedy and beam search for one study, step for step as the Python package's `search/` has them, so that a caption
 * is the same word for word: its docstrings say why each step is as it is. Numbers have 32 bits as there.
 *
 * A model has `start()`, which gives a state, and `step(tokens, state)`, which gives a row of logits for each token,
 * the next state and the attention of each row, or null. States are opaque here: `model.repeated(state, beams)` and
 * `model.reordered(state, rows)` lay them out for beams.
 */

const { fround } = Math;
const IMPOSSIBLE = -1e9;

/** Return tokens, log-probabilities and gains of captions, best first, and the attention of the best. */
export function search(model, rules, beamSize, lengthPenalty) {
  return beamSize === 1 ? greedy(model, rules) : beam(model, rules, beamSize, lengthPenalty);
}

async function greedy(model, rules) {
  const caption = emptyCaption(rules);
  const attention = [];
  let [state, last, done] = [await model.start(), rules.start, false];
  for (let time = 0; time < rules.length && !done; time++) {
    const found = await model.step([last], state);
    const [best] = continuations(found.logits[0], caption.tokens, time, rules, 1);
    state = found.state;
    last = caption.tokens[time] = best.token;
    caption.gains[time] = best.gain;
    done = last === rules.end;
    attention.push(found.attention?.[0]);
  }
  return { captions: [{ ...caption, total: sum(caption.gains) }], attention };
}

async function beam(model, rules, beams, lengthPenalty) {
  const normalised = (total, length) =>
    total <= IMPOSSIBLE / 2 ? IMPOSSIBLE : fround(total / fround(fround((5 + length) / 6) ** lengthPenalty));
  const scored = (caption, length) => ({ ...caption, score: normalised(caption.total, length) });
  // All beams start equal, so only the first may be extended.
  let going = Array.from({ length: beams }, (_, i) => ({ ...emptyCaption(rules), total: i ? IMPOSSIBLE : 0, last: rules.start }));
  let pool = going.map((caption) => ({ ...caption, total: IMPOSSIBLE, score: IMPOSSIBLE }));
  const attention = [];
  let state = model.repeated(await model.start(), beams);
  let done = false;
  for (let time = 0; time < rules.length && !done; time++) {
    const found = await model.step(going.map((caption) => caption.last), state);
    const next = candidates(found.logits, going, time, rules, beams);
    const ended = next.map((caption, i) => (i < beams && caption.last === rules.end ? caption : { ...caption, total: IMPOSSIBLE }));
    pool = best([...pool, ...ended.map((caption) => scored(caption, time + 1))], beams, "score");
    going = best(next.map((one) => (one.last === rules.end ? { ...one, total: IMPOSSIBLE } : one)), beams, "total");
    state = model.reordered(found.state, going.map((caption) => caption.slots[time]));
    attention.push(found.attention);
    const most = Math.max(...going.map((caption) => normalised(caption.total, time + 1)));
    const worst = Math.min(...pool.map((caption) => caption.score));
    done = Math.max(...going.map((one) => one.total)) <= IMPOSSIBLE / 2 || (worst > IMPOSSIBLE / 2 && most <= worst);
  }
  // A caption of the maximum length counts as finished.
  const rest = going.map((caption) => scored(done ? { ...caption, total: IMPOSSIBLE } : caption, rules.length));
  const captions = best([...pool, ...rest], beams, "score").map((one) => (one.score > IMPOSSIBLE / 2 ? one : { ...one, ...emptyCaption(rules) }));
  // Where the best caption was among the beams when each of its tokens was chosen.
  return { captions, attention: attention.map((rows, time) => rows?.[captions[0].slots[time]]) };
}

/** Return the 2K best continuations of K beams: at most K of them end, so K can always go on. */
function candidates(logits, going, time, rules, beams) {
  const width = Math.min(2 * beams, logits[0].length);
  const all = going.flatMap((caption, slot) =>
    continuations(logits[slot], caption.tokens, time, rules, width).map(({ token, gain }) => ({
      slot, token, gain, total: Math.max(fround(caption.total + gain), IMPOSSIBLE),
    })));
  return best(all, 2 * beams, "total").map(({ slot, token, gain, total }) => {
    const from = going[slot];
    return { tokens: put(from.tokens, time, token), gains: put(from.gains, time, gain), slots: put(from.slots, time, slot), total, last: token };
  });
}

/** Return the likeliest tokens that the rules allow with the logarithms of their probabilities, best first. */
function continuations(logits, tokens, time, rules, width) {
  const total = logSumExp(logits);
  const forbidden = forbiddenTokens(tokens, time, rules);
  const count = rules.banned.length || 1; // as many candidates more as Python takes
  const ngrams = rules.noRepeat && rules.length - rules.noRepeat + 1 >= 1 ? rules.length - rules.noRepeat + 1 : 0;
  const found = largest(logits, Math.min(width + count + ngrams, logits.length)).map((token) => ({
    token, gain: forbidden.has(token) ? IMPOSSIBLE : fround(logits[token] - total),
  }));
  return found.length === width ? found : best(found, width, "gain");
}

function forbiddenTokens(tokens, time, { banned, noRepeat: n, length }) {
  const found = new Set(banned);
  if (!n) return found;
  // The last token of every n-gram of the caption that begins as its last n - 1 tokens do.
  for (let start = 0; start + n <= Math.min(time, length); start++) {
    const same = Array.from({ length: n - 1 }, (_, k) => tokens[start + k] === tokens[Math.max(time - (n - 1) + k, 0)]);
    if (same.every(Boolean)) found.add(tokens[start + n - 1]);
  }
  return found;
}

function logSumExp(values) {
  const most = values.reduce((a, b) => Math.max(a, b));
  let total = 0;
  for (const value of values) total += Math.exp(value - most);
  return fround(Math.log(total) + most);
}

/** Return the places of the largest values, the largest first; of equal ones the first comes first. */
function largest(values, count) {
  const found = [];
  for (let i = 0; i < values.length; i++) {
    if (found.length === count && values[i] <= values[found[count - 1]]) continue;
    let at = found.length;
    while (at && values[found[at - 1]] < values[i]) at--;
    found.splice(at, 0, i);
    if (found.length > count) found.pop();
  }
  return found;
}

/** Return the best by a number they have; of equal ones the first comes first, because sorting is stable. */
const best = (items, count, by) => [...items].sort((a, b) => b[by] - a[by]).slice(0, count);
const emptyCaption = ({ length }) => ({ tokens: new Int32Array(length), gains: new Float32Array(length), slots: new Int32Array(length) });
const put = (array, place, value) => Object.assign(array.slice(), { [place]: value });
const sum = (gains) => gains.reduce((a, b) => fround(a + b), 0);
