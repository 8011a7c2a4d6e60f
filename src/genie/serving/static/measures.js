// Frames a second, time from key to picture, and the warning when the machine is too slow.

import { $ } from "./page.js";

const SETTLED_MS = 2000;
const MIN_RATE = 0.85; // of the expected rate
const KEY_TO_PICTURE = "key to picture";
const afterPaint = new MessageChannel();

export class Measures {
  #fps;
  #shownAt = []; // when the frames of the last second were shown
  #pressedAt = new Map(); // sequence number of a key press -> when
  #runningSince = null;

  /** `expected()` returns how many frames per second should come now. */
  constructor(fps, expected) {
    this.#fps = fps;
    setInterval(() => this.#showRate(expected()), 250);
  }

  /** An input was sent for a key that went down at `at`, in the page's time. */
  pressed(seq, at) {
    this.#pressedAt.set(seq, at);
  }

  forget() {
    this.#pressedAt.clear();
  }

  /** A frame was put on the canvas. Resolves once it is painted. */
  async shown(frame) {
    this.#shownAt.push(performance.now());
    $("generation").textContent = `${frame.generationMs.toFixed(0)} ms`;
    $("step").textContent = frame.step;
    $("length").textContent = `${(frame.step / this.#fps).toFixed(1)} s`;
    const answered = [...this.#pressedAt].filter(([seq]) => seq <= frame.lastInput);
    for (const [seq] of answered) this.#pressedAt.delete(seq);
    if (answered.length === 0 || frame.step === 0) return;
    await painted();
    for (const [, start] of answered) this.#show(start, performance.now());
  }

  // Also a performance measure, for the browser's tools and for tests.
  #show(start, end) {
    performance.measure(KEY_TO_PICTURE, { start, end });
    performance.clearMeasures(KEY_TO_PICTURE);
    $("latency").textContent = `${(end - start).toFixed(0)} ms`;
  }

  #showRate(expected) {
    const now = performance.now();
    const shown = this.#shownAt;
    while (shown.length && shown[0] < now - 1000) shown.shift();
    const rate = shown.length > 1 ? ((shown.length - 1) * 1000) / (shown.at(-1) - shown[0]) : 0;
    $("fps").textContent = rate ? rate.toFixed(1) : "0";
    this.#runningSince = expected ? this.#runningSince ?? now : null;
    const slow = expected > 0 && now - this.#runningSince > SETTLED_MS && rate < MIN_RATE * expected;
    if (slow !== $("warning").hidden) return; // a screen reader reads it once, not at each new figure
    if (slow) {
      $("warning").textContent = rate
        ? `This machine generates ${rate.toFixed(1)} of ${expected} frames/s, so the game runs slower. `
          + "Key presses are not queued."
        : "No frame has arrived for a while. The server may still be compiling the world, or is busy.";
    }
    $("warning").hidden = !slow;
  }
}

/** Resolves after the browser has painted what is on the page now. */
function painted() {
  return new Promise((resolve) => {
    requestAnimationFrame(() => {
      afterPaint.port1.addEventListener("message", resolve, { once: true });
      afterPaint.port1.start();
      afterPaint.port2.postMessage(null);
    });
  });
}
