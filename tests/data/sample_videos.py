"""Small generated videos."""

from __future__ import annotations

from collections.abc import Iterable
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


def turn_clockwise(path: Path) -> None:
    """Marks an mp4 to be shown turned by a quarter, as a phone does."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    one = 1 << 16
    matrix = (0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    data[at : at + 36] = b"".join(n.to_bytes(4, "big", signed=True) for n in matrix)
    path.write_bytes(data)
