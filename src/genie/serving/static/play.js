// The page: ties the connection, the controls and what is shown together.

import { markPreviewsStale, buildButtons, capture, reservePreviewSpace, nameOf, showActions, showChances, shownActions, showHeld, showPreview } from "./buttons.js";
import { Bindings, Held, listenToKeys, mainActions } from "./controls.js";
import { Measures } from "./measures.js";
import { $, announce, element, remember, remembered } from "./page.js";
import { buildPrompts, isPicture, openPromptFile, showChosen } from "./prompts.js";
import { buildRecording, gameOfAddress, openReplay, showStatus } from "./recording.js";
import { Retry } from "./retry.js";
import { Connection, devices, listWorlds, refusal, videoFormats } from "./transport.js";

const WAIT = "wait";
const HELD_AFTER = 0.5; // of a step: a key that is released before is not held, its press is played once
const PREVIEW_STEPS = 4;
const PREVIEW_AFTER_MS = 400;
const connection = new Connection();
const held = new Held();
const context = $("canvas").getContext("2d");
const gameStarts = new Map(); // number of a game that is kept -> {prompt, seed}
let world, bindings, measures;
let current = 0; // number of the game that is played
let paused = false;
let stepping = false; // step by step: a key is one step, and nothing happens without one
let agentPlays = false; // until a key is pressed
let pausedByHiding = false;
let lastShown = 0;
let lastPlayed = 0; // action
let previewedAt = 0; // frame
let previewTimer;
let replayedSteps = 0; // steps of a game that was opened
let wasHeld = [];
let sentHeld = []; // what the server knows to be held
let heldTimer;
const recentlyPressed = new Set(); // actions, not yet sent as held
let linkOpened = false;
let connectionError = ""; // why there is no connection
let linkError = ""; // why the game of the link is not played
let played = {}; // of the current game, for another server: actions, sampling, token, hash
let asked = {}; // the same of a game that was asked for and may be refused

function overlay(text, again = "") {
  $("overlay-text").textContent = text;
  $("overlay").hidden = !text;
  $("again").textContent = again;
  $("again").hidden = !again;
}

function showLost({ reason, final }) {
  if (reason !== connectionError) announce(reason);
  connectionError = reason;
  overlay(reason, final ? "Connect again" : "Try now");
}

function showWaiting(seconds) {
  overlay(`${connectionError} Trying again in ${seconds} s`, "Try now");
}

// Starting

function start(prompt, seed = null, { resume, ...more } = {}) {
  const continued = resume !== undefined;
  const wasPaused = continued && paused;
  asked = { prompt, actions: more.actions ?? [], sampling: more.sampling ?? [], hash: more.hash, token: resume ?? "" };
  if (!gameStarts.has(current)) gameStarts.set(current, { prompt, seed });
  held.releaseAll();
  sendIdle();
  sendSampling();
  sendPace();
  connection.input({ type: "start", prompt, seed, ...more, resume: asked.token });
  replayedSteps = more.actions?.length ?? 0;
  const pauses = continued ? wasPaused : replayedSteps > 0;
  setPaused(false);
  if (stepping || pauses) connection.send({ type: "pause", paused: true });
  if (pauses && !stepping) setPaused(true);
  if (stepping || !continues()) overlay(pauses ? "Paused" : hint());
  showChosen(prompt);
  announce(continued ? "The game goes on" : "New game");
}

/** Continues the game that a lost server played; without its token it is played again. */
function resumeGame(token = played.token) {
  const { prompt, seed } = gameStarts.get(current);
  const { actions, sampling, hash } = played;
  start(prompt, seed, { actions, sampling, hash, resume: token });
}

/** Keeps what another server needs: all actions that were played, changes of sampling, the newest token. */
function keepPlayed({ from, actions, sampling = [], token, hash }) {
  played.actions.length = from;
  for (const action of actions) played.actions.push(action);
  played.sampling = played.sampling.filter(({ step }) => step < from);
  for (const change of sampling) {
    if (JSON.stringify(change.sampling) !== JSON.stringify(played.sampling.at(-1)?.sampling)) played.sampling.push(change);
  }
  if (token) Object.assign(played, { token, hash });
}

