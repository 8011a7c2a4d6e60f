// The world's actions on the page: on-screen buttons with previews, and their names and keys.

import { allActions, holdWithButton, keyLabel, keyName, mainActions, realActions } from "./controls.js";
import { $, announce, element } from "./page.js";

let world, bindings;
let waitingFor = null; // the action that the next key is bound to

/** Builds the on-screen keys and the list of names. */
export function buildButtons(playedWorld, keyBindings, held) {
  [world, bindings] = [playedWorld, keyBindings];
  const actions = [...allActions(world), ...realActions(world)];
  $("pad").replaceChildren(...actions.map((action) => padButton(action, held)));
  $("buttons").replaceChildren(...actions.map(nameRow));
  bindings.addEventListener("change", showBindings);
  $("save-names").addEventListener("click", saveNames);
  showBindings();
  showActions();
}

/** The actions that have a button now. */
export function shownActions() {
  if (bindings.real) return realActions(world);
  return $("all-actions").checked ? allActions(world) : mainActions(world);
}

/** Shows the buttons of the actions that should have one. */
export function showActions() {
  const shown = shownActions();
  for (const list of [$("pad"), $("buttons")]) {
    [...list.children].forEach((item, action) => { item.hidden = !shown.includes(action); });
  }
  $("naming").hidden = bindings.real || !world.can_name;
  $("all-actions-field").hidden = bindings.real || mainActions(world).length === world.num_actions;
  $("names-hint").hidden = bindings.real;
  $("real-hint").hidden = !bindings.real;
}

/** What an action was measured to do, "" where it was not. */
function effectOf(action) {
  if (world.buttons.length === 0 || action >= world.num_actions) return "";
  const button = world.buttons.find(({ actions }) => actions.includes(action));
  if (!button) return "No effect of its own was measured.";
  const [main] = button.actions;
  return action === main ? button.effect : `Does the same as ${nameOf(main)}.`;
}

/** The name of an action for the player. */
export function nameOf(action) {
  return bindings.names[action] || `action ${action + 1}`;
}

/** Binds a key if an action waits for one. Returns whether it did. */
export function capture(code) {
  if (waitingFor === null) return false;
  const action = waitingFor;
  waitFor(null);
  if (code === "Backspace" || code === "Delete") bindings.unbind(action);
  else if (code !== "Escape") bindings.bind(code, action);
  announce(`${nameOf(action)}: ${bindings.keysOf(action).map(keyName).join(", ") || "no key"}`);
  return true;
}
capture.waiting = () => waitingFor !== null;

/** Shows the preview of an action on its button. */
export async function showPreview(frame) {
  const bitmap = await createImageBitmap(frame.picture);
  const canvas = $("pad").children[frame.previewAction - 1].querySelector("canvas");
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  canvas.dataset.frame = frame.id;
  canvas.classList.remove("stale");
  bitmap.close();
}

/** Marks the previews as out of date, because the game continued. */
export function markPreviewsStale() {
  for (const canvas of $("pad").querySelectorAll("canvas")) canvas.classList.add("stale");
}

/** Shows or hides the space for previews. It is reserved before they arrive, so that buttons do not move. */
export function reservePreviewSpace(wanted) {
  $("pad").classList.toggle("with-previews", wanted);
  $("preview-hint").hidden = !wanted;
}

export function showHeld(actions) {
  for (const button of $("pad").children) {
    button.classList.toggle("held", actions.includes(Number(button.dataset.action)));
  }
}

/** Shows as a bar on each button how likely an agent takes its actions; without chances there are none. */
export function showChances(chances = null) {
  $("pad").classList.toggle("with-chances", chances !== null && !bindings.real); // it rates learned actions
  for (const button of chances ? $("pad").children : []) {
    const action = Number(button.dataset.action);
    const group = !$("all-actions").checked && world.buttons.find(({ actions }) => actions[0] === action);
    const chance = (group ? group.actions : [action]).reduce((sum, member) => sum + (chances[member] ?? 0), 0);
    button.style.setProperty("--chance", chance.toFixed(3));
  }
}

function padButton(action, held) {
  const picture = element("canvas", { width: world.width, height: world.height });
  picture.setAttribute("aria-hidden", "true");
  const button = element("button", { type: "button" }, picture, element("span"), element("small"));
  button.dataset.action = action;
  button.title = effectOf(action);
  holdWithButton(button, held, action);
  return button;
}

function nameRow(action) {
  const key = element("button", { type: "button" });
  key.addEventListener("click", () => waitFor(waitingFor === action ? null : action));
  key.addEventListener("blur", () => waitingFor === action && waitFor(null));
  if (action >= world.num_actions) {
    const number = element("b", {}, String(action - world.num_actions + 1));
    return element("li", {}, number, element("span", {}, nameOf(action)), key);
  }
  const name = element("input", { type: "text", maxLength: 20, value: bindings.names[action] });
  name.placeholder = `action ${action + 1}`;
  name.setAttribute("aria-label", `Name of action ${action + 1}`);
  name.addEventListener("change", () => bindings.name(action, name.value));
  return element("li", {}, element("b", {}, String(action + 1)), name, key, element("small", { className: "quiet" }, effectOf(action)));
}

/** Saves the names in the world's folder, for everyone who plays it. */
async function saveNames() {
  const showStatus = (text) => { $("names-status").textContent = text; };
  try {
    const response = await fetch(`worlds/${encodeURIComponent(world.name)}/names`, {
      method: "PUT",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ names: bindings.chosenNames }),
    });
    const { names, detail } = await response.json();
    if (!response.ok) return showStatus(detail);
    bindings.setWorldNames(names);
    return showStatus("The names are saved with the world.");
  } catch {
    return showStatus("The server does not answer. The names stay in this browser.");
  }
}

function waitFor(action) {
  waitingFor = action;
  if (action !== null) announce("Press a key. Backspace removes the keys, Escape cancels.");
  showBindings();
}

function showBindings() {
  for (const [action, item] of [...$("buttons").children].entries()) {
    const keys = bindings.keysOf(action);
    const waiting = waitingFor === action;
    const field = item.querySelector("input");
    if (field && field !== document.activeElement) field.value = bindings.names[action];
    const button = item.querySelector("button");
    button.textContent = waiting ? "press a key…" : keys.map(keyLabel).join(" ") || "no key";
    button.setAttribute("aria-pressed", String(waiting));
    const called = action < world.num_actions ? `action ${action + 1}` : nameOf(action);
    button.setAttribute("aria-label", `Keys of ${called}: ${keys.map(keyName).join(", ") || "none"}`);
    const [, label, small] = $("pad").children[action].children;
    const byKeyboard = keys.filter((code) => !code.startsWith("Pad"));
    label.textContent = bindings.names[action] || String(action + 1);
    label.className = bindings.names[action] ? "named" : "";
    small.textContent = byKeyboard.map(keyLabel).join(" ");
    const number = action < world.num_actions ? `Action ${action + 1}` : "Real action";
    const parts = [number, bindings.names[action], ...byKeyboard.map(keyName)];
    $("pad").children[action].setAttribute("aria-label", parts.filter(Boolean).join(", "));
  }
}
