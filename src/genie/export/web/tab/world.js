// A world in the tab: the graphs of `genie export`, run by ONNX Runtime Web. States are values.

import * as ort from "../packages/ort.wasm.min.mjs";
import { maskedCounts, stepInputs, tokenOrder } from "./maskgit.js";
import { makeKey } from "./random.js";

const ARRAYS = { float32: Float32Array, int32: Int32Array, uint8: Uint8Array, bool: Uint8Array };

ort.env.wasm.numThreads = 1; // more need headers that plain file servers do not send
ort.env.wasm.wasmPaths = new URL("../packages/", import.meta.url).href;

export class World {
  #sessions;

  constructor(about, sessions) {
    this.about = about;
    this.#sessions = sessions;
  }

  /** Loads a world from its folder. `progress(share)` is called as its weights arrive. */
  static async load(folder, progress) {
    const about = await (await request(new URL("world.json", folder))).json();
    const data = await bytesOf(new URL(about.weights, folder), progress);
    const sessions = {};
    for (const [name, { file }] of Object.entries(about.graphs)) {
      const graph = new Uint8Array(await (await request(new URL(file, folder))).arrayBuffer());
      sessions[name] = await ort.InferenceSession.create(graph, {
        executionProviders: ["wasm"],
        externalData: [{ path: about.weights, data }],
      });
    }
    return new World(about, sessions);
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

  /** The frame that follows an action, with what `commit` needs. */
  async predict(state, action, sampling) {
    const game = { action: Int32Array.of(action), previous: state.previous, ...state.dynamics };
    const tokens = await this.#sample(state, game, sampling);
    const { time } = state.dynamics;
    const { frame, ...decoder } = await this.#run("decode", { tokens, time, ...state.decoder });
    return { frame, tokens, decoder, game, state };
  }

  /** The state after a predicted frame. */
  async commit({ frame, tokens, decoder, game, state }) {
    const dynamics = await this.#run("commit", { tokens, ...game });
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

  async #sample(state, game, sampling) {
    const { vocabulary, grid } = this.about;
    const total = grid[0] * grid[1];
    const key = makeKey(state.seed, game.time[0]);
    const ranked = tokenOrder(sampling.order, grid, key);
    const guided = sampling.guidance > 0;
    let tokens = new Int32Array(total).fill(vocabulary);
    let before = total;
    for (const [i, after] of maskedCounts(total, sampling.steps, sampling.mask_schedule).entries()) {
      const { temperature } = sampling;
      const { fill, count, noise } = stepInputs(
        tokens, vocabulary, ranked, key, i + 1, before, after, temperature,
      );
      const given = { tokens, noise, temperature: Float32Array.of(temperature || 1), ...game };
      if (ranked) given.fill = fill;
      else given.count = Int32Array.of(count);
      if (guided) given.guidance = Float32Array.of(sampling.guidance);
      ({ sampled: tokens } = await this.#run(guided ? "guided_step" : "maskgit_step", given));
      before = after;
    }
    return tokens;
  }

  /** Runs a graph on arrays; an output called `next_x` is returned as `x`. */
  async #run(name, given) {
    const { inputs, outputs } = this.about.graphs[name];
    const feeds = Object.fromEntries(
      Object.entries(inputs).map(([key, { type, shape }]) => [key, new ort.Tensor(type, given[key], shape)]),
    );
    const made = await this.#sessions[name].run(feeds);
    return Object.fromEntries(
      Object.entries(outputs).map(([key, { type }]) => [
        key.replace(/^next_/, ""),
        ARRAYS[type].from(made[key].data),
      ]),
    );
  }
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
