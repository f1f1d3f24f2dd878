/** onnxruntime-web and the exported graphs, each file of them checked before it is used. */

/** What cannot be loaded, in one line. */
export class LoadError extends Error {}

/** Fetch a file that must have this digest, such as "sha256-…"; the browser refuses another. */
export async function fetched(url, integrity) {
  const name = String(url).split("/").pop();
  try {
    const answer = await fetch(url, { integrity, credentials: "omit" });
    if (!answer.ok) throw new Error(answer.status);
    return await answer.arrayBuffer();
  } catch {
    throw new LoadError(`${name}: is missing, or not the file that was exported; export the page again`);
  }
}

export async function fetchedJson(url, integrity) {
  return JSON.parse(new TextDecoder().decode(await fetched(url, integrity)));
}

/** Return onnxruntime-web. The page's script element `tag` has loaded and checked its module already. */
export async function startRuntime(tag) {
  const binary = fetched(tag.dataset.wasm, tag.dataset.wasmIntegrity);
  const runtime = await import(tag.src).catch(() => {
    throw new LoadError(`${tag.src.split("/").pop()}: is missing, or not the file that was exported; export the page again`);
  });
  // One thread, which needs no headers that a static host may not send; with its code at hand it asks for no file.
  Object.assign(runtime.env.wasm, { wasmBinary: await binary, numThreads: 1, proxy: false });
  runtime.env.logLevel = "fatal";
  return runtime;
}

/** The graphs of a captioner; `tensors` are onnxruntime's, by their names. */
export class Graphs {
  constructor(runtime, sessions, described) {
    Object.assign(this, { runtime, sessions, described });
  }

  /** Load the graphs that `described` names (under `export` in captioner.json) with `read(file name)`. */
  static async load(runtime, described, read) {
    const names = Object.keys(described);
    const files = await Promise.all(names.map((name) => read(`${name}.onnx`)));
    const sessions = {};
    for (const [i, name] of names.entries()) {
      sessions[name] = await runtime.InferenceSession.create(new Uint8Array(files[i]), { executionProviders: ["wasm"], logSeverityLevel: 4 });
    }
    return new Graphs(runtime, sessions, described);
  }

  /** Run one graph: tensors by name in and out. */
  run(name, tensors) {
    return this.sessions[name].run(tensors);
  }

  tensor(kind, data, shape) {
    return new this.runtime.Tensor(kind, data, shape);
  }
}

/** The steps of a decoder for one study, as a search asks for them; its state is its tensors by name. */
export class Decoder {
  constructor(graphs, features) {
    Object.assign(this, { graphs, features });
  }

  start() {
    return this.graphs.run("start", this.features);
  }

  /** Return a row of logits for each token, the next state, and each row's attention or null. */
  async step(tokens, state) {
    const token = this.graphs.tensor("int32", Int32Array.from(tokens), [tokens.length]);
    const { logits, ...changed } = await this.graphs.run("step", { token, ...state });
    const next = { ...state };
    for (const [name, tensor] of Object.entries(changed)) next[name.replace("next", "state")] = tensor;
    const attention = next["state.attention"];
    return { logits: rows(logits), state: next, attention: attention ? rows(attention) : null };
  }

  /** Lay the state of a study out for its beams. What they share keeps one row, but a past has all their places. */
  repeated(state, beams) {
    const found = {};
    for (const [name, tensor] of Object.entries(state)) {
      const past = isPast(name) || (name === "state.lineage" && Object.keys(state).some(isPast));
      const own = past ? this.repeat(tensor, beams, isPast(name) ? 2 : 1) : tensor;
      found[name] = isShared(name) ? own : this.repeat(own, beams, 0);
    }
    return found;
  }

  /** Give each beam the state of the beam that it continues; what no step changes is the same for all. */
  reordered(state, beams) {
    const changes = (name) => name.replace("state", "next") in this.graphs.described.step.outputs;
    const found = {};
    for (const [name, tensor] of Object.entries(state)) {
      found[name] = changes(name) && !isShared(name) ? this.taken(tensor, beams) : tensor;
    }
    return found;
  }

  repeat(tensor, count, axis) {
    const { data, dims, type } = tensor;
    const block = dims.slice(axis + 1).reduce((a, b) => a * b, 1);
    const found = new data.constructor(data.length * count);
    for (let from = 0, at = 0; from < data.length; from += block) {
      for (let i = 0; i < count; i++, at += block) found.set(data.subarray(from, from + block), at);
    }
    return this.graphs.tensor(type, found, dims.map((length, i) => (i === axis ? length * count : length)));
  }

  taken(tensor, places) {
    const parts = rows(tensor);
    const [, ...rest] = tensor.dims;
    const found = new tensor.data.constructor(places.length * (parts[0]?.length ?? 0));
    places.forEach((place, i) => found.set(parts[place], i * parts[place].length));
    return this.graphs.tensor(tensor.type, found, [places.length, ...rest]);
  }
}

const isPast = (name) => /^state\.past(\.|$)/.test(name);
const isShared = (name) => /^state\.(study|past)(\.|$)/.test(name);

function rows({ data, dims }) {
  const length = data.length / dims[0];
  return Array.from({ length: dims[0] }, (_, i) => data.subarray(i * length, (i + 1) * length));
}
