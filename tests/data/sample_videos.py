"""Small generated videos."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

# Options of `prepare` for these videos.
HERE = {"height": 32, "width": 32, "workers": 0, "progress": False}


def moving_square(frames: int, *, height: int = 32, width: int = 32, seed: int = 0) -> np.ndarray:
    """A bright square that wanders over a dark picture, u8 (T,H,W,3)."""
    random = np.random.default_rng(seed)
    ground = random.integers(0, 90, 3)
    colour = random.integers(160, 256, 3)
    clip = np.empty((frames, height, width, 3), np.uint8)
    clip[:] = ground
    y, x = random.integers(0, [height - 8, width - 8])
    for frame in clip:
        y, x = (y + 2) % (height - 8), (x + 3) % (width - 8)
        frame[y : y + 8, x : x + 8] = colour
    return clip


def write_timed(path: Path, frames: Iterable[tuple[float, np.ndarray]]) -> None:
    """Writes a video of variable frame rate: each frame, 32x32, with its own time."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "4", "bf": "0"})
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.pix_fmt, stream.height, stream.width = "yuv444p", 32, 32
        for time, frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv444p")
            picture.pts, picture.time_base = round(time * 1000), Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def write_sound(path: Path) -> None:
    """Writes an mp4 without a picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        for number in range(20):
            sound = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            sound.sample_rate, sound.pts = 44100, 1024 * number
            container.mux(stream.encode(sound))
        container.mux(stream.encode(None))


def write_encoded(path: Path, frames: np.ndarray, codec: str = "libx264", **options: str) -> Path:
    """Writes frames at 15 per second with options of FFmpeg's encoder, `pixels` the format."""
    pixels = options.pop("pixels", "yuv420p")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=15, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        for number, frame in enumerate(frames):
            kind = "rgba" if frame.shape[2] == 4 else "rgb24"
            picture = av.VideoFrame.from_ndarray(frame, format=kind).reformat(format=pixels)
            picture.pts = number
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def interlaced(fields: np.ndarray) -> np.ndarray:
    """Weaves a clip of 2T moments into T frames whose lines alternate between two of them."""
    frames = fields[::2].copy()
    frames[:, 1::2] = fields[1::2, 1::2]
    return frames


def show_as(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Gives an mp4 a display matrix: stored (x, y) is shown at (a x + c y, b x + d y)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    one = 1 << 16
    matrix = (a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    data[at : at + 36] = b"".join(n.to_bytes(4, "big", signed=True) for n in matrix)
    path.write_bytes(data)


def write_with_cover(path: Path, frames: np.ndarray) -> None:
    """Writes an mp4 whose first stream is a cover picture, as programs that tag files do."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=15, options={"crf": "4"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv444p"
        cover = container.add_stream("png")
        cover.height, cover.width, cover.pix_fmt = 90, 90, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.full((90, 90, 3), 250, np.uint8), format="rgb24")
        picture.pts = 0
        container.mux(cover.encode(picture))
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv444p")
            picture.pts = number
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    path.write_bytes(b"".join(_tags_first(box) for box in _boxes(path.read_bytes())))


def _boxes(data: bytes) -> Iterator[bytes]:
    while data:
        size = int.from_bytes(data[:4], "big")
        yield data[:size]
        data = data[size:]


def _tags_first(box: bytes) -> bytes:
    if box[4:8] != b"moov":
        return box
    return box[:8] + b"".join(sorted(_boxes(box[8:]), key=lambda inner: inner[4:8] != b"udta"))


def rot(path: Path, frame: int) -> None:
    """Overwrites 300 bytes of a file from the beginning of a frame on."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pts is not None]
    hit = sorted(packets, key=lambda packet: packet.pts)[frame]
    data = bytearray(path.read_bytes())
    data[hit.pos : hit.pos + 300] = np.random.default_rng(1).bytes(300)
    path.write_bytes(data)
