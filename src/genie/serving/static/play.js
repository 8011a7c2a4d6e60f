// The page: ties the connection, the controls and what is shown together.

import { Connection } from "./connection.js";
import { ARROWS, ARROW_SIGNS, Bindings, Held, holdWithButton, listenToKeys } from "./controls.js";

const WAIT = "wait";
const $ = (id) => document.getElementById(id);
const context = $("canvas").getContext("2d");
const connection = new Connection();
const held = new Held();
const pressedAt = new Map(); // sequence number of a key press -> when
const shownAt = []; // when the frames of the last second were shown
let world, bindings, game; // game: {prompt, seed}, the one that Reset restores
let paused = false;
let pausedByHiding = false;
let lastShown = 0;

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function announce(text) {
  $("announcer").textContent = text;
}

function overlay(text) {
  $("overlay").textContent = text;
  $("overlay").hidden = !text;
}

// Starting, pausing

function start(prompt, seed = null) {
  game = { prompt, seed };
  held.releaseAll();
  connection.send({ type: "idle", action: idleAction() });
  connection.input({ type: "start", prompt, seed });
  showPaused(false);
  if (idleAction() === null) overlay(hint());
  for (const [i, button] of [...$("gallery").children].entries()) {
    button.setAttribute("aria-pressed", String(i === prompt));
  }
  announce(`New game from picture ${prompt + 1}`);
}

function hint() {
  return `Hold a key from 1 to ${Math.min(9, world.num_actions)}, an arrow or a button`;
}

function reset() {
  if (game) start(game.prompt, game.seed);
}

function showPaused(value) {
  paused = value;
  $("pause").setAttribute("aria-pressed", String(value));
  $("pause-label").textContent = value ? "Resume" : "Pause";
  overlay(value ? "Paused" : "");
}

function pause(value) {
  connection.send({ type: "pause", paused: value });
  showPaused(value);
  announce(value ? "Paused" : "Resumed");
}

function idleAction() {
  return $("idle").value === WAIT ? null : Number($("idle").value);
}

// Showing frames

async function show(frame) {
  const bitmap = await createImageBitmap(frame.picture);
  if (frame.id > lastShown) {
    lastShown = frame.id;
    context.drawImage(bitmap, 0, 0);
    if (frame.step > 0 && !paused) overlay("");
    measure(frame);
  }
  bitmap.close();
  connection.send({ type: "ack", frame: frame.id });
}

function measure(frame) {
  const now = performance.now();
  shownAt.push(now);
  $("drawing").textContent = `${frame.drawingMs.toFixed(0)} ms`;
  $("step").textContent = frame.step;
  $("canvas").dataset.frame = frame.id;
  for (const [seq, at] of pressedAt) {
    if (seq > frame.lastInput) continue;
    pressedAt.delete(seq);
    if (frame.step > 0) $("latency").textContent = `${(now - at).toFixed(0)} ms`;
  }
}

function showRate() {
  const now = performance.now();
  while (shownAt.length && shownAt[0] < now - 1000) shownAt.shift();
  const seconds = (shownAt.at(-1) - shownAt[0]) / 1000;
  $("fps").textContent = shownAt.length > 1 ? ((shownAt.length - 1) / seconds).toFixed(1) : "0";
}

// Building the page for a world

function buildGallery() {
  $("gallery").replaceChildren(...world.prompts.map((url, i) => {
    const picture = element("img", { src: url, alt: "", draggable: false });
    const button = element("button", { type: "button", title: `Start from picture ${i + 1}` }, picture);
    button.setAttribute("aria-label", `Picture ${i + 1}`);
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => start(i));
    return button;
  }));
}

function buildPad() {
  $("pad").replaceChildren(...Array.from({ length: world.num_actions }, (_, action) => {
    const arrows = element("small");
    const button = element("button", { type: "button" }, String(action + 1), arrows);
    button.dataset.action = action;
    holdWithButton(button, held, action);
    return button;
  }));
  showBindings();
}

