/**
 * The findings that a sentence names, by the rules of the Python package's labeler (`metrics/labels/rules.py`), whose
 * automaton the page brings along. Where a cue, a sign or a word that the page does not know may change what is said,
 * nothing is found here: what it finds Python finds, too, but not the other way round.
 */

const END = "$"; // the word behind the last one
const PLAIN = /^[a-z0-9,]+$/;
const TURNING = new Set(["no", "not", "nor", "or", "vs", "versus", "which", "that"]);

/** Return what finds {finding, words} in words; `spelled` has each known word's standard spelling. */
export function finder({ automaton, spelled }) {
  const [, phrases, numbers, words, groups, rows] = automaton.split("\n\n").map((part) => part.split("\n"));
  const lines = numbers.map((number) => phrases[Number(number)]);
  const [, far, near] = words.map((line) => new Set(line.split(" ")));
  const states = new States(rows, groups, { "...": [far.add(";").add(END), 0, 8], "..": [near, 1, 6] });
  return (said) => found(said, states.at(0), lines, spelled);
}

function found(said, start, lines, spelled) {
  const read = said.map((word) => word.toLowerCase()).filter((word) => word !== ".");
  if (read.some((word) => !PLAIN.test(word) || !Object.hasOwn(spelled, word))) return [];
  const tokens = read.flatMap((word, place) => spelled[word].map((token) => ({ token, place })));
  if (tokens.some(({ token }) => !PLAIN.test(token) || TURNING.has(token))) return [];
  const { hits, cued } = scan(tokens.map(({ token }) => token), start, lines);
  const known = cued ? [] : kept(hits).filter(({ kind, finding }) => kind !== "absent" && finding !== "Other");
  return known.map(({ finding, first, end }) => ({ finding, words: [...new Set(tokens.slice(first, end).map(({ place }) => place))] }));
}

/** Return what lines say that begin at each word, and whether there is a cue that may reach a finding. */
function scan(tokens, start, lines) {
  const words = [...tokens, END, ""];
  const hits = [];
  let cued = false;
  tokens.forEach((token, first) => {
    const state = start.next.has(token) ? start.after(token) : null;
    const longest = new Map(); // of lines that say the same
    for (const [number, end] of state ? state.follow(words, first + 1) : []) {
      longest.set(lines[number], Math.max(end, longest.get(lines[number]) ?? 0));
    }
    for (const [line, end] of longest) {
      const [kind, reach, findings] = line.split("|");
      for (const finding of findings.split(", ").filter(Boolean)) hits.push({ first, end, kind, finding });
      cued ||= Boolean(reach) && reach !== "stop";
    }
  });
  return { hits, cued };
}

/** Keep one hit where several of a finding overlap, and drop those that only sound like it. */
function kept(hits) {
  const isOther = ({ kind }) => kind === "other";
  const order = (hit) => [hit.first, isOther(hit) ? 0 : 1, hit.end, hit.kind, hit.finding];
  const weightier = hits.filter((hit) => hit.kind !== "stable" || !hits.some((one) =>
    one.finding === hit.finding && !["stable", "other"].includes(one.kind) && hit.first < one.end && one.first < hit.end));
  const reached = new Map();
  return weightier.sort((one, two) => compared(order(one), order(two))).filter((hit) => {
    if (hit.first < (reached.get(hit.finding) ?? 0)) return false;
    reached.set(hit.finding, hit.end);
    return !isOther(hit);
  });
}

function compared(one, two) {
  const at = one.findIndex((value, i) => value !== two[i]);
  return at < 0 ? 0 : one[at] < two[at] ? -1 : 1;
}

class States {
  constructor(rows, groups, gaps) {
    Object.assign(this, { rows, gaps, groups: groups.map((group) => group.split(" ")), known: new Map() });
  }

  at(number) {
    if (!this.known.has(number)) this.known.set(number, new State(this.rows[number], this));
    return this.known.get(number);
  }
}

const listed = (text) => text.split(" ").filter(Boolean);

/** How far lines are, and by the next word the state behind it. */
class State {
  constructor(row, states) {
    const [ends, groups, numbers, likes, behind, branches] = row.split("\t");
    this.states = states;
    this.ends = listed(ends).map(Number);
    this.next = new Map();
    const then = listed(numbers).map(Number);
    listed(groups).forEach((group, i) => states.groups[Number(group)].forEach((word) => this.next.set(word, then[i])));
    this.likes = listed(likes).map((pattern) => new RegExp(`^(?:${pattern})$`));
    this.behind = listed(behind).map(Number);
    this.branches = listed(branches).map((branch) => branch.split(":"));
    this.open = this.likes.length > 0 || this.branches.length > 0;
  }

  /** Return the state behind a word, null where no line goes on with it. */
  after(word) {
    if (this.next.has(word)) return this.states.at(this.next.get(word));
    const like = this.likes.reduce((sum, pattern, i) => sum + (pattern.test(word) ? 1 << i : 0), 0);
    return like ? this.states.at(this.behind[like - 1]) : null;
  }

  /** Return which lines go on from here to an end, and before which word that is. */
  follow(words, from) {
    const ends = new Map();
    for (let state = this, i = from; state; i++) {
      for (const number of state.ends) ends.set(number, i);
      for (const branch of state.branches) state.branch(branch, words, i, ends);
      state = i < words.length ? state.after(words[i]) : null;
    }
    return ends;
  }

  /** Note where lines end that go on behind a gap or on a condition. */
  branch([sign, first, then], words, i, ends) {
    const state = this.states.at(Number(then));
    if (sign[0] === ".") {
      for (const [number, end] of state.behindGap(this.states.gaps[sign], words, i)) ends.set(number, end);
    } else if (sign === "?") {
      for (const number of state.follow(words, i).keys()) ends.set(number, i);
    } else if (this.states.at(Number(first)).follow(words, i).size > 0 === (sign === "=")) {
      for (const [number, end] of state.follow(words, i)) ends.set(number, end);
    }
  }

  behindGap([over, least, most], words, i) {
    const found = new Map();
    for (let k = i; k <= Math.min(i + most, words.length - 1); k++) {
      const then = k >= i + least && (this.open || this.next.has(words[k])) ? this.after(words[k]) : null;
      for (const [number, end] of then ? then.follow(words, k + 1) : []) {
        if (!found.has(number)) found.set(number, end); // the shortest gap counts
      }
      if (over.has(words[k]) || (least && !/^[a-z]+$/.test(words[k]))) break;
    }
    return found;
  }
}
