// One clip after the other is shown, and two keys label them. Each label is sent at once.

import { $ } from "./page.js";

const AHEAD = 4; // clips that are loaded before they are shown
const RETRY_MS = 1000;
const KEYS = { f: "bad", arrowleft: "bad", j: "good", arrowright: "good", u: "undo", backspace: "undo", " ": "pause" };
const canvas = $("canvas"), context = canvas.getContext("2d");
let session, shown = null, drawn = -1, played = 0, before = 0, paused = false;
let loaded = [], last = -1, loading = false, complete = false;
let saving = Promise.resolve(), unsaved = 0, undoing = false, over = false;

/** An answer that says why not; asking again would not help. */
class Refusal extends Error {}

/** Asks the server, again and again while it does not answer. */
async function ask(path, content) {
  const body = content === undefined ? {} : { body: JSON.stringify(content), method: "POST" };
  for (let tries = 0; !over; tries += 1) {
    try {
      const answer = await fetch(path, { headers: { "Content-Type": "application/json" }, ...body });
      const told = await answer.json();
      if (!answer.ok) throw new Refusal(told.detail);
      if (tries) say("");
      return told;
    } catch (error) {
      if (error instanceof Refusal) throw error;
      if (over) break;
      say("The server does not answer. Start the same command again, and leave this page open.");
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
  throw new Refusal("");
}

function say(text) {
  if ($("status").textContent !== text) $("status").textContent = text;
}

function fail(error) {
  if (over) return;
  end(`${error.message} Load this page again.`);
}

function end(text) {
  over = true;
  say(text);
  update();
}

/** Loads clips until enough are ready. */
async function fill() {
  if (loading || complete) return;
  loading = true;
  while (!complete && loaded.length < AHEAD) {
    const { clip } = await ask(`label/clip?after=${last}`);
    if (clip) {
      last = clip.place;
      if (clip.name !== shown?.name) loaded.push(await decoded(clip));
    } else {
      complete = true;
    }
    if (!shown) next();
  }
  loading = false;
}

async function decoded(clip) {
  const bytes = Uint8Array.from(atob(clip.sheet), (letter) => letter.charCodeAt(0));
  return { ...clip, sheet: await createImageBitmap(new Blob([bytes], { type: "image/webp" })) };
}

function next() {
  show(loaded.shift() ?? null);
  fill().catch(fail);
}

function show(clip) {
  [shown, drawn, played] = [clip, -1, 0];
  if (clip) {
    [canvas.width, canvas.height] = [clip.width, clip.height];
    canvas.parentElement.style.setProperty("--aspect", clip.width / clip.height);
    canvas.setAttribute("aria-label", `Clip ${clip.name}`);
    canvas.dataset.clip = clip.name;
    draw();
  }
  update();
}

function draw() {
  const number = Math.floor(played * shown.fps) % shown.count;
  if (number === drawn) return;
  drawn = number;
  const x = (number % shown.columns) * shown.width, y = Math.floor(number / shown.columns) * shown.height;
  context.drawImage(shown.sheet, x, y, shown.width, shown.height, 0, 0, shown.width, shown.height);
}

function tick(now) {
  if (shown && !paused) {
    played += Math.min(now - before, 250) / 1000;
    draw();
  }
  before = now;
  requestAnimationFrame(tick);
}

function update() {
  const { good, bad, goal, least, clips } = session, count = good + bad;
  $("progress").max = goal;
  $("progress").value = count;
  $("count").textContent = `${count} of ${goal} labelled: ${good} good, ${bad} bad`;
  for (const id of ["good", "bad", "pause"]) $(id).disabled = over || (complete && !shown);
  $("undo").disabled = over || !canUndo();
  $("finish").disabled = over || Math.min(good, bad) < least;
  if (over) return;
  if (complete && !shown) say(`All ${clips} clips are labelled.`);
  else if (unsaved === 0) say(count >= goal ? "That is enough for a filter. More labels make it better." : "");
}

/** Does one thing on the server after the other. */
function inTurn(work) {
  saving = saving.then(work).catch(fail);
  return saving;
}

function label(word) {
  if (over || undoing || !shown) return;
  const { name, sheet } = shown;
  unsaved += 1;
  flash(word);
  sheet.close();
  next();
  inTurn(async () => {
    const counts = await ask("label/clip", { clip: name, label: word });
    unsaved -= 1;
    tell(counts);
  });
}

const canUndo = () => session.undo + unsaved > 0;

function undo() {
  if (over || undoing || !canUndo()) return;
  undoing = true;
  inTurn(async () => {
    const { clip, ...counts } = await ask("label/undo", {});
    const again = await decoded(clip);
    if (shown) loaded.unshift(shown);
    undoing = false;
    show(again);
    tell(counts);
  });
}

function tell(counts) {
  Object.assign(session, counts);
  update();
}

function flash(id) {
  $(id).classList.add("held");
  setTimeout(() => $(id).classList.remove("held"), 120);
}

function pause() {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", paused);
}

function finish() {
  inTurn(async () => {
    const { good, bad } = await ask("label/finish", {});
    end(`The command now learns the filter from ${good} good and ${bad} bad clips. You can close this page.`);
  });
}

/** The letter on the key, where the layout has Latin ones, and else its place on the keyboard. */
function keyOf({ key, code }) {
  return (/^[a-z ]$|^Arrow|^Backspace$/i.test(key) ? key : code.replace("Key", "")).toLowerCase();
}

const actions = { good: () => label("good"), bad: () => label("bad"), undo, pause, finish };

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const id = KEYS[keyOf(event)], onButton = event.target.closest("button");
  if (event.repeat ? !id && !onButton : !id || (onButton && event.key === " ")) return;
  event.preventDefault();
  if (id && !event.repeat && session && !$(id).disabled) actions[id]();
});
for (const [id, act] of Object.entries(actions)) {
  $(id).onclick = act;
  $(id).onmousedown = (event) => event.preventDefault(); // else the space bar would press it again
}
addEventListener("beforeunload", (event) => { if (unsaved && !over) event.preventDefault(); });

async function open() {
  session = await ask("label/session");
  $("about").textContent = `${session.clips} clips of ${session.store}`;
  $("file").textContent = session.file;
  update();
  requestAnimationFrame(tick);
  await fill();
}

open().catch((error) => {
  if (session) fail(error);
  else $("about").textContent = "This page belongs to the command genie label STORE.";
});
