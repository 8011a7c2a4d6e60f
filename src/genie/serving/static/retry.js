// Retries with growing, random delays, and only while the page is visible.

const SOON_MS = 200; // another replica may answer at once
const FIRST_MS = 1000;
const LONGEST_MS = 60_000;
const JITTER = 0.5; // of the wait, by chance

/** Calls `run` again until it works. `onWait(seconds)` is called in each second of the wait. */
export class Retry {
  #run;
  #onWait;
  #tries = 0;
  #due = null; // when to try; null while nothing waits
  #timer;

  constructor(run, onWait) {
    [this.#run, this.#onWait] = [run, onWait];
    document.addEventListener("visibilitychange", () => this.#wait());
    addEventListener("online", () => this.#due !== null && this.now());
  }

  /** Tries again after a while, which is never shorter than `seconds`. */
  later(seconds = 0) {
    const wait = this.#tries ? Math.min(LONGEST_MS, FIRST_MS * 2 ** this.#tries) : SOON_MS;
    this.#tries += 1;
    const shortest = Math.max(seconds * 1000, wait * (1 - JITTER));
    this.#due = performance.now() + shortest + Math.random() * JITTER * Math.max(seconds * 1000, wait);
    this.#wait();
  }

  /** Tries at once. */
  now() {
    clearTimeout(this.#timer);
    this.#due = null;
    this.#run();
  }

  /** Tells that it worked: the next wait is a short one. */
  worked() {
    this.#tries = 0;
  }

  #wait() {
    clearTimeout(this.#timer);
    if (this.#due === null || document.hidden) return;
    const left = this.#due - performance.now();
    if (left <= 0) {
      this.now();
      return;
    }
    this.#onWait(Math.ceil(left / 1000));
    this.#timer = setTimeout(() => this.#wait(), left % 1000 || 1000);
  }
}