function hint() {
  const verb = stepping ? "Press" : "Hold";
  const digits = Math.min(9, bindings.real ? world.real_actions.length : world.num_actions);
  return `${linkError}${verb} a key from 1 to ${digits}, an arrow or a button`;
}

function reset() {
  const { prompt, seed } = gameStarts.get(current);
  start(prompt, seed);
}

function openGame({ prompt, seed, ...more }) {
  start(prompt, seed, more);
}

// The clock

function setPaused(value) {
  paused = value;
  $("pause").setAttribute("aria-pressed", String(value));
  $("pause-label").textContent = value ? "Resume" : "Pause";
  overlay(value ? "Paused" : "");
  previewSoon();
}

function pause(value) {
  if (stepping) return;
  connection.send({ type: "pause", paused: value });
  setPaused(value);
  announce(value ? "Paused" : "Resumed");
}

function setStepping(value) {
  setPaused(false);
  if (value && agentPlays) setAgentPlays(false);
  stepping = value;
  remember("genie.stepping", value);
  $("mode").setAttribute("aria-pressed", String(value));
  $("pause").disabled = value;
  sendIdle();
  connection.send({ type: "pause", paused: value });
  if (value) overlay(hint());
  announce(value ? "Step by step: a key is one step" : "Real time: the world runs while a key is held");
}

/** Lets an agent play, or ends that; an action of the player ends it too. */
function setAgentPlays(value) {
  agentPlays = value;
  $("agent").setAttribute("aria-pressed", String(value));
  if (value && stepping) setStepping(false);
  if (value && paused) pause(false);
  if (!value) showChances();
  sendIdle();
  previewSoon();
  announce(value ? "The agent plays until you press a key" : "You play");
}

/** Lets keys and buttons play the actions of the real game, or those that the world learned. */
function setReal(value) {
  held.releaseAll();
  bindings.real = value;
  remember("genie.real", value);
  $("real").setAttribute("aria-pressed", String(value));
  $("idle").value = WAIT;
  showActions();
  fillIdle();
  sendIdle();
  [lastPlayed] = shownActions();
  if (!$("overlay").hidden && !paused) overlay(hint());
  previewedAt = 0;
  previewSoon();
  announce(value ? "Buttons and keys play actions of the real game" : "Buttons and keys play the learned actions");
}

function playStep(action, at = performance.now()) {
  lastPlayed = action;
  measures.pressed(connection.input({ type: "step", action }), at);
}

function singleStep() {
  if (!stepping && !paused) pause(true);
  playStep(held.actions.at(-1) ?? idleAction() ?? lastPlayed);
}

function undo() {
  const running = !stepping && !paused;
  if (running) pause(true);
  connection.input({ type: "undo", steps: running ? Math.max(1, Math.round(world.fps / 2)) : 1 });
  announce("Undone");
}

function idleAction() {
  return $("idle").value === WAIT ? null : Number($("idle").value);
}

/** Whether the game goes on while no key is held. */
function continues() {
  return agentPlays || idleAction() !== null;
}

/** Frames per second that should come now. */
function expectedRate() {
  const runs = !stepping && !paused && (held.actions.length > 0 || continues());
  return runs ? world.fps / Number($("pace").value) : 0;
}

function sendIdle() {
  const idle = agentPlays ? { action: null, agent: true } : { action: stepping ? null : idleAction() };
  connection.send({ type: "idle", ...idle });
}

function sendPace() {
  connection.send({ type: "pace", every: Number($("pace").value) });
}

function sendSampling() {
  const value = (id) => ($(id).value === "" || !$(id).validity.valid ? null : Number($(id).value));
  const sampling = { steps: value("maskgit-steps"), temperature: value("temperature") };
  if (world.can_guide) sampling.guidance = value("guidance");
  connection.send({ type: "sampling", ...sampling });
}

