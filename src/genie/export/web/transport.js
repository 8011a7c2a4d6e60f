// The page's way to its worlds in an exported site: a worker in this tab, no server.

import { remembered } from "./page.js";

const list = new URL("worlds.json", import.meta.url);

/** The worlds of the site. */
export async function listWorlds() {
  return (await fetch(list)).json();
}

/** Why the list of worlds cannot be read. */
export async function refusal() {
  return { reason: "The site is incomplete: worlds.json cannot be read.", seconds: 0, final: true };
}

/** What a world makes of a picture, or null. */
export async function reconstruct(world, blob) {
  return connections.get(world.name)?.reconstruct(blob) ?? null;
}

/** What may compute the worlds: "auto" takes WebGPU where it is there and faster. */
export const devices = ["auto", "wasm", "webgpu"];

export const videoFormats = typeof VideoEncoder === "undefined" ? ["gif"] : ["mp4", "gif"];

const connections = new Map();

/** A game in this tab, with the interface and the events of connection.js. */
export class Connection extends EventTarget {
  #worker = null;
  #world;
  #seq = 0;
  #asked = 0;
  #chosen = false; // a device; until then WebAssembly plays, which is there first
  #answers = new Map();

  async open(world) {
    this.#world = world;
    connections.set(world.name, this);
    await controlled();
    this.openNow();
  }

  openNow() {
    this.#worker?.terminate();
    this.#chosen = false;
    const reason = missing();
    if (reason) return void setTimeout(() => this.#emit("lost", { reason, final: true }));
    this.#worker = new Worker(new URL("tab/worker.js", import.meta.url), { type: "module" });
    this.#worker.addEventListener("message", ({ data }) => this.#receive(data));
    this.#worker.addEventListener("error", () => {
      this.#emit("lost", { reason: "The worker of this page could not start. Reload the page or update the browser.", final: true });
    });
    const { address, prompts } = this.#world;
    const absolute = (path) => new URL(path, import.meta.url).href;
    return this.#worker.postMessage({ kind: "open", address: absolute(address), prompts: prompts.map(absolute) });
  }

  input(message) {
    this.#seq += 1;
    this.send({ ...message, seq: this.#seq });
    return this.#seq;
  }

  send(message) {
    this.#worker?.postMessage({ kind: "message", message });
  }

  reconstruct(picture) {
    this.#asked += 1;
    const number = this.#asked;
    this.#worker?.postMessage({ kind: "reconstruct", number, picture });
    return new Promise((resolve) => { this.#answers.set(number, resolve); });
  }

  #receive({ name, detail }) {
    if (name === "reconstructed") {
      this.#answers.get(detail.number)?.(detail.rgb && this.#picture(detail.rgb));
      this.#answers.delete(detail.number);
    } else if (name === "loading") {
      this.#emit("loading", `Loading ${this.#world.name}: ${Math.floor(100 * detail)} %`);
    } else if (detail?.rgb) {
      const { rgb, ...frame } = detail;
      this.#choose();
      this.#emit(name, { ...frame, isVideo: false, picture: this.#picture(rgb) });
    } else {
      this.#emit(name, detail);
    }
  }

  /** Chooses a device as soon as a frame is there. */
  #choose() {
    if (this.#chosen) return;
    this.#chosen = true;
    this.send({ type: "device", device: remembered("genie.device") ?? "auto" });
  }

  #picture(rgb) {
    const { width, height } = this.#world;
    const data = new Uint8ClampedArray(4 * width * height).fill(255);
    for (let from = 0, to = 0; from < rgb.length; from += 3, to += 4) {
      data[to] = rgb[from];
      data[to + 1] = rgb[from + 1];
      data[to + 2] = rgb[from + 2];
    }
    return new ImageData(data, width, height);
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

/** Waits until the service worker keeps what is fetched, so that one visit is enough to play offline. */
async function controlled() {
  const { serviceWorker } = navigator; // there is none where pages are not secure
  const address = new URL("offline.js", import.meta.url);
  const registered = await serviceWorker?.register(address).catch(() => null);
  if (!registered || serviceWorker.controller) return;
  await new Promise((resolve) => {
    serviceWorker.addEventListener("controllerchange", resolve, { once: true });
    setTimeout(resolve, 2000);
  });
}

/** What this browser lacks to play, as a sentence; "" if nothing. */
function missing() {
  const simd = Uint8Array.of(
    0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
  );
  if (typeof WebAssembly !== "object") return "This browser has no WebAssembly. Update it or take another one.";
  if (!WebAssembly.validate(simd)) return "This browser has no WebAssembly SIMD. Update it or take another one.";
  if (typeof OffscreenCanvas === "undefined") return "This browser has no OffscreenCanvas. Update it or take another one.";
  return "";
}
