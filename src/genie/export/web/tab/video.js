// A game as a file: a video by the browser's own encoder, or a GIF.

const SIDE = 256; // pixels of a frame's longer side
const BITS = 4e6; // a second
const CODECS = [["mp4", "avc"], ["webm", "vp9"], ["webm", "vp8"], ["mp4", "av1"]];

/**
 * Encodes frames, Uint8Array of height x width x 3. Returns a Blob: a GIF, or the first kind of video
 * that this browser can encode.
 */
export async function encodeVideo(frames, format, { height, width, fps }) {
  const scale = Math.max(1, Math.floor(SIDE / Math.max(height, width)));
  const encode = format === "gif" ? encodeGif : encodeHere;
  return encode(frames.map(withAlpha), { height, width, scale, fps });
}

function withAlpha(rgb) {
  const rgba = new Uint8ClampedArray((rgb.length / 3) * 4).fill(255);
  for (let i = 0; 3 * i < rgb.length; i += 1) rgba.set(rgb.subarray(3 * i, 3 * i + 3), 4 * i);
  return rgba;
}

async function encodeGif(frames, { height, width, scale, fps }) {
  const { GIFEncoder, applyPalette, quantize } = await import("../packages/gifenc.esm.js");
  const gif = GIFEncoder();
  const columns = width * scale;
  const pixels = Array.from({ length: columns * height * scale }, (_, i) => (
    Math.floor(i / columns / scale) * width + Math.floor((i % columns) / scale)
  ));
  const time = (number) => Math.round((100 * number) / fps); // GIF counts hundredths of a second
  for (const [i, frame] of frames.entries()) {
    const palette = quantize(frame, 256);
    const small = applyPalette(frame, palette);
    const large = Uint8Array.from(pixels, (pixel) => small[pixel]);
    gif.writeFrame(large, columns, height * scale, { palette, delay: 10 * (time(i + 1) - time(i)) });
    if (i % 16 === 0) await new Promise((resolve) => { setTimeout(resolve); }); // the game goes on
  }
  gif.finish();
  return new Blob([gif.bytes()], { type: "image/gif" });
}

async function encodeHere(frames, { height, width, scale, fps }) {
  const bunny = await import("../packages/mediabunny.min.mjs");
  const even = (size) => size * scale + ((size * scale) % 2); // as 4:2:0 needs it
  const canvas = new OffscreenCanvas(even(width), even(height));
  const [kind, codec] = await encodable(bunny, canvas);
  const format = kind === "mp4" ? new bunny.Mp4OutputFormat() : new bunny.WebMOutputFormat();
  const output = new bunny.Output({ format, target: new bunny.BufferTarget() });
  const source = new bunny.CanvasSource(canvas, { codec, bitrate: BITS });
  output.addVideoTrack(source, { frameRate: fps });
  await output.start();
  const draw = painter(canvas, height, width);
  for (const [i, frame] of frames.entries()) {
    draw(frame);
    await source.add(i / fps, 1 / fps);
  }
  await output.finalize();
  return new Blob([output.target.buffer], { type: `video/${kind}` });
}

async function encodable(bunny, { height, width }) {
  for (const [kind, codec] of CODECS) {
    if (await bunny.canEncodeVideo(codec, { width, height, bitrate: BITS })) return [kind, codec];
  }
  throw new Error("this browser encodes no video. Save a GIF or a replay");
}

/** A function that draws a frame on a canvas, enlarged without smoothing. */
function painter(canvas, height, width) {
  const small = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  return (frame) => {
    small.getContext("2d").putImageData(new ImageData(frame, width, height), 0, 0);
    context.drawImage(small, 0, 0, canvas.width, canvas.height);
  };
}