function showDevice({ device, text }) {
  const plays = device === "webgpu" ? "WebGPU plays." : "WebAssembly plays.";
  $("device-status").textContent = text ? `${plays} ${text.replace(/\.$/, "")}.` : plays;
}

// Games that are kept

function showGames({ current: number, games, most }) {
  if (!gameStarts.has(number)) gameStarts.set(number, gameStarts.get(current));
  current = number;
  $("games").hidden = games.length < 2;
  $("branch").disabled = games.length >= most;
  $("games").replaceChildren(...games.map(gameTab));
  showChosen(gameStarts.get(current).prompt);
}

function gameTab({ game, step }) {
  const isCurrent = game === current;
  const label = isCurrent ? `Game ${game + 1}, played now` : `Game ${game + 1}, at step ${step}`;
  const tab = element("button", { type: "button" }, label);
  tab.setAttribute("aria-pressed", String(isCurrent));
  tab.addEventListener("click", () => !isCurrent && switchTo(game));
  if (isCurrent) return tab;
  const close = element("button", { type: "button", title: "Delete this game" }, "×");
  close.setAttribute("aria-label", `Delete game ${game + 1}`);
  close.addEventListener("click", () => connection.send({ type: "close", game }));
  return element("span", {}, tab, close);
}

function switchTo(game) {
  if (!stepping) pause(true);
  connection.send({ type: "switch", game });
  announce(`Back in game ${game + 1}`);
}

function branch() {
  connection.send({ type: "branch" });
  announce("Branched. The original game is kept");
}

// Showing frames

async function show(frame) {
  const bitmap = await createImageBitmap(frame.picture);
  if (frame.id > lastShown) {
    lastShown = frame.id;
    context.drawImage(bitmap, 0, 0);
    if (frame.step < replayedSteps) overlay(`Replaying: ${frame.step} of ${replayedSteps}`);
    else if (frame.step > 0) overlay(paused ? "Paused" : "");
    measures.shown(frame);
    $("canvas").dataset.frame = frame.id;
    markPreviewsStale();
    previewSoon();
  }
  bitmap.close();
  connection.send({ type: "ack", frame: frame.id });
}

function atRest() {
  return held.actions.length === 0 && (stepping || paused || !continues());
}

function previewSoon() {
  clearTimeout(previewTimer);
  previewTimer = setTimeout(() => {
    if (!$("previews").checked || document.hidden || !atRest() || lastShown === previewedAt) return;
    previewedAt = lastShown;
    connection.send({ type: "peek", steps: PREVIEW_STEPS, real: bindings.real });
  }, PREVIEW_AFTER_MS);
}

// Building the page for a world

function fillIdle() {
  const chosen = $("idle").value || WAIT;
  const actions = shownActions();
  if (chosen !== WAIT && !actions.includes(Number(chosen))) actions.push(Number(chosen));
  const runs = actions.map((action) => new Option(`it continues with ${nameOf(action)}`, String(action)));
  $("idle").replaceChildren(new Option("the world waits", WAIT), ...runs);
  $("idle").value = chosen;
}

// After a click or a choice by mouse the keyboard plays again; by keyboard the focus stays.
function giveFocusBack() {
  addEventListener("click", (event) => {
    const button = event.detail > 0 && event.target.closest("button");
    if (button && !button.closest("#buttons, dialog")) $("screen").focus({ preventScroll: true });
  });
  for (const select of document.querySelectorAll("select")) {
    let byPointer = false;
    select.addEventListener("pointerdown", () => { byPointer = true; });
    select.addEventListener("keydown", () => { byPointer = false; });
    select.addEventListener("change", () => byPointer && $("screen").focus());
  }
  for (const field of document.querySelectorAll("select, main input")) {
    field.addEventListener("keydown", (event) => event.code === "Escape" && $("screen").focus());
  }
}

function buildWorlds(worlds) {
  $("worlds-section").hidden = worlds.length < 2;
  $("worlds").replaceChildren(...worlds.map(({ name, prompts }) => {
    const link = element("a", { href: `?${new URLSearchParams({ world: name })}` });
    link.append(element("img", { src: prompts[0], alt: "" }), name);
    if (name === world.name) link.ariaCurrent = "true";
    return link;
  }));
}

