// The WebSocket to the server, and the format of its binary messages (genie/serving/protocol.py).

import { Retry } from "./retry.js";

const VERSION = 2;
const HEADER_BYTES = 20;
const MIME_TYPES = { 1: "image/webp", 2: "image/jpeg", 3: "video/mp4", 4: "image/gif" };
const VIDEOS = [3, 4];
const TIME_OVER = 4000; // close code of a time limit: reconnecting by itself would take another player's place
const OTHER_VERSION = "The server was updated. Reload the page.";

/** Reads a binary message; null when the server speaks another version. */
export function unpack(buffer) {
  const view = new DataView(buffer);
  if (view.getUint8(0) !== VERSION) return null;
  const codec = view.getUint8(1);
  return {
    isVideo: VIDEOS.includes(codec),
    previewAction: view.getUint16(2, true), // 0: a frame of the game, n + 1: the preview of action n
    id: view.getUint32(4, true),
    lastInput: view.getUint32(8, true),
    step: view.getUint32(12, true),
    generationMs: view.getFloat32(16, true),
    picture: new Blob([new Uint8Array(buffer, HEADER_BYTES)], { type: MIME_TYPES[codec] }),
  };
}

/** Returns why an address is not served: {reason, seconds until the next try, final}; null if it is. */
export async function refusal(address) {
  let response;
  try {
    response = await fetch(address, { cache: "no-store" });
  } catch {
    return { reason: "The server does not answer.", seconds: 0, final: false };
  }
  if (response.ok) return null;
  const { detail } = await response.json().catch(() => ({}));
  const why = (detail ?? `The server answered ${response.status}`).split(";")[0].replace(/\.$/, "");
  return {
    reason: response.status === 404 ? `${why}. Reload the page.` : `${why}.`,
    seconds: Number(response.headers.get("Retry-After")) || 0,
    final: [401, 403, 404].includes(response.status),
  };
}

/**
 * One player's connection, which reconnects by itself.
 * Events: "open", "frame", "preview" and "video" (detail: see unpack), "note" (detail: a JSON note),
 * "lost" (detail: {reason, final}; final when it does not try again by itself), "waiting" (detail:
 * seconds until the next try).
 */
export class Connection extends EventTarget {
  #socket = null;
  #address = "";
  #seq = 0;
  #reason = "";
  #opened = false;
  #retry = new Retry(() => this.#connect(), (seconds) => this.#emit("waiting", seconds));

  open({ name }) {
    this.#address = `play?${new URLSearchParams({ world: name })}`;
    this.#connect();
  }

  /** Tries at once. */
  openNow() {
    this.#retry.now();
  }

  /** Sends an input with the next sequence number, which it returns. */
  input(message) {
    this.#seq += 1;
    this.send({ ...message, seq: this.#seq });
    return this.#seq;
  }

  send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  // Replaces a try that is under way; its events are ignored from then on.
  #connect() {
    this.#socket?.close();
    const url = new URL(this.#address, document.baseURI);
    url.protocol = url.protocol.replace("http", "ws");
    [this.#opened, this.#reason] = [false, ""];
    const socket = new WebSocket(url);
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    const on = (name, act) =>
      socket.addEventListener(name, (event) => socket === this.#socket && act(event));
    on("open", () => {
      this.#opened = true;
      this.#emit("open");
    });
    on("message", (event) => this.#receive(event.data));
    on("close", (event) => this.#lost(socket, event.code));
  }

  #receive(data) {
    if (typeof data !== "string") {
      const frame = unpack(data);
      if (frame === null) {
        this.#reason = OTHER_VERSION;
        this.#socket.close();
        return;
      }
      this.#retry.worked();
      this.#emit(frame.isVideo ? "video" : frame.previewAction ? "preview" : "frame", frame);
      return;
    }
    const note = JSON.parse(data);
    if (note.type === "error") this.#reason = note.message;
    this.#emit("note", note);
  }

  // A browser hides the status of a rejected WebSocket, so a plain request asks for it.
  async #lost(socket, code) {
    const why = (!this.#opened && (await refusal(this.#address))) || {
      reason: this.#reason || "The connection to the server is lost.",
      seconds: 0,
      final: code === TIME_OVER || this.#reason === OTHER_VERSION,
    };
    if (socket !== this.#socket) return; // another try began meanwhile
    this.#emit("lost", why);
    if (!why.final) this.#retry.later(why.seconds);
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
