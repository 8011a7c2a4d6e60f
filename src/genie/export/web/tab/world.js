// A world in the tab: a game is played by the graphs of `genie export`. States are values.

import { Graphs } from "./graphs.js";
import { stepCounts, stepInputs, tokenOrder } from "./maskgit.js";
import { makeKey } from "./random.js";

export class World {
  #folder;
  #graphs; // by device
  #loading = null; // WebGPU
  #fellBack = () => {};
  device = "wasm"; // that plays, or "webgpu"

  constructor(folder, about, graphs) {
    this.about = about;
    [this.#folder, this.#graphs] = [folder, { wasm: graphs }];
  }

  /** Loads a world from its folder. `progress(share)` is called as its weights arrive. */
  static async load(folder, progress) {
    const about = await (await request(new URL("world.json", folder))).json().catch(() => {
      throw new Error("world.json is damaged");
    });
    return new World(folder, about, await graphsOf("wasm", folder, about, progress));
  }

  /** Makes WebGPU ready. `fellBack(error)` is called if WebAssembly has to go on in its place. */
  async addWebGPU(fellBack) {
    this.#fellBack = fellBack;
    this.#loading ??= graphsOf("webgpu", this.#folder, this.about);
    this.#graphs.webgpu = await this.#loading;
  }

  /** Lets WebAssembly play from now on. */
  dropWebGPU() {
    this.device = "wasm";
    this.#loading = null;
    this.#graphs.webgpu?.release();
    delete this.#graphs.webgpu;
  }

  /** Starts a game from a frame, Uint8Array of height x width x 3. */
  async start(frame, seed) {
    const { tokens } = await this.#run("tokenize", { frames: frame });
    const caches = Object.entries(await this.#run("start", { tokens }));
    const part = (isDecoder) => Object.fromEntries(
      caches.filter(([name]) => name.startsWith("decoder_") === isDecoder),
    );
    return { frame, seed, previous: tokens, dynamics: part(false), decoder: part(true) };
  }

  /** The frame that follows an action, with what `commit` needs. On one device, or on the one that plays. */
  async predict(state, action, sampling, device = null) {
    const game = { action: Int32Array.of(action), previous: state.previous, ...state.dynamics };
    const tokens = await this.#sample(state, game, sampling, device);
    const { time } = state.dynamics;
    const { frame, ...decoder } = await this.#run("decode", { tokens, time, ...state.decoder }, device);
    const reencoded = time[0] % sampling.reencode_every === 0; // never, where it is 0
    const remembered = reencoded ? (await this.#run("tokenize", { frames: frame }, device)).tokens : tokens;
    return { frame, tokens: remembered, decoder, game, state };
  }

  /** The state after a predicted frame. */
  async commit({ frame, tokens, decoder, game, state }, device = null) {
    const dynamics = await this.#run("commit", { tokens, ...game }, device);
    return { frame, seed: state.seed, previous: tokens, dynamics, decoder };
  }

  /** The latent action that an action plays at a frame. Real actions are numbered after the latent ones. */
  async latentOf(action, frame) {
    const { num_actions: count, real_latents: fixed } = this.about;
    if (action < count) return action;
    const latents = fixed ?? (await this.#run("play_real", { frame })).latents;
    return latents[action - count];
  }

  /** What the tokenizer makes of a frame. */
  async reconstruct(frame) {
    const state = await this.start(frame, 0);
    const empty = Object.fromEntries(
      Object.entries(state.decoder).map(([name, values]) => [name, new values.constructor(values.length)]),
    );
    const time = Int32Array.of(0);
    return (await this.#run("decode", { tokens: state.previous, time, ...empty })).frame;
  }

  async #sample(state, game, sampling, device) {
    const { vocabulary, grid, coarse_tokens: first = 0 } = this.about;
    const total = grid[0] * grid[1];
    const key = makeKey(state.seed, game.time[0]);
    const ranked = tokenOrder(sampling.order, grid, key, first);
    const guided = sampling.guidance > 0;
    let tokens = new Int32Array(total).fill(vocabulary);
    const noise = new Float32Array(total * vocabulary);
    let before = total;
    const counts = stepCounts(total, sampling.steps, sampling.mask_schedule, first);
    for (const [i, after] of counts.entries()) {
      const { temperature } = sampling;
      const { fill, count } = stepInputs(
        tokens, vocabulary, ranked, key, i + 1, before, after, temperature, noise, first,
      );
      const given = { tokens, noise, temperature: Float32Array.of(temperature || 1), ...game };
      if (ranked) given.fill = fill;
      else given.count = Int32Array.of(count);
      if (guided) given.guidance = Float32Array.of(sampling.guidance);
      ({ sampled: tokens } = await this.#run(guided ? "guided_step" : "maskgit_step", given, device));
      before = after;
    }
    return tokens;
  }

  /** Runs a graph. Where WebGPU fails in a game, WebAssembly goes on with it. */
  async #run(name, given, device = null) {
    const graphs = this.#graphs[device ?? this.device];
    try {
      return await graphs.run(name, given);
    } catch (error) {
      if (device || graphs === this.#graphs.wasm) throw error;
      if (graphs === this.#graphs.webgpu) {
        this.dropWebGPU();
        this.#fellBack(error);
      }
      return this.#graphs.wasm.run(name, given);
    }
  }
}

async function graphsOf(device, folder, about, progress = () => {}) {
  const weights = await bytesOf(new URL(about.weights, folder), progress);
  const files = {};
  for (const [name, { file }] of Object.entries(about.graphs)) {
    files[name] = new Uint8Array(await (await request(new URL(file, folder))).arrayBuffer());
  }
  return Graphs.load(device, about, files, weights);
}

async function request(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address.pathname.split("/").at(-1)} is missing (${response.status})`);
  return response;
}

async function bytesOf(address, progress) {
  const response = await request(address);
  const total = Number(response.headers.get("Content-Length")) || 0;
  const parts = [];
  let received = 0;
  for (const reader = response.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    received += value.length;
    if (total) progress(Math.min(1, received / total)); // a compressed answer tells its packed size
  }
  const bytes = new Uint8Array(received);
  parts.reduce((at, part) => {
    bytes.set(part, at);
    return at + part.length;
  }, 0);
  return bytes;
}