function build() {
  document.title = `${world.name} · Genie`;
  const different = mainActions(world).length < world.num_actions ? "different " : "";
  const actions = `${mainActions(world).length} ${different}actions`;
  const properties = [`${world.width}×${world.height}`, `${world.fps} frames/s`, actions];
  $("world").replaceChildren(element("strong", {}, world.name), ` · ${properties.join(" · ")}`);
  document.documentElement.style.setProperty("--aspect", world.width / world.height);
  Object.assign($("canvas"), { width: world.width, height: world.height });
  bindings = new Bindings(world);
  measures = new Measures(world.fps, expectedRate);
  buildPrompts(world, (prompt) => start(prompt));
  held.joined = (actions) => bindings.joined(actions);
  buildButtons(world, bindings, held);
  buildRecording(connection, world, openGame, videoFormats);
  $("previews").checked = remembered("genie.peeking") ?? true;
  reservePreviewSpace($("previews").checked);
  fillIdle();
  giveFocusBack();
}

// Wiring

function wire() {
  const commands = {
    KeyR: { run: reset },
    KeyN: { run: () => start(gameStarts.get(current).prompt) },
    KeyP: { run: () => pause(!paused) },
    KeyT: { run: () => setStepping(!stepping) },
    KeyA: { run: () => world.real_actions.length && setReal(!bindings.real) },
    KeyL: { run: () => world.has_agent && setAgentPlays(!agentPlays) },
    KeyB: { run: branch },
    KeyZ: { run: undo, repeats: true },
    Period: { run: singleStep, repeats: true },
  };
  const buttons = {
    reset: "KeyR", reseed: "KeyN", pause: "KeyP", mode: "KeyT", real: "KeyA", agent: "KeyL", branch: "KeyB", undo: "KeyZ", single: "Period",
  };
  for (const [id, code] of Object.entries(buttons)) $(id).addEventListener("click", commands[code].run);
  listenToKeys(held, bindings, commands, capture);
  bindings.addEventListener("change", fillIdle);
  $("idle").addEventListener("change", () => {
    sendIdle();
    previewSoon();
  });
  $("pace").addEventListener("change", sendPace);
  $("all-actions").addEventListener("change", () => {
    showActions();
    fillIdle();
  });
  for (const id of ["guidance-field", "guidance-hint"]) $(id).hidden = !world.can_guide;
  $("device-field").hidden = devices.length === 0;
  $("device").value = remembered("genie.device") ?? "auto";
  $("device").addEventListener("change", () => {
    remember("genie.device", $("device").value);
    connection.send({ type: "device", device: $("device").value });
  });
  for (const id of ["maskgit-steps", "temperature", "guidance"]) $(id).addEventListener("change", sendSampling);
  $("previews").addEventListener("change", () => {
    previewedAt = 0;
    remember("genie.peeking", $("previews").checked);
    reservePreviewSpace($("previews").checked);
    previewSoon();
  });
}

/** Sends the held actions if they changed. Each press is sent once; it returns the number of the message. */
function sendKeys(pressed = []) {
  const actions = held.actions.filter((action) => !recentlyPressed.has(action));
  if (pressed.length === 0 && String(actions) === String(sentHeld)) return null;
  sentHeld = actions;
  return connection.input({ type: "keys", held: actions, pressed });
}

/** A press is held from half a step on, so that the release of a tap need not reach the server in time. */
function holdSoon(pressed) {
  pressed.forEach((action) => recentlyPressed.add(action));
  clearTimeout(heldTimer);
  heldTimer = setTimeout(() => {
    recentlyPressed.clear();
    sendKeys();
  }, (HELD_AFTER * 1000 * Number($("pace").value)) / world.fps);
}

