// The WebSocket to the server, and the format of its binary messages (genie/serving/protocol.py).

const VERSION = 2;
const HEADER_BYTES = 20;
const MIME_TYPES = { 1: "image/webp", 2: "image/jpeg", 3: "video/mp4", 4: "image/gif" };
const FILMS = [3, 4];
const RETRY_MS = 1500;
const TIME_OVER = 4000; // close code: who comes back without being asked takes a place from others

/** Reads a binary message; throws when the server speaks another version. */
export function unpack(buffer) {
  const view = new DataView(buffer);
  if (view.getUint8(0) !== VERSION) throw new Error("The server speaks another version: reload the page.");
  const codec = view.getUint8(1);
  return {
    isFilm: FILMS.includes(codec),
    leadsTo: view.getUint16(2, true), // 0: a frame of the game, else where action number - 1 leads
    id: view.getUint32(4, true),
    lastInput: view.getUint32(8, true),
    step: view.getUint32(12, true),
    drawingMs: view.getFloat32(16, true),
    picture: new Blob([new Uint8Array(buffer, HEADER_BYTES)], { type: MIME_TYPES[codec] }),
  };
}

/**
 * One player's connection, which opens itself anew when it is lost.
 * Events: "open", "frame", "peek" and "film" (detail: see unpack), "note" (detail: a JSON note),
 * "lost" (detail: why).
 */
export class Connection extends EventTarget {
  #socket = null;
  #world = "";
  #seq = 0;
  #reason = "";

  open(world = this.#world) {
    this.#world = world;
    const url = new URL("play", document.baseURI);
    url.protocol = url.protocol.replace("http", "ws");
    url.search = new URLSearchParams({ world });
    this.#socket = new WebSocket(url);
    this.#socket.binaryType = "arraybuffer";
    this.#socket.addEventListener("open", () => this.#emit("open"));
    this.#socket.addEventListener("message", (event) => this.#receive(event.data));
    this.#socket.addEventListener("close", (event) => this.#lose(event.code));
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

  #receive(data) {
    if (typeof data !== "string") {
      const frame = unpack(data);
      return this.#emit(frame.isFilm ? "film" : frame.leadsTo ? "peek" : "frame", frame);
    }
    const note = JSON.parse(data);
    if (note.type === "error") this.#reason = note.message;
    return this.#emit("note", note);
  }

  #lose(code) {
    this.#emit("lost", this.#reason || "The server is gone.");
    this.#reason = "";
    if (code !== TIME_OVER) setTimeout(() => this.open(), RETRY_MS);
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
