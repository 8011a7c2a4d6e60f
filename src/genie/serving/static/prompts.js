// What games start from: the world's pictures, and the player's own, fitted to the world.

import { $, announce, base64, element } from "./page.js";

const MAX_PICTURE = 2 ** 18 - 2 ** 10; // letters of base64, below what a message may have

const LOOK_AFTER_MS = 250; // after the last stroke

let world, begin, context;
let looking; // timer
let looks = 0;
let video = null;
let untouched = true; // a frame that comes late must not cover what was painted meanwhile
let brushAt = null; // where the brush is, in the world's pixels

/** Builds the gallery; `start(prompt)` begins a game from an index or from PNGs in base64. */
export function buildPrompts(ofWorld, start) {
  [world, begin] = [ofWorld, start];
  for (const id of ["fitted", "seen"]) Object.assign($(id), { width: world.width, height: world.height });
  context = $("fitted").getContext("2d", { alpha: false, willReadFrequently: true });
  $("gallery").replaceChildren(...world.prompts.map((url, i) => choice(url, `Picture ${i + 1}`, i)));
  $("upload").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => {
    if ($("file").files[0]) openOwn($("file").files[0]);
    $("file").value = "";
  });
  $("draw").addEventListener("click", () => edit());
  addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((item) => isPicture(item));
    if (file) openOwn(file);
  });
  $("frame").addEventListener("input", () => seek(Number($("frame").value)));
  $("fill").addEventListener("click", () => {
    untouched = false;
    fill($("colour").value);
  });
  $("own").addEventListener("close", () => finish($("own").returnValue === "use"));
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

/** Opens a picture or a video file and shows it as the world will see it. */
export async function openOwn(file) {
  try {
    if (file.type.startsWith("video/")) await openVideo(file);
    else await openPicture(file);
  } catch {
    $("kept").textContent = `${file.name} cannot be read. Choose a PNG, JPEG, WebP, GIF, MP4 or WebM file.`;
  }
}

function choice(url, label, prompt) {
  const picture = element("img", { src: url, alt: "", draggable: false });
  const button = element("button", { type: "button", title: `Start from ${label.toLowerCase()}` }, picture);
  button.prompt = prompt;
  button.setAttribute("aria-label", label);
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => begin(prompt));
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
  untouched = true;
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
  untouched = true;
  video.requestVideoFrameCallback?.(fitVideo);
  video.currentTime = seconds;
}

function fitVideo() {
  if (untouched && video?.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA) fit(video, video.videoWidth, video.videoHeight);
}

function closeVideo() {
  if (video) URL.revokeObjectURL(video.src);
  video = null;
}

/** Crops the middle to the world's proportions and shrinks it by halves, so that nothing is skipped. */
function fit(source, width, height) {
  const scale = Math.min(width / world.width, height / world.height);
  const [cropWidth, cropHeight] = [world.width * scale, world.height * scale];
  let factor = 2 ** Math.max(0, Math.floor(Math.log2(scale)));
  const place = [(width - cropWidth) / 2, (height - cropHeight) / 2, cropWidth, cropHeight];
  let from = canvasOf(world.width * factor, world.height * factor);
  draw(from.getContext("2d"), source, ...place);
  for (; factor > 1; factor /= 2) {
    const half = canvasOf(from.width / 2, from.height / 2);
    draw(half.getContext("2d"), from, 0, 0, from.width, from.height);
    from = half;
  }
  fill("#000000"); // what lies under transparent pixels in all of the program
  context.drawImage(from, 0, 0);
  lookSoon();
}

function canvasOf(width, height) {
  return element("canvas", { width, height });
}

function draw(onto, source, ...place) {
  onto.imageSmoothingQuality = "high";
  onto.drawImage(source, ...place, 0, 0, onto.canvas.width, onto.canvas.height);
}

// The brush

function edit(blank = true) {
  if (blank) {
    closeVideo();
    fill("#87b5d9");
  }
  $("frame-field").hidden = video === null;
  brushAt = [Math.floor(world.width / 2), Math.floor(world.height / 2)];
  $("own").returnValue = "";
  $("seen").getContext("2d").clearRect(0, 0, world.width, world.height);
  if (!$("own").open) $("own").showModal();
  $("use").focus();
}

function fill(colour) {
  context.fillStyle = colour;
  context.fillRect(0, 0, world.width, world.height);
  lookSoon();
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
  untouched = false;
  const width = Number($("brush").value);
  const [fromX, fromY] = brushAt;
  const count = Math.max(1, Math.abs(x - fromX), Math.abs(y - fromY));
  context.fillStyle = $("colour").value;
  for (let i = 0; i <= count; i += 1) {
    const at = [fromX + ((x - fromX) * i) / count, fromY + ((y - fromY) * i) / count];
    context.fillRect(...at.map((value) => Math.round(value - (width - 1) / 2)), width, width);
  }
  brushAt = [x, y];
  lookSoon();
}

// The picture after the world's tokenizer

function lookSoon() {
  clearTimeout(looking);
  looking = setTimeout(look, LOOK_AFTER_MS);
}

async function look() {
  looks += 1;
  const number = looks;
  let seen;
  try {
    const address = `worlds/${encodeURIComponent(world.name)}/reconstruction`;
    const answer = await fetch(address, { method: "POST", body: await fitted() });
    seen = answer.ok ? await createImageBitmap(await answer.blob()) : null;
  } catch { /* the game's own connection says what is wrong */ }
  if (number !== looks) return;
  $("seen-part").hidden = !seen;
  if (seen) $("seen").getContext("2d").drawImage(seen, 0, 0);
}

function fitted() {
  return new Promise((resolve) => $("fitted").toBlob(resolve, "image/png"));
}

async function finish(used) {
  closeVideo();
  clearTimeout(looking);
  if (!used) return;
  const blob = await fitted();
  const prompt = [await base64(blob)];
  if (prompt[0].length > MAX_PICTURE) {
    $("kept").textContent = "The picture is too large to send. Choose a simpler one.";
    return;
  }
  const number = $("gallery").children.length - world.prompts.length + 1;
  $("gallery").append(choice(URL.createObjectURL(blob), `Own picture ${number}`, prompt));
  begin(prompt);
  $("screen").focus();
}