held.addEventListener("change", ({ pressing }) => {
  const actions = held.actions;
  const pressed = pressing ? actions.filter((action) => !wasHeld.includes(action)) : [];
  wasHeld = actions;
  if (pressed.length && agentPlays) setAgentPlays(false);
  lastPlayed = actions.at(-1) ?? lastPlayed;
  showHeld(actions);
  previewSoon();
  if (pressed.length) holdSoon(pressed);
  if (stepping) pressed.forEach((action) => playStep(action, held.pressedAt));
  const seq = sendKeys(stepping ? [] : pressed);
  if (pressed.length && !stepping && !paused) measures.pressed(seq, held.pressedAt);
});

connection.addEventListener("open", async () => {
  overlay("");
  connectionError = "";
  lastShown = previewedAt = 0;
  measures.forget();
  const linked = linkOpened ? null : await gameOfAddress();
  linkOpened = true;
  const begun = gameStarts.get(current) ?? { prompt: 0, seed: null };
  gameStarts.clear();
  current = 0;
  gameStarts.set(current, begun);
  $("games").hidden = true;
  $("branch").disabled = false;
  if (linked) openGame(linked);
  else if (played.token) resumeGame();
  else start(begun.prompt, begun.seed);
});
connection.addEventListener("frame", ({ detail }) => show(detail));
connection.addEventListener("preview", ({ detail }) => detail.id === lastShown && $("previews").checked && showPreview(detail));
connection.addEventListener("note", ({ detail }) => {
  if (detail.type === "started") {
    played = asked;
    gameStarts.set(current, { prompt: played.prompt, seed: detail.seed });
  }
  if (detail.type === "games") showGames(detail);
  if (detail.type === "resume") keepPlayed(detail);
  if (detail.type === "agent" && agentPlays) showChances(detail.chances);
  if (detail.type === "refused" && lastShown === 0 && asked.token) resumeGame("");
  else if (detail.type === "refused") {
    replayedSteps = 0;
    showStatus(detail.message);
    overlay(detail.message);
    if (lastShown === 0) {
      linkError = `${detail.message}. `;
      start(0);
      linkError = "";
    }
  }
});
connection.addEventListener("lost", ({ detail }) => {
  if (lastShown === 0 && !played.token) gameStarts.clear(); // a start that failed is not tried again
  showLost(detail);
});
connection.addEventListener("waiting", ({ detail }) => showWaiting(detail));
connection.addEventListener("device", ({ detail }) => showDevice(detail));
connection.addEventListener("loading", ({ detail }) => overlay(detail));

document.addEventListener("visibilitychange", () => {
  if (stepping) return;
  if (document.hidden && !paused) {
    pausedByHiding = true;
    pause(true);
  } else if (!document.hidden && pausedByHiding) {
    pausedByHiding = false;
    if (paused) pause(false);
  }
});
addEventListener("hashchange", async () => {
  const linked = await gameOfAddress();
  if (linked) openGame(linked);
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  const [file] = event.dataTransfer.files;
  if (file) (isPicture(file) ? openPromptFile : openReplay)(file);
});

async function open() {
  let worlds;
  try {
    worlds = await listWorlds();
  } catch {
    const why = await refusal("worlds");
    if (world) return; // another try got them meanwhile
    showLost(why ?? { reason: "The server does not answer.", final: false });
    if (!why?.final) opening.later(why?.seconds);
    return;
  }
  if (world) return;
  if (!worlds.length) return location.replace("label.html"); // the server of `genie label` has none
  connectionError = "";
  const wanted = new URLSearchParams(location.search).get("world");
  world = worlds.find(({ name }) => name === wanted) ?? worlds[0];
  buildWorlds(worlds);
  build();
  wire();
  if (remembered("genie.stepping")) setStepping(true);
  $("real").hidden = world.real_actions.length === 0;
  $("agent").hidden = !world.has_agent;
  if (remembered("genie.real") && world.real_actions.length) setReal(true);
  connection.open(world);
}

const opening = new Retry(open, showWaiting);
$("again").addEventListener("click", () => {
  overlay("Connecting");
  if (world) connection.openNow();
  else opening.now();
});
open();
