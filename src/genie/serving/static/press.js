// A clip is shown, and the keys that are held at each frame are sent: labels for its latent actions.

import { $, element } from "./page.js";

const canvas = $("canvas"), context = canvas.getContext("2d"), held = new Set();
let clip, sheet, began = null, unsure = false, recorded = [];

async function load() {
  const answer = await fetch("press/clip");
  if (!answer.ok) throw new Error("This page belongs to the command genie press WORLD");
  clip = await answer.json();
  const bytes = Uint8Array.from(atob(clip.sheet), (letter) => letter.charCodeAt(0));
  sheet = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  [canvas.width, canvas.height] = [clip.width, clip.height];
  for (const [name, code] of Object.entries(clip.keys)) $("pad").append(button(name, code));
  $("pad").append(button("cannot tell", "Space"));
  $("about").textContent = `${Math.round(clip.count / clip.fps)} seconds`;
  $("start").disabled = false;
  draw(0);
}

function button(name, code) {
  const label = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓" }[code] ?? code.replace("Key", "");
  const made = element("button", { type: "button" }, element("span", { textContent: name }), element("kbd", { textContent: label }));
  made.dataset.code = code;
  made.onpointerdown = (event) => { made.setPointerCapture(event.pointerId); hold(code, true); };
  made.onpointerup = made.onpointercancel = () => hold(code, false);
  return made;
}

function draw(number) {
  const x = (number % clip.columns) * clip.width, y = Math.floor(number / clip.columns) * clip.height;
  context.drawImage(sheet, x, y, clip.width, clip.height, 0, 0, clip.width, clip.height);
  canvas.dataset.frame = number;
  $("progress").value = number / clip.count;
}

const playing = () => began !== null;
const shown = () => Math.min(clip.count, Math.floor(((performance.now() - began) / 1000) * clip.fps));

/** Notes what has been held until now, for the frames shown meanwhile. */
function record() {
  const names = Object.entries(clip.keys).filter(([, code]) => held.has(code)).map(([name]) => name);
  while (recorded.length < shown()) recorded.push(unsure || held.has("Space") ? null : names);
}

function hold(code, down) {
  const pressed = $("pad").querySelector(`[data-code="${code}"]`);
  if (!pressed) return false;
  if (playing()) record();
  if (down) unsure = false;
  held[down ? "add" : "delete"](code);
  pressed.classList.toggle("held", down);
  return true;
}

function release() {
  for (const code of [...held]) hold(code, false);
}

function tick() {
  if (!playing()) return;
  record();
  if (recorded.length >= clip.count) return void finish();
  draw(recorded.length);
  requestAnimationFrame(tick);
}

function start() {
  [began, recorded, unsure] = [performance.now(), [], false];
  $("start").disabled = true;
  $("finish").disabled = false;
  $("start").blur();
  $("status").textContent = "";
  requestAnimationFrame(tick);
}

async function finish() {
  while (recorded.length < clip.count) recorded.push(null);
  began = null;
  release();
  $("finish").disabled = true;
  $("status").textContent = "Making the mapper";
  const answer = await fetch("press/held", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ held: recorded }),
  });
  const told = await answer.json();
  $("status").textContent = answer.ok ? summary(told) : told.detail;
  $("start").disabled = answer.ok;
}

function summary(told) {
  const right = Math.round(100 * told.last_quarter.to_real.accuracy);
  return `Saved, from ${told.labels} frames. Your keys came ${told.delay_seconds.toFixed(2)} seconds late. `
    + `The mapper says your key in ${right} % of the last quarter. Now play by these names: genie play.`;
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("button")) return;
  if (event.repeat ? held.has(event.code) : hold(event.code, true)) event.preventDefault();
});
addEventListener("keyup", (event) => hold(event.code, false));
addEventListener("blur", () => {
  if (playing()) record();
  unsure = true;
  release();
});
$("start").onclick = start;
$("finish").onclick = () => { record(); finish(); };
load().catch((error) => { $("about").textContent = error.message; });
