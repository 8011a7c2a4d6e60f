// What games start from: the world's pictures, and the player's own, fitted to the world.

import { $, announce, base64, element } from "./page.js";
import { reconstruct } from "./transport.js";

const MAX_PICTURE = 2 ** 18 - 2 ** 10; // characters of base64, below the limit of a message

const RECONSTRUCT_AFTER_MS = 250; // after the last stroke

let world, startGame, context;
let reconstructTimer;
let requests = 0; // for reconstructions
let video = null;
let unpainted = true; // a frame that comes late must not cover what was painted meanwhile
let brushAt = null; // where the brush is, in the world's pixels

/** Builds the gallery; `start(prompt)` begins a game from an index or from PNGs in base64. */
export function buildPrompts(playedWorld, start) {
  [world, startGame] = [playedWorld, start];
  for (const id of ["fitted", "reconstruction"]) Object.assign($(id), { width: world.width, height: world.height });
  context = $("fitted").getContext("2d", { alpha: false, willReadFrequently: true });
  $("gallery").replaceChildren(...world.prompts.map((url, i) => promptButton(url, `Picture ${i + 1}`, i)));
  $("upload").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => {
    if ($("file").files[0]) openPromptFile($("file").files[0]);
    $("file").value = "";
  });
  $("draw").addEventListener("click", () => edit());
  addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((item) => isPicture(item));
    if (file) openPromptFile(file);
  });
  $("frame").addEventListener("input", () => seek(Number($("frame").value)));
  $("fill").addEventListener("click", () => {
    unpainted = false;
    fill($("colour").value);
  });
  $("image-editor").addEventListener("close", () => finish($("image-editor").returnValue === "use"));
  listenToBrush();
}

export function isPicture(file) {
  return file.type.startsWith("image/") || file.type.startsWith("video/");
}

/** Marks the prompt that is played. */
export function showChosen(prompt) {
  for (const button of $("gallery").children) {
    button.setAttribute("aria-pressed", String(button.prompt === prompt));
  }
}

/** Opens an image or a video file in the editor. */
export async function openPromptFile(file) {
  try {
    if (file.type.startsWith("video/")) await openVideo(file);
    else await openPicture(file);
  } catch {
    $("save-status").textContent = `${file.name} cannot be read. Choose a PNG, JPEG, WebP, GIF, MP4 or WebM file.`;
  }
}

function promptButton(url, label, prompt) {
  const picture = element("img", { src: url, alt: "", draggable: false });
  const button = element("button", { type: "button", title: `Start from ${label.toLowerCase()}` }, picture);
  button.prompt = prompt;
  button.setAttribute("aria-label", label);
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => startGame(prompt));
  return button;
}

async function openPicture(file) {
  const bitmap = await createImageBitmap(file);
  fit(bitmap, bitmap.width, bitmap.height);
  bitmap.close();
  edit(false);
}

async function openVideo(file) {
  closeVideo();
  video = element("video", { muted: true, playsInline: true, preload: "auto", src: URL.createObjectURL(file) });
  await once(video, "loadeddata");
  unpainted = true;
  video.addEventListener("seeked", fitVideo);
  Object.assign($("frame"), { max: video.duration || 0, value: 0 });
  fitVideo();
  edit(false);
}

function once(target, name) {
  return new Promise((resolve, reject) => {
    target.addEventListener(name, resolve, { once: true });
    target.addEventListener("error", reject, { once: true });
  });
}

function seek(seconds) {
  $("frame").setAttribute("aria-valuetext", `at ${seconds.toFixed(1)} seconds`);
  if (!video) return;
  // "seeked" may come before the frame does, so the picture is taken again when it is there.
  unpainted = true;
  video.requestVideoFrameCallback?.(fitVideo);
  video.currentTime = seconds;
}

function fitVideo() {
  if (unpainted && video?.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA) fit(video, video.videoWidth, video.videoHeight);
}

function closeVideo() {
  if (video) URL.revokeObjectURL(video.src);
  video = null;
}

