// Saving a game: videos, replay files and links.

import { $, element } from "./page.js";

const HASH = "#game=";
const MAX_MESSAGE = 2 ** 18;
const MAX_LINK = 100_000;

let connection, world, openGame;
let purpose = "file"; // of the replay that was asked for

/**
 * Connects the buttons; `open({prompt, seed, actions, sampling, hash})` replays a game. A video can be
 * saved in `formats`.
 */
export function buildRecording(toWorld, playedWorld, open, formats) {
  [connection, world, openGame] = [toWorld, playedWorld, open];
  for (const button of document.querySelectorAll("[data-video]")) {
    button.hidden = !formats.includes(button.dataset.video);
    button.addEventListener("click", () => {
      showStatus("Encoding the last minute as a video…");
      connection.send({ type: "film", format: button.dataset.video });
    });
  }
  $("save").addEventListener("click", () => requestReplay("file"));
  $("share").addEventListener("click", () => requestReplay("link"));
  $("open").addEventListener("click", () => $("replay").click());
  $("replay").addEventListener("change", async () => {
    if ($("replay").files[0]) await openReplay($("replay").files[0]);
    $("replay").value = "";
  });
  connection.addEventListener("video", ({ detail }) => {
    const ending = detail.picture.type.split("/")[1];
    download(detail.picture, `${world.name}.${ending}`);
    showStatus(`${world.name}.${ending} is in your downloads.`);
  });
  connection.addEventListener("note", ({ detail }) => detail.type === "replay" && exportReplay(detail));
}

/** The game that the page's address holds, or null. */
export async function gameOfAddress() {
  if (!location.hash.startsWith(HASH)) return null;
  try {
    return JSON.parse(await inflate(location.hash.slice(HASH.length)));
  } catch {
    showStatus("The link is damaged. Ask for it again.");
    return null;
  }
}

/** Plays a replay file. */
export async function openReplay(file) {
  let replay;
  try {
    replay = JSON.parse(await file.text());
  } catch { /* said below */ }
  if (replay?.format !== "genie-replay") return showStatus(`${file.name} is not a replay file.`);
  if (file.size > MAX_MESSAGE) {
    return showStatus(`${file.name} is too long for the page. Render it with: genie replay ${file.name} --out clip.mp4`);
  }
  const { prompt, seed, actions, sampling, hash } = replay;
  return openGame({ prompt, seed, actions, sampling, hash });
}

export function showStatus(text) {
  $("save-status").textContent = text;
}

function requestReplay(what) {
  purpose = what;
  connection.send({ type: "save" });
}

async function exportReplay({ replay, gallery }) {
  if (purpose === "file") {
    const blob = new Blob([JSON.stringify(replay)], { type: "application/json" });
    download(blob, `${replay.world}.replay.json`);
    showStatus(`${replay.world}.replay.json replays this game. Open it here, or render it with: genie replay FILE --out clip.mp4`);
    return;
  }
  const { seed, actions, sampling, hash } = replay;
  const packed = await deflate(JSON.stringify({ prompt: gallery ?? replay.prompt, seed, actions, sampling, hash }));
  if (packed.length > MAX_LINK) return void showStatus("The game is too long for a link. Save a replay file instead.");
  const link = new URL(`?${new URLSearchParams({ world: world.name })}${HASH}${packed}`, location.href).href;
  $("link").value = link;
  $("link-field").hidden = false;
  $("link").select();
  try {
    await navigator.clipboard.writeText(link);
    showStatus("The link is copied. It opens this game wherever this server can be reached.");
  } catch {
    showStatus("Copy the link. It opens this game wherever this server can be reached.");
  }
}

function download(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

async function deflate(text) {
  const packed = new Blob([text]).stream().pipeThrough(new CompressionStream("deflate-raw"));
  const bytes = new Uint8Array(await new Response(packed).arrayBuffer());
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

async function inflate(packed) {
  const binary = atob(packed.replaceAll("-", "+").replaceAll("_", "/"));
  const bytes = Uint8Array.from(binary, (letter) => letter.charCodeAt(0));
  const text = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Response(text).text();
}
