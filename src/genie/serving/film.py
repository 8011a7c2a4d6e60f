"""A film of what a player saw, for keeping."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from genie.data.video import write_video
from genie.serving.protocol import Codec, decode_picture

SIDE = 256  # pixels that the longer side of a film has at least
CODECS = {"mp4": Codec.MP4, "gif": Codec.GIF}


def encode_film(
    pictures: Sequence[tuple[Codec, bytes]], fps: float, format: str
) -> tuple[Codec, bytes]:
    """Encodes pictures as an MP4 that browsers play, or as a GIF.

    Args:
        pictures: as the player got them, at least one.
        fps: frames per second of the film.
        format: "mp4" or "gif".
    """
    frames = [decode_picture(picture) for picture in pictures]
    height, width = frames[0].shape[:2]
    scale = max(1, -(-SIDE // max(height, width)))
    # Browsers play 4:2:0 only, which needs even sides.
    size = (height * scale // 2 * 2, width * scale // 2 * 2)
    with tempfile.TemporaryDirectory(prefix="genie-film-") as folder:
        path = Path(folder) / f"film.{format}"
        write_video(path, frames, fps, size=size, pixel_format="yuv420p", crf=14)
        return CODECS[format], path.read_bytes()
