// Which actions are held: keyboard, gamepad, on-screen buttons, mouse and touch alike.

import { remember, remembered } from "./page.js";

const ARROWS = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"];
const ARROW_NAMES = { // an arrow plays the action with one of these names, if there is one
  ArrowLeft: ["left"], ArrowRight: ["right"], ArrowUp: ["up", "jump"], ArrowDown: ["down", "duck"],
};
const KEY_LABELS = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", Space: "␣" };
const PAD_ARROWS = { 12: "ArrowUp", 13: "ArrowDown", 14: "ArrowLeft", 15: "ArrowRight" };
const STICK_THRESHOLD = 0.5;
const MAX_NAME = 20;

/**
 * Actions held by any source, in the order of pressing, and the time of the last press in the page's
 * clock. Event "change", whose `pressing` says whether it was a press.
 */
export class Held extends EventTarget {
  #sources = new Map(); // what holds it ("Digit1", "button 3") -> action
  pressedAt = 0;
  joined = (actions) => actions; // what several actions are together

  get actions() {
    return this.joined([...new Set(this.#sources.values())]);
  }

  press(source, action, at = performance.now()) {
    if (this.#sources.has(source)) return;
    this.pressedAt = at;
    this.#sources.set(source, action);
    this.#changed(true);
  }

  release(source) {
    if (this.#sources.delete(source)) this.#changed(false);
  }

  releaseAll() {
    if (this.#sources.size === 0) return;
    this.#sources.clear();
    this.#changed(false);
  }

  #changed(pressing) {
    this.dispatchEvent(Object.assign(new Event("change"), { pressing }));
  }
}

/** Every action that the world has learned. */
export function allActions(world) {
  return Array.from({ length: world.num_actions }, (_, action) => action);
}

/** The actions of the real game that a mapper knows. Their numbers follow those of the learned ones. */
export function realActions(world) {
  return world.real_actions.map((_, i) => world.num_actions + i);
}

/** The actions that have a button: one of those that do the same, and none that does nothing of its own. */
export function mainActions(world) {
  const measured = world.buttons.map(({ actions }) => actions[0]).sort((a, b) => a - b);
  return measured.length ? measured : allActions(world);
}

/**
 * The keys and names of a world's actions. The player's own names are stored in the browser.
 * An action without one has the name that comes with the world, or one made from its effect.
 * `real` says whether keys play the actions of the real game, which have keys of their own.
 */
export class Bindings extends EventTarget {
  real = false;
  #keys; // of learned and of real actions
  #storageKey;
  #measuredNames;
  #ownNames; // null: the player chose no name; "": the player removed it

  constructor(world) {
    super();
    const numActions = world.num_actions;
    this.numActions = numActions;
    this.#storageKey = `genie.buttons.${world.name}`;
    this.worldNames = world.names;
    this.#measuredNames = Object.fromEntries(world.buttons.map(({ actions, name }) => [actions[0], name]));
    this.arrowActions = mainActions(world);
    this.realNames = world.real_actions;
    const stored = remembered(this.#storageKey);
    const valid = (actions) => ([, action]) => actions.includes(action);
    const kept = (keys, actions) => Object.fromEntries(Object.entries(keys).filter(valid(actions)));
    this.#keys = {
      learned: kept(stored?.keys ?? this.#defaults(), allActions(world)),
      real: kept(stored?.realKeys ?? this.#realDefaults(), realActions(world)),
    };
    this.#ownNames = Array.from({ length: numActions }, (_, a) => stored?.names?.[a]?.toString().slice(0, MAX_NAME) ?? null);
  }

  get keys() {
    return this.real ? this.#keys.real : this.#keys.learned;
  }

  /** The names of learned actions, then those of real ones. */
  get names() {
    return [...this.#ownNames.map((name, action) => name ?? this.#givenName(action)), ...this.realNames];
  }

  /** Real actions that are held together as the game's one action for both, such as right+up. */
  joined(actions) {
    if (!this.real || actions.length < 2) return actions;
    const parts = (name) => [...new Set(name.split("+"))].sort().join("+");
    const wanted = parts(actions.map((action) => this.names[action]).join("+"));
    const both = this.realNames.findIndex((name) => parts(name) === wanted);
    return both < 0 ? actions : [this.numActions + both];
  }

  /** The names that are worth saving: without those made from effects. */
  get chosenNames() {
    return this.#ownNames.map((name, action) => name ?? this.worldNames[action] ?? "");
  }

  #givenName(action) {
    return this.worldNames[action] || this.#measuredNames[action] || "";
  }

  /** The action of a key (a KeyboardEvent.code, or "Pad0" for a gamepad), or undefined. */
  action(code) {
    if (Object.hasOwn(this.keys, code)) return this.keys[code];
    const digit = /^(?:Digit|Numpad)([1-9])$/.exec(code);
    const [first, count] = this.real ? [this.numActions, this.realNames.length] : [0, this.numActions];
    return digit && digit[1] <= count ? first + Number(digit[1]) - 1 : undefined;
  }

  keysOf(action) {
    const keys = action < this.numActions ? this.#keys.learned : this.#keys.real;
    return Object.keys(keys).filter((code) => keys[code] === action);
  }

  bind(code, action) {
    this.keys[code] = action;
    this.#save();
  }

  unbind(action) {
    for (const code of this.keysOf(action)) delete this.keys[code];
    this.#save();
  }

  name(action, name) {
    const chosen = name.trim().slice(0, MAX_NAME);
    this.#ownNames[action] = chosen === this.#givenName(action) ? null : chosen;
    this.#save();
  }

  /** Sets the names that come with the world, and forgets the player's own. */
  setWorldNames(names) {
    this.worldNames = names;
    this.#ownNames.fill(null);
    this.#save();
  }

  #defaults() {
    const actions = Array.from({ length: this.numActions }, (_, action) => action);
    const called = (name, code) => ARROW_NAMES[code].includes(name?.toLowerCase());
    const named = (code) => actions.find((action) => called(this.worldNames[action], code))
      ?? actions.find((action) => called(this.#givenName(action), code));
    const byName = ARROWS.map((code) => [code, named(code)]).filter(([, action]) => action !== undefined);
    const arrows = byName.length ? byName : ARROWS.map((code, i) => [code, this.arrowActions[i % this.arrowActions.length]]);
    const pad = Array.from({ length: Math.min(8, this.numActions) }, (_, a) => [`Pad${a}`, a]);
    return Object.fromEntries([...arrows, ...pad]);
  }

  #realDefaults() {
    const wanted = (code) => this.realNames.findIndex((name) => ARROW_NAMES[code].includes(name));
    return Object.fromEntries(
      ARROWS.filter((code) => wanted(code) >= 0).map((code) => [code, this.numActions + wanted(code)]),
    );
  }

  #save() {
    const { learned, real } = this.#keys;
    remember(this.#storageKey, { keys: learned, realKeys: real, names: this.#ownNames });
    this.dispatchEvent(new Event("change"));
  }
}

/** The label of a key on a button. */
export function keyLabel(code) {
  return KEY_LABELS[code] ?? code.replace(/^(Key|Digit)/, "").replace(/^Pad(\d)/, "pad $1");
}

/** The name of a key for screen readers. */
export function keyName(code) {
  if (ARROWS.includes(code)) return `${code.slice(5).toLowerCase()} arrow`;
  return code.replace(/^(Key|Digit)/, "").replace(/^Pad(\d)/, "gamepad $1");
}

/**
 * Lets keyboard and gamepad play and give commands (by code), except while a field is edited.
 * A command is {run, repeats}. `capture(code)` gets every key first and returns whether it used it.
 */
export function listenToKeys(held, bindings, commands, capture) {
  const editing = (target) => target.closest?.("select, textarea, dialog, input:not([type=checkbox])");
  const activates = (event) => ["Space", "Enter", "NumpadEnter"].includes(event.code)
    && event.target.closest?.("button, summary, input") && !capture.waiting();
  const press = (code, at) => {
    if (capture(code)) return;
    const action = bindings.action(code);
    if (action === undefined) commands[code]?.run();
    else held.press(code, action, at);
  };
  addEventListener("keydown", (event) => {
    const known = bindings.action(event.code) !== undefined || commands[event.code];
    if (event.ctrlKey || event.altKey || event.metaKey || editing(event.target) || activates(event)) return;
    if (event.code === "Tab" || event.code === "ShiftLeft" || event.code === "ShiftRight") return;
    if (!known && !capture.waiting()) return;
    event.preventDefault();
    if (!event.repeat || commands[event.code]?.repeats) press(event.code, event.timeStamp);
  });
  addEventListener("keyup", (event) => held.release(event.code));
  addEventListener("blur", () => held.releaseAll());
  listenToGamepads(press, (code) => held.release(code));
}

function listenToGamepads(press, release) {
  let down = new Set();
  let polling = false;
  const poll = () => {
    const pads = navigator.getGamepads().filter((pad) => pad?.connected);
    const now = new Set(pads.flatMap(codesOf));
    for (const code of now) if (!down.has(code)) press(code);
    for (const code of down) if (!now.has(code)) release(code);
    down = now;
    polling = pads.length > 0;
    if (polling) requestAnimationFrame(poll);
  };
  addEventListener("gamepadconnected", () => {
    if (!polling) poll();
  });
}

function codesOf(pad) {
  const codes = pad.buttons.flatMap((button, i) => (button.pressed ? [PAD_ARROWS[i] ?? `Pad${i}`] : []));
  const [x = 0, y = 0] = pad.axes;
  if (Math.abs(x) > STICK_THRESHOLD) codes.push(x < 0 ? "ArrowLeft" : "ArrowRight");
  if (Math.abs(y) > STICK_THRESHOLD) codes.push(y < 0 ? "ArrowUp" : "ArrowDown");
  return codes;
}

/** Makes an on-screen button hold an action for as long as it is pressed. */
export function holdWithButton(button, held, action) {
  const source = `button ${action}`;
  const isPressKey = (event) => event.code === "Space" || event.code === "Enter";
  button.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    button.setPointerCapture(event.pointerId);
    held.press(source, action, event.timeStamp);
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture", "blur"]) {
    button.addEventListener(end, () => held.release(source));
  }
  button.addEventListener("contextmenu", (event) => event.preventDefault());
  button.addEventListener("keydown", (event) => {
    if (!isPressKey(event)) return;
    event.preventDefault();
    event.stopPropagation();
    if (!event.repeat) held.press(source, action, event.timeStamp);
  });
  button.addEventListener("keyup", (event) => isPressKey(event) && held.release(source));
}
