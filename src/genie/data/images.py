"""Pictures of any kind as RGB: the one way in which all of the program reads them."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError
from enum import IntEnum
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from genie.core.config import UserError, require

MOST_PIXELS = 2**26
"""Of a picture that is read; a small file can claim any number."""
LOSSLESS_UP_TO = 128
"""Pixels of the longer side of a frame that is sent to a player."""


class Codec(IntEnum):
    """Format of an encoded image or video."""

    WEBP = 1
    JPEG = 2
    MP4 = 3
    GIF = 4


Picture = tuple[Codec, bytes]


def read_image(path: str | Path) -> np.ndarray:
    """Reads a picture file.

    Args:
        path: any format that Pillow knows; of a moving picture, the first frame counts.

    Returns:
        uint8 (H, W, 3), as `rgb` makes it.

    Raises:
        UserError: the file is missing, damaged, or no picture; the message names it.
    """
    try:
        is_file = Path(path).is_file() or not Path(path).exists()
        require(is_file, "not a readable picture, it is no file")
        with Image.open(path) as image:
            width, height = image.size
            words = f"a picture of {width:,} x {height:,} pixels; at most"
            require(width * height <= MOST_PIXELS, f"{words} {MOST_PIXELS:,} are read")
            return rgb(image)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such picture") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except Exception as error:  # damaged files make the decoders raise whatever they like
        raise UserError(f"{path}: not a readable picture ({error})") from None


def png(frame: np.ndarray, scale: int = 1) -> bytes:
    """A frame uint8 (H, W, 3), enlarged by a whole factor, as the content of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(frame.repeat(scale, 0).repeat(scale, 1)).save(buffer, "PNG")
    return buffer.getvalue()


def png_archive(frames: Iterable[np.ndarray], scale: int = 1) -> bytes:
    """Frames, each as of `png`, as the content of a ZIP archive of numbered PNG files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:  # PNG is compressed already
        for number, frame in enumerate(frames):
            archive.writestr(f"{number:04d}.png", png(frame, scale))
    return buffer.getvalue()


def rgb(image: Image.Image) -> np.ndarray:
    """A picture as `uint8 (H, W, 3)`.

    It is turned upright as its EXIF orientation says, lies over black where it is transparent, and
    16 bits of grey are rounded to 8.

    Raises:
        UserError: a mode without a known range (32-bit integers or fractions) or without colours
            that Pillow can convert (LAB).
    """
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "La":  # it has no way to colours but this one
        upright = upright.convert("LA")
    if upright.mode.startswith("I;16"):
        return _from_16_bit(upright)
    if upright.mode in ("I", "F", "LAB"):
        raise UserError(f"a picture of mode {upright.mode}; save it with 8 bits a channel, as RGB")
    if not upright.has_transparency_data:
        return np.array(upright.convert("RGB"))
    return np.array(_over_black(upright.convert("RGBA")))


def over_black(frames: np.ndarray) -> np.ndarray:
    """Lays frames `uint8 (..., H, W, 4)`, whose last channel is alpha, over black.

    Returns:
        uint8 (..., H, W, 3).
    """
    shape = frames.shape
    tall = np.ascontiguousarray(frames).reshape(-1, shape[-2], 4)
    return np.array(_over_black(Image.fromarray(tall))).reshape(*shape[:-1], 3)


def _over_black(image: Image.Image) -> Image.Image:
    ground = Image.new("RGBA", image.size, (0, 0, 0, 255))
    return Image.alpha_composite(ground, image).convert("RGB")


def _from_16_bit(image: Image.Image) -> np.ndarray:
    grey = np.asarray(image).astype(np.uint32)
    eight = ((grey + 128) // 257).astype(np.uint8)[..., None]
    clear = image.info.get("transparency")
    if clear is not None:
        eight[grey == clear] = 0
    return np.repeat(eight, 3, -1)


def encode_picture(frame: np.ndarray) -> Picture:
    """Encodes a frame `uint8 (H, W, 3)`: lossless WebP when small, JPEG when large."""
    image, buffer = Image.fromarray(frame), io.BytesIO()
    if max(frame.shape[:2]) <= LOSSLESS_UP_TO:
        # The fastest lossless setting: 1.5 ms for 128x128, where a better one takes 25 ms.
        image.save(buffer, "WEBP", lossless=True, quality=0, method=0)
        return Codec.WEBP, buffer.getvalue()
    image.save(buffer, "JPEG", quality=90, subsampling=0)
    return Codec.JPEG, buffer.getvalue()


def decode_picture(picture: Picture) -> np.ndarray:
    """Decodes a frame `uint8 (H, W, 3)`, the reverse of `encode_picture`."""
    return np.asarray(Image.open(io.BytesIO(picture[1])).convert("RGB"))


def decode_pictures(
    pictures: Iterable[Picture], cancelled: threading.Event
) -> Iterator[np.ndarray]:
    """Yields the frames `uint8 (H, W, 3)` of encoded pictures, one at a time.

    Args:
        pictures: as `encode_picture` makes them.
        cancelled: another thread sets it to stop.

    Raises:
        CancelledError: it was set.
    """
    for picture in pictures:
        if cancelled.is_set():
            raise CancelledError
        yield decode_picture(picture)
