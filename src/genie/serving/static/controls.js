// Which actions are held: keyboard, on-screen buttons, mouse and touch alike.

export const ARROWS = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"];
export const ARROW_SIGNS = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓" };

/** Actions held by any source, in the order they were pressed. Event "change". */
export class Held extends EventTarget {
  #sources = new Map(); // what holds it ("Digit1", "button 3") -> action

  get actions() {
    return [...new Set(this.#sources.values())];
  }

  press(source, action) {
    if (this.#sources.has(source)) return;
    this.#sources.set(source, action);
    this.dispatchEvent(new Event("change"));
  }

  release(source) {
    if (this.#sources.delete(source)) this.dispatchEvent(new Event("change"));
  }

  releaseAll() {
    if (this.#sources.size === 0) return;
    this.#sources.clear();
    this.dispatchEvent(new Event("change"));
  }
}

/** The keys of a world: digits are fixed, arrows are bound by the player and remembered. */
export class Bindings {
  #storageKey;

  constructor(world, numActions) {
    this.numActions = numActions;
    this.#storageKey = `genie.arrows.${world}`;
    this.arrows = { ...this.#defaults(), ...this.#remembered() };
  }

  /** The action of a key, or undefined. */
  action(code) {
    const digit = /^(?:Digit|Numpad)([1-9])$/.exec(code);
    const action = digit ? Number(digit[1]) - 1 : this.arrows[code];
    return action < this.numActions ? action : undefined;
  }

  bind(code, action) {
    this.arrows[code] = action;
    try {
      localStorage.setItem(this.#storageKey, JSON.stringify(this.arrows));
    } catch { /* private browsing: bound until the page is left */ }
  }

  #defaults() {
    return Object.fromEntries(ARROWS.map((code, i) => [code, i % this.numActions]));
  }

  #remembered() {
    try {
      const arrows = JSON.parse(localStorage.getItem(this.#storageKey)) ?? {};
      const valid = ([code, a]) => ARROWS.includes(code) && Number.isInteger(a) && a >= 0 && a < this.numActions;
      return Object.fromEntries(Object.entries(arrows).filter(valid));
    } catch {
      return {};
    }
  }
}

/** Lets the keyboard play and give commands (by key code), except while it edits a field. */
export function listenToKeys(held, bindings, commands) {
  const editing = (target) => target.closest?.("select, input, textarea");
  addEventListener("keydown", (event) => {
    const action = bindings.action(event.code);
    const command = commands[event.code];
    const chord = event.ctrlKey || event.altKey || event.metaKey;
    if ((action === undefined && !command) || chord || editing(event.target)) return;
    event.preventDefault();
    if (event.repeat) return;
    if (command) command();
    else held.press(event.code, action);
  });
  addEventListener("keyup", (event) => held.release(event.code));
  addEventListener("blur", () => held.releaseAll());
}

/** Makes an on-screen button hold an action for as long as it is pressed. */
export function holdWithButton(button, held, action) {
  const source = `button ${action}`;
  const isPressKey = (event) => event.code === "Space" || event.code === "Enter";
  button.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    button.setPointerCapture(event.pointerId);
    held.press(source, action);
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture", "blur"]) {
    button.addEventListener(end, () => held.release(source));
  }
  button.addEventListener("contextmenu", (event) => event.preventDefault());
  button.addEventListener("keydown", (event) => {
    if (!isPressKey(event)) return;
    event.preventDefault();
    if (!event.repeat) held.press(source, action);
  });
  button.addEventListener("keyup", (event) => isPressKey(event) && held.release(source));
}
