// The worker of a tab: loads a world, and plays the messages of the page.

import { isMemory } from "./graphs.js";
import { Session } from "./session.js";
import { encodeVideo } from "./video.js";
import { World } from "./world.js";

let world, session;

let handled = Promise.resolve(); // a message waits for those before it

addEventListener("message", ({ data }) => {
  handled = handled.then(() => handle(data)).catch(fail);
});

async function handle({ kind, ...rest }) {
  if (kind === "open") await open(rest);
  if (kind === "message") await session?.receive(rest.message);
  if (kind === "reconstruct") await reconstruct(rest);
}

async function open({ address, prompts }) {
  world = await World.load(address, (share) => post("loading", share));
  session = new Session(
    world,
    post,
    (prompt) => promptOf(prompt, prompts),
    (frames, format) => encodeVideo(frames, format, world.about),
  );
  session.run().catch(fail);
  post("open");
}

function post(name, detail) {
  postMessage({ name, detail });
}

function fail(error) {
  const reason = isMemory(error)
    ? "This device has too little memory for the world. Close other tabs and try again."
    : `The world could not be played: ${String(error?.message ?? error).replace(/\.$/, "")}.`;
  post("lost", { reason, final: true });
}

/** The frame of a prompt, and its PNG in base64. */
async function promptOf(prompt, addresses) {
  if (typeof prompt !== "number") {
    if (prompt.length !== 1) throw new Error("prompt: a tab starts games from one picture");
    const bytes = Uint8Array.from(atob(prompt[0]), (letter) => letter.charCodeAt(0));
    return { frame: await pixelsOf(new Blob([bytes])), png: prompt[0] };
  }
  if (!(prompt in addresses)) throw new Error(`prompt: ${prompt} does not exist`);
  const response = await fetch(addresses[prompt]);
  if (!response.ok) throw new Error(`prompt: ${addresses[prompt]} is missing`);
  const blob = await response.blob();
  const binary = Array.from(new Uint8Array(await blob.arrayBuffer()), (byte) => String.fromCharCode(byte));
  return { frame: await pixelsOf(blob), png: btoa(binary.join("")) };
}

/** The pixels of a picture of the world's size, Uint8Array of height x width x 3. */
async function pixelsOf(blob) {
  const { width, height } = world.about;
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  if (bitmap.width !== width || bitmap.height !== height) {
    throw new Error(`prompt: a picture of ${bitmap.width}x${bitmap.height}, the world's are ${width}x${height}`);
  }
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#000000"; // under transparent pixels, as everywhere in the program
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data } = context.getImageData(0, 0, width, height);
  return Uint8Array.from({ length: width * height * 3 }, (_, i) => data[4 * Math.floor(i / 3) + (i % 3)]);
}

async function reconstruct({ number, picture }) {
  let rgb = null;
  try {
    rgb = world ? await world.reconstruct(await pixelsOf(picture)) : null;
  } finally {
    post("reconstructed", { number, rgb });
  }
}