function showBindings() {
  for (const button of $("pad").children) {
    const action = Number(button.dataset.action);
    const arrows = ARROWS.filter((code) => bindings.arrows[code] === action);
    button.lastChild.textContent = arrows.map((code) => ARROW_SIGNS[code]).join(" ");
    const names = arrows.map((code) => `, ${code.slice(5).toLowerCase()} arrow`).join("");
    button.setAttribute("aria-label", `Action ${action + 1}${names}`);
  }
}

function actionOptions(label) {
  return Array.from({ length: world.num_actions }, (_, a) => new Option(label(a), String(a)));
}

function buildIdle() {
  const wait = new Option("the world waits", WAIT, true, true);
  $("idle").replaceChildren(wait, ...actionOptions((a) => `it runs on with action ${a + 1}`));
  $("idle").addEventListener("change", () => connection.send({ type: "idle", action: idleAction() }));
}

function buildArrows() {
  $("arrows").replaceChildren(...ARROWS.map((code) => {
    const select = element("select", { name: code });
    select.replaceChildren(...actionOptions((a) => `action ${a + 1}`));
    select.value = String(bindings.arrows[code]);
    select.addEventListener("change", () => {
      bindings.bind(code, Number(select.value));
      showBindings();
    });
    const sign = element("kbd", {}, ARROW_SIGNS[code]);
    const name = `${code.slice(5)} arrow plays`;
    select.setAttribute("aria-label", name);
    return element("label", { className: "field" }, sign, select);
  }));
}

// After a choice by mouse the keyboard plays again; a choice by keyboard keeps its focus.
function giveFocusBack() {
  for (const select of document.querySelectorAll("select")) {
    let byPointer = false;
    select.addEventListener("pointerdown", () => { byPointer = true; });
    select.addEventListener("keydown", (event) => {
      byPointer = false;
      if (event.code === "Escape") $("screen").focus();
    });
    select.addEventListener("change", () => byPointer && $("screen").focus());
  }
}

function build() {
  document.title = `${world.name} · Genie`;
  const facts = [`${world.width}×${world.height}`, `${world.fps} frames/s`, `${world.num_actions} actions`];
  $("world").replaceChildren(element("strong", {}, world.name), ` · ${facts.join(" · ")}`);
  document.documentElement.style.setProperty("--aspect", world.width / world.height);
  Object.assign($("canvas"), { width: world.width, height: world.height });
  buildGallery();
  buildPad();
  buildIdle();
  buildArrows();
  giveFocusBack();
}

// Wiring

held.addEventListener("change", () => {
  const actions = held.actions;
  const seq = connection.input({ type: "keys", held: actions });
  if (actions.length && !paused) pressedAt.set(seq, performance.now());
  for (const button of $("pad").children) {
    button.classList.toggle("held", actions.includes(Number(button.dataset.action)));
  }
});

connection.addEventListener("open", () => {
  overlay("");
  lastShown = 0;
  pressedAt.clear();
  start(game?.prompt ?? 0, game?.seed ?? null);
});
connection.addEventListener("frame", ({ detail }) => show(detail));
connection.addEventListener("note", ({ detail }) => {
  if (detail.type === "started") game = { prompt: detail.prompt, seed: detail.seed };
});
connection.addEventListener("lost", ({ detail }) => {
  overlay(`${detail} Trying again…`);
  announce(detail);
});

$("reset").addEventListener("click", reset);
$("pause").addEventListener("click", () => pause(!paused));
document.addEventListener("visibilitychange", () => {
  if (document.hidden && !paused) {
    pausedByHiding = true;
    pause(true);
  } else if (!document.hidden && pausedByHiding) {
    pausedByHiding = false;
    if (paused) pause(false);
  }
});
setInterval(showRate, 250);

async function open() {
  try {
    [world] = await (await fetch("worlds")).json();
  } catch {
    overlay("The server does not answer. Reload the page once it runs.");
    return;
  }
  bindings = new Bindings(world.name, world.num_actions);
  build();
  listenToKeys(held, bindings, { KeyR: reset, KeyP: () => pause(!paused) });
  connection.open();
}

open();