/** Crops the middle to the world's proportions and downsamples it by halves, so that no pixel is skipped. */
function fit(source, width, height) {
  const scale = Math.min(width / world.width, height / world.height);
  const [cropWidth, cropHeight] = [world.width * scale, world.height * scale];
  let factor = 2 ** Math.max(0, Math.floor(Math.log2(scale)));
  const crop = [(width - cropWidth) / 2, (height - cropHeight) / 2, cropWidth, cropHeight];
  let from = canvasOf(world.width * factor, world.height * factor);
  resize(from.getContext("2d"), source, ...crop);
  for (; factor > 1; factor /= 2) {
    const half = canvasOf(from.width / 2, from.height / 2);
    resize(half.getContext("2d"), from, 0, 0, from.width, from.height);
    from = half;
  }
  fill("#000000"); // under transparent pixels, as everywhere in the program
  context.drawImage(from, 0, 0);
  reconstructSoon();
}

function canvasOf(width, height) {
  return element("canvas", { width, height });
}

function resize(onto, source, ...crop) {
  onto.imageSmoothingQuality = "high";
  onto.drawImage(source, ...crop, 0, 0, onto.canvas.width, onto.canvas.height);
}

// The brush

function edit(blank = true) {
  if (blank) {
    closeVideo();
    fill("#87b5d9");
  }
  $("frame-field").hidden = video === null;
  brushAt = [Math.floor(world.width / 2), Math.floor(world.height / 2)];
  $("image-editor").returnValue = "";
  $("reconstruction").getContext("2d").clearRect(0, 0, world.width, world.height);
  if (!$("image-editor").open) $("image-editor").showModal();
  $("use").focus();
}

function fill(colour) {
  context.fillStyle = colour;
  context.fillRect(0, 0, world.width, world.height);
  reconstructSoon();
}

function listenToBrush() {
  const canvas = $("fitted");
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    brushAt = under(event);
    paintTo(brushAt);
  });
  canvas.addEventListener("pointermove", (event) => event.buttons & 1 && paintTo(under(event)));
  canvas.addEventListener("keydown", (event) => {
    const move = moves[event.code];
    if (!move && event.code !== "Space") return;
    event.preventDefault();
    if (!move) return void paintTo(brushAt);
    const sizes = [world.width, world.height];
    brushAt = brushAt.map((at, i) => Math.min(sizes[i] - 1, Math.max(0, at + move[i])));
    announce(`${brushAt[0] + 1} across, ${brushAt[1] + 1} down`);
  });
}

function under(event) {
  const box = $("fitted").getBoundingClientRect();
  return [
    Math.floor(((event.clientX - box.left) / box.width) * world.width),
    Math.floor(((event.clientY - box.top) / box.height) * world.height),
  ];
}

function paintTo([x, y]) {
  unpainted = false;
  const width = Number($("brush").value);
  const [fromX, fromY] = brushAt;
  const count = Math.max(1, Math.abs(x - fromX), Math.abs(y - fromY));
  context.fillStyle = $("colour").value;
  for (let i = 0; i <= count; i += 1) {
    const at = [fromX + ((x - fromX) * i) / count, fromY + ((y - fromY) * i) / count];
    context.fillRect(...at.map((value) => Math.round(value - (width - 1) / 2)), width, width);
  }
  brushAt = [x, y];
  reconstructSoon();
}

// The image as the tokenizer reconstructs it

function reconstructSoon() {
  clearTimeout(reconstructTimer);
  reconstructTimer = setTimeout(showReconstruction, RECONSTRUCT_AFTER_MS);
}

async function showReconstruction() {
  requests += 1;
  const number = requests;
  let image;
  try {
    const seen = await reconstruct(world, await fitted());
    image = seen && (await createImageBitmap(seen));
  } catch { /* the game's own connection says what is wrong */ }
  if (number !== requests) return;
  $("reconstruction-part").hidden = !image;
  if (image) $("reconstruction").getContext("2d").drawImage(image, 0, 0);
}

function fitted() {
  return new Promise((resolve) => $("fitted").toBlob(resolve, "image/png"));
}

async function finish(used) {
  closeVideo();
  clearTimeout(reconstructTimer);
  if (!used) return;
  const blob = await fitted();
  const prompt = [await base64(blob)];
  if (prompt[0].length > MAX_PICTURE) {
    $("save-status").textContent = "The picture is too large to send. Choose a simpler one.";
    return;
  }
  const number = $("gallery").children.length - world.prompts.length + 1;
  $("gallery").append(promptButton(URL.createObjectURL(blob), `Own picture ${number}`, prompt));
  startGame(prompt);
  $("screen").focus();
}
