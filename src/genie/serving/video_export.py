"""How the server sends clips and videos, and how a game's pictures become frames again."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError

import numpy as np

from genie.data.images import Codec, Picture, decode_picture

MEDIA_TYPES = {"mp4": "video/mp4", "gif": "image/gif", "png": "application/zip"}
CODECS = {"mp4": Codec.MP4, "gif": Codec.GIF}


def decode_frames(pictures: Iterable[Picture], cancelled: threading.Event) -> Iterator[np.ndarray]:
    """Yields the frames `uint8 (H, W, 3)` of encoded pictures, one at a time.

    Args:
        pictures: as `genie.data.images.encode_picture` makes them.
        cancelled: another thread sets it to stop.

    Raises:
        CancelledError: it was set.
    """
    for picture in pictures:
        if cancelled.is_set():
            raise CancelledError
        yield decode_picture(picture)
