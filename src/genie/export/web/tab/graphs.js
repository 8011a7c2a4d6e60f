// The graphs of `genie export` in ONNX Runtime Web: by WebAssembly on the CPU, or by WebGPU.

const ARRAYS = { float32: Float32Array, int32: Int32Array, uint8: Uint8Array, bool: Uint8Array };
const PACKAGES = new URL("../packages/", import.meta.url);
const RUNTIMES = { wasm: "ort.wasm.min.mjs", webgpu: "ort.jspi.min.mjs" };

export class Graphs {
  #ort;
  #about;
  #sessions;
  #lost; // rejects when the graphics processor goes away
  #queue = Promise.resolve(); // a runtime runs one graph at a time

  constructor(device, ort, about, sessions, lost) {
    this.device = device;
    [this.#ort, this.#about, this.#sessions, this.#lost] = [ort, about, sessions, lost];
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
    const lost = device === "webgpu" ? lossOf(await ort.env.webgpu.device) : new Promise(() => {});
    return new Graphs(device, ort, about, sessions, lost);
  }

  /** Runs a graph on arrays by name; an output called `next_x` is returned as `x`. */
  run(name, given) {
    const running = this.#queue.then(() => Promise.race([this.#run(name, given), this.#lost]));
    this.#queue = running.catch(() => {});
    return running;
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
      Object.entries(outputs).map(([key, { type }]) => [
        key.replace(/^next_/, ""),
        ARRAYS[type].from(made[key].data),
      ]),
    );
  }
}

/** Whether an error is one of memory. WebAssembly throws numbers, which hardly mean anything else. */
export function isMemory(error) {
  return error instanceof RangeError || typeof error === "number" || /memory|alloc|OOM/i.test(error?.message ?? error);
}

/** Rejects when a GPUDevice is lost. */
function lossOf(device) {
  const lost = device.lost.then(({ message }) => { throw new Error(message || "the device was lost"); });
  lost.catch(() => {}); // told to whoever runs a graph
  return lost;
}

/** Why this browser cannot try WebGPU, "" if it can. */
export async function webgpuMissing() {
  if (typeof WebAssembly.Suspending !== "function") return "this browser cannot suspend WebAssembly";
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return adapter ? "" : "this browser offers no graphics processor";
}
