// What computes a world's graphs: WebAssembly, or WebGPU where it is there and faster.

import { webgpuMissing } from "./graphs.js";

const SECOND_MS = 1000; // of frames on each
const PATIENCE_MS = 20_000; // until WebGPU has compiled its shaders and computed a frame

export class Devices {
  #world;
  #tell;
  #atRest;
  #measuredMs;
  #choices = 0;

  /**
   * `tell({device, text})` says what plays, and why. `atRest()` resolves when the game does, with
   * {state, action, sampling} of a frame to compare devices by.
   */
  constructor(world, tell, atRest, measuredMs = SECOND_MS) {
    [this.#world, this.#tell, this.#atRest, this.#measuredMs] = [world, tell, atRest, measuredMs];
  }

  /** Chooses "wasm", "webgpu", or "auto", which compares them. The game goes on meanwhile. */
  async choose(wanted) {
    this.#choices += 1;
    const number = this.#choices;
    const use = (device, text = "") => {
      if (number !== this.#choices) return; // another choice was made meanwhile
      this.#world.device = device;
      this.#tell({ device, text });
    };
    try {
      if (wanted === "wasm") return use("wasm");
      const missing = await webgpuMissing();
      if (missing) return use("wasm", `WebGPU cannot be used: ${missing}`);
      use(this.#world.device, "WebGPU is loading");
      await this.#world.addWebGPU((error) => this.#tell({ device: "wasm", text: failure(error) }));
      if (wanted === "webgpu") return use("webgpu");
      use("wasm", "WebGPU is being compared with it");
      const [device, measured] = await this.#compared();
      if (device === "wasm" && number === this.#choices) this.#world.dropWebGPU();
      return use(device, measured);
    } catch (error) {
      this.#world.dropWebGPU();
      return use("wasm", failure(error));
    }
  }

  /** The faster device, and the figures. */
  async #compared() {
    const first = await within(PATIENCE_MS, this.#time("webgpu"));
    const webgpu = first > this.#measuredMs ? first : await this.#median("webgpu");
    const wasm = await this.#median("wasm");
    const measured = `A frame takes ${Math.round(wasm)} ms by WebAssembly, ${Math.round(webgpu)} ms by WebGPU`;
    return [webgpu < wasm ? "webgpu" : "wasm", measured];
  }

  /** Milliseconds of a frame, the median of a second. */
  async #median(device) {
    const times = [];
    for (let spent = 0; spent < this.#measuredMs; spent += times.at(-1)) times.push(await this.#time(device));
    return times.sort((a, b) => a - b)[times.length >> 1];
  }

  /** Milliseconds of one frame. */
  async #time(device) {
    const { state, action, sampling } = await this.#atRest();
    const started = performance.now();
    await this.#world.commit(await this.#world.predict(state, action, sampling, device), device);
    return performance.now() - started;
  }
}

function failure(error) {
  return `WebGPU failed: ${error?.message ?? error}`;
}

/** What a promise resolves with, or an error if it takes too long. */
function within(milliseconds, promise) {
  const late = new Promise((_, reject) => {
    setTimeout(() => reject(new Error("its first frame took too long")), milliseconds);
  });
  return Promise.race([promise, late]);
}
