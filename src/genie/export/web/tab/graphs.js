// The graphs of `genie export` in ONNX Runtime Web: by WebAssembly on the CPU, or by WebGPU.

const PACKAGES = new URL("../packages/", import.meta.url);
const RUNTIMES = { wasm: "ort.wasm.min.mjs", webgpu: "ort.jspi.min.mjs" };

export class Graphs {
  #ort;
  #about;
  #sessions;
  #lost = null; // why the graphics processor went away
  #fail = () => {}; // ends the graph that runs
  #queue = Promise.resolve(); // a runtime runs one graph at a time

  constructor(ort, about, sessions) {
    [this.#ort, this.#about, this.#sessions] = [ort, about, sessions];
  }

  /**
   * Makes a runtime ready. `device` is "wasm" or "webgpu"; `about` is world.json, `files` has the
   * bytes of each graph by name, and `weights` those of the file of weights.
   */
  static async load(device, about, files, weights) {
    const ort = await import(new URL(RUNTIMES[device], PACKAGES));
    ort.env.wasm.numThreads = 1; // more need headers that plain file servers do not send
    ort.env.wasm.wasmPaths = PACKAGES.href;
    ort.env.logLevel = "error"; // it warns of small operators that stay on the CPU
    const sessions = {};
    for (const [name, file] of Object.entries(files)) {
      const externalData = [{ path: about.weights, data: weights }];
      const making = ort.InferenceSession.create(file, { executionProviders: [device], externalData });
      sessions[name] = await making.catch((error) => {
        if (isMemory(error)) throw error;
        throw new Error(`${about.graphs[name].file} or ${about.weights} is damaged: ${error?.message ?? error}`);
      });
    }
    const graphs = new Graphs(ort, about, sessions);
    if (device === "webgpu") graphs.#watch(await ort.env.webgpu.device);
    return graphs;
  }

  /** Runs a graph on arrays by name; an output called `next_x` is returned as `x`. */
  run(name, given) {
    const running = this.#queue.then(() => new Promise((resolve, reject) => {
      if (this.#lost) throw this.#lost;
      this.#fail = reject;
      this.#run(name, given).then(resolve, reject);
    }));
    this.#queue = running.then(() => {}, () => {}); // keeps no result
    return running;
  }

  async #watch(device) {
    const { message } = await device.lost;
    this.#lost = new Error(message || "the device was lost");
    this.#fail(this.#lost);
  }

  /** Frees what the graphs hold. */
  release() {
    for (const session of Object.values(this.#sessions)) session.release().catch(() => {}); // its device may be lost
  }

  async #run(name, given) {
    const { inputs, outputs } = this.#about.graphs[name];
    const feeds = Object.fromEntries(
      Object.entries(inputs).map(([key, { type, shape }]) => [key, new this.#ort.Tensor(type, given[key], shape)]),
    );
    const made = await this.#sessions[name].run(feeds);
    return Object.fromEntries(
      Object.keys(outputs).map((key) => [key.replace(/^next_/, ""), made[key].data]),
    );
  }
}

/** Whether an error is one of memory. WebAssembly throws numbers, which hardly mean anything else. */
export function isMemory(error) {
  return error instanceof RangeError || typeof error === "number" || /memory|alloc|OOM/i.test(error?.message ?? error);
}

/** Why this browser cannot try WebGPU, "" if it can. */
export async function webgpuMissing() {
  if (typeof WebAssembly.Suspending !== "function") return "this browser cannot suspend WebAssembly";
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return adapter ? "" : "this browser offers no graphics processor";
}
