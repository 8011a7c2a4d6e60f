// Frames a second, time from key to picture, and the warning when the machine is too slow.

import { $ } from "./page.js";

const SETTLED_MS = 2000;
const KEPT_UP = 0.85; // of the asked rate

export class Measures {
  #fps;
  #shownAt = []; // when the frames of the last second were shown
  #pressedAt = new Map(); // sequence number of a key press -> when
  #runningSince = null;

  /** `asked()` says how many frames a second should come now. */
  constructor(fps, asked) {
    this.#fps = fps;
    setInterval(() => this.#showRate(asked()), 250);
  }

  pressed(seq) {
    this.#pressedAt.set(seq, performance.now());
  }

  forget() {
    this.#pressedAt.clear();
  }

  shown(frame) {
    const now = performance.now();
    this.#shownAt.push(now);
    $("drawing").textContent = `${frame.drawingMs.toFixed(0)} ms`;
    $("step").textContent = frame.step;
    $("length").textContent = `${(frame.step / this.#fps).toFixed(1)} s`;
    for (const [seq, at] of this.#pressedAt) {
      if (seq > frame.lastInput) continue;
      this.#pressedAt.delete(seq);
      if (frame.step > 0) $("latency").textContent = `${(now - at).toFixed(0)} ms`;
    }
  }

  #showRate(asked) {
    const now = performance.now();
    const shown = this.#shownAt;
    while (shown.length && shown[0] < now - 1000) shown.shift();
    const rate = shown.length > 1 ? ((shown.length - 1) * 1000) / (shown.at(-1) - shown[0]) : 0;
    $("fps").textContent = rate ? rate.toFixed(1) : "0";
    this.#runningSince = asked ? this.#runningSince ?? now : null;
    const slow = asked > 0 && now - this.#runningSince > SETTLED_MS && rate < KEPT_UP * asked;
    if (slow && $("warning").hidden) {
      $("warning").textContent = `This machine draws ${rate.toFixed(1)} frames/s where the world asks `
        + `for ${asked}: it runs slower, and no key waits in a queue.`;
    }
    $("warning").hidden = !slow;
  }
}
