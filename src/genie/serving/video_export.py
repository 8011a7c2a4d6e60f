"""Frames as a file: a film for browsers, or an archive of pictures."""

from __future__ import annotations

import io
import itertools
import tempfile
import threading
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from genie.data.video import write_video
from genie.serving.protocol import Codec, decode_picture, png

Format = Literal["mp4", "gif", "png"]
MEDIA_TYPES = {"mp4": "video/mp4", "gif": "image/gif", "png": "application/zip"}
CODECS = {"mp4": Codec.MP4, "gif": Codec.GIF}
TARGET_SIDE = 256  # pixels that the longer side of a frame has at least


class Cancelled(Exception):
    """Nobody waits for the film any more."""


def display_scale(height: int, width: int) -> int:
    """Returns how many times a world's frames are enlarged, to be seen well, unless asked for."""
    return max(1, TARGET_SIDE // max(height, width))


def decode_frames(
    pictures: Iterable[tuple[Codec, bytes]], cancelled: threading.Event
) -> Iterator[np.ndarray]:
    """Yields the frames `uint8 (H, W, 3)` of pictures as a player got them, one at a time.

    Args:
        pictures: as `genie.serving.protocol.encode_picture` makes them.
        unwanted: set from another thread when the rest is not to be decoded.

    Raises:
        Unwanted: it was set.
    """
    for picture in pictures:
        if cancelled.is_set():
            raise Cancelled
        yield decode_picture(picture)


def encode(frames: Iterable[np.ndarray], format: Format, fps: float, scale: int) -> bytes:
    """Encodes frames, which are taken one at a time.

    Args:
        frames: `uint8 (H, W, 3)`, at least one.
        format: an mp4 that browsers play, a GIF, or a ZIP archive of numbered PNG pictures.
        fps: frames per second.
        scale: how many times larger than they are the frames become.
    """
    if format == "png":
        return _archive(frames, scale)
    frames = iter(frames)
    first = next(frames)
    height, width = (side * scale for side in first.shape[:2])
    with tempfile.TemporaryDirectory(prefix="genie-film-") as folder:
        path = Path(folder) / f"film.{format}"
        # Browsers play 4:2:0 only; enlarged pixels lose nothing by it.
        write_video(
            path,
            itertools.chain([first], frames),
            fps,
            size=(height, width),
            pixel_format="yuv420p",
        )
        return path.read_bytes()


def _archive(frames: Iterable[np.ndarray], scale: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:  # PNG is compressed already
        for i, frame in enumerate(frames):
            archive.writestr(f"{i:04d}.png", png(frame.repeat(scale, 0).repeat(scale, 1)))
    return buffer.getvalue()
