"""Encodes frames as a file: a video for browsers, or an archive of images."""

from __future__ import annotations

import io
import tempfile
import threading
import zipfile
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Literal

import numpy as np

from genie.data.images import png
from genie.data.video import write_video
from genie.serving.protocol import Codec, Picture, decode_picture

Format = Literal["mp4", "gif", "png"]
MEDIA_TYPES = {"mp4": "video/mp4", "gif": "image/gif", "png": "application/zip"}
CODECS = {"mp4": Codec.MP4, "gif": Codec.GIF}
TARGET_SIDE = 256  # pixels of a frame's longer side


def display_scale(height: int, width: int) -> int:
    """Returns the default factor by which frames are enlarged for display."""
    return max(1, TARGET_SIDE // max(height, width))


def decode_frames(pictures: Iterable[Picture], cancelled: threading.Event) -> Iterator[np.ndarray]:
    """Yields the frames `uint8 (H, W, 3)` of encoded pictures, one at a time.

    Args:
        pictures: as `genie.serving.protocol.encode_picture` makes them.
        cancelled: another thread sets it to stop.

    Raises:
        CancelledError: it was set.
    """
    for picture in pictures:
        if cancelled.is_set():
            raise CancelledError
        yield decode_picture(picture)


def encode(frames: Iterable[np.ndarray], format: Format, fps: float, scale: int) -> bytes:
    """Encodes frames, which are taken one at a time.

    Args:
        frames: `uint8 (H, W, 3)`, at least one.
        format: an mp4 that browsers play, a GIF, or a ZIP archive of numbered PNG images.
        fps: frames per second.
        scale: factor by which the frames are enlarged.
    """
    if format == "png":
        return _archive(frames, scale)
    with tempfile.TemporaryDirectory(prefix="genie-video-") as folder:
        path = Path(folder) / f"video.{format}"
        # Browsers play 4:2:0 only; enlarged pixels lose nothing by it.
        write_video(path, frames, fps, scale=scale, pixel_format="yuv420p")
        return path.read_bytes()


def _archive(frames: Iterable[np.ndarray], scale: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:  # PNG is compressed already
        for i, frame in enumerate(frames):
            archive.writestr(f"{i:04d}.png", png(frame, scale))
    return buffer.getvalue()
