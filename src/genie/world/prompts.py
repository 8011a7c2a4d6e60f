"""Prompts: the images that games start from, read and resized to a world's frames."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from genie.core.config import UserError, require, shown
from genie.core.io import replacing, sync_folder
from genie.data.images import over_black, read_image, rgb

PROMPT_FOLDER = "prompts"
EXPECTED = "prompt: expected a picture of uint8 (H, W, 3) or a clip (T, H, W, 3)"
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")


def load_prompts(
    source: Any, height: int, width: int, world: str | Path | object = None
) -> list[np.ndarray]:
    """Reads prompts and resizes them to a world's frames.

    Args:
        source: one image: an array `(H, W, C)`, a PIL image or a file. Or several: an array
            `(N, H, W, C)`, a list of images or of clips `(T, H, W, C)`, or a folder of images.
            None takes the images in the world's folder.
        height, width: of the world's frames, in pixels.
        world: folder of the world, if it is known; used when `source` is None.

    Returns:
        Prompts, each `uint8 (H, W, 3)`, or `(T, H, W, 3)` for a clip. Images of another size are
        cropped to the proportions of a frame and resized, with a warning.

    Raises:
        UserError: no image was found, or one cannot be read; the message says what to give.
    """
    pictures = _bundled(world) if source is None else _pictures(source)
    return [_resize(_as_array(picture), height, width) for picture in pictures]


def prompt_clips(prompt: Any, height: int, width: int) -> tuple[np.ndarray, bool]:
    """Returns the clips that one game or a batch of games starts from.

    Args:
        prompt: an image or a clip, or an array `(B, T, H, W, C)` of clips, one for each player.
        height, width: of the world's frames, in pixels.

    Returns:
        `uint8 (B, T, H, W, 3)`, and whether a batch was given.

    Raises:
        UserError: there is no image, or one cannot be read.
    """
    if hasattr(prompt, "detach"):  # a tensor
        prompt = prompt.detach().cpu().numpy()
    if isinstance(prompt, np.ndarray) and prompt.ndim == 5:
        require(len(prompt) > 0, "prompt: the batch is empty, give at least one clip")
        return np.stack(load_prompts(list(prompt), height, width)), True
    clip = load_prompts([prompt], height, width)[0]
    return (clip[None] if clip.ndim == 3 else clip)[None], False


def frame_count(prompt: np.ndarray) -> int:
    """Returns the number of frames of a prompt `uint8 (H, W, 3)` or `(T, H, W, 3)`."""
    return len(prompt) if prompt.ndim == 4 else 1


def save_prompts(pictures: Iterable[np.ndarray], world: Path) -> None:
    """Writes images into a world's folder, where `load_prompts` finds them.

    They take the place of those that were written before. Other files in the folder stay.

    Args:
        pictures: `uint8 (H, W, 3)` each.
        world: the folder.
    """
    folder = world / PROMPT_FOLDER
    if folder.exists():
        count = _write_pictures(pictures, folder)
        for old in folder.glob("*.png"):
            if old.stem.isdecimal() and int(old.stem) >= count:
                old.unlink()
        return
    unfinished = world / f".{PROMPT_FOLDER}"  # so that a folder of prompts has all of them
    shutil.rmtree(unfinished, ignore_errors=True)
    if _write_pictures(pictures, unfinished):
        os.replace(unfinished, folder)
        sync_folder(world)


def _write_pictures(pictures: Iterable[np.ndarray], folder: Path) -> int:
    count = 0
    for i, picture in enumerate(pictures):
        with replacing(folder / f"{i}.png") as path:
            Image.fromarray(np.ascontiguousarray(picture)).save(path, format="png")
        count = i + 1
    return count


def _bundled(world: str | Path | object) -> list[Path]:
    folder = Path(world) / PROMPT_FOLDER if isinstance(world, str | Path) else None
    found = _pictures_in(folder) if folder is not None and folder.is_dir() else []
    if not found:
        place = f"{world} brings no prompt pictures along" if folder else "no prompt was given"
        raise UserError(
            f"{place}: name a picture to start from (--prompt picture.png, or prompt=... in "
            f"Python), or put PNG files into the folder {PROMPT_FOLDER}/ of the world"
        )
    return found


def _pictures_in(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        # Hidden ones are unfinished: a killed process left them.
        if path.suffix.lower() in PICTURE_SUFFIXES
        and not path.name.startswith(".")
        and path.is_file()
    )


def _pictures(source: Any) -> Sequence[Any]:
    if isinstance(source, str | Path):
        if not Path(source).is_dir():
            return [source]
        found = _pictures_in(Path(source))
        if not found:
            raise UserError(f"{source}: no picture in this folder ({', '.join(PICTURE_SUFFIXES)})")
        return found
    if isinstance(source, Image.Image):
        return [source]
    if isinstance(source, list | tuple):
        if not source:
            raise UserError("prompt: the list is empty, give at least one picture")
        return source
    array = _array(source)
    if array.ndim != 4 or len(array) == 0:
        return [array]
    return list(array)


def _as_array(picture: Any) -> np.ndarray:
    if isinstance(picture, str | Path):
        return read_image(picture)
    if isinstance(picture, Image.Image):
        return _checked(_rgb(picture))
    return _checked(_array(picture))


def _rgb(image: Image.Image) -> np.ndarray:
    try:
        return rgb(image)
    except Exception as error:  # a file may be read only now, and be damaged
        raise UserError(f"prompt: not a readable picture ({error})") from None


def _array(values: Any) -> np.ndarray:
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError):
        raise UserError(f"{EXPECTED}, got {shown(values)}") from None


def _checked(array: np.ndarray) -> np.ndarray:
    right = array.dtype == np.uint8 and array.ndim in (3, 4) and array.shape[-1] in (1, 3, 4)
    if not right or array.size == 0:
        raise UserError(f"{EXPECTED}, got {array.dtype} {array.shape}")
    if array.shape[-1] == 4:
        return over_black(array)
    return array[..., [0, 0, 0]] if array.shape[-1] == 1 else array


def _resize(array: np.ndarray, height: int, width: int) -> np.ndarray:
    if array.shape[-3:-1] == (height, width):
        return np.array(array)
    rows, columns = array.shape[-3:-1]
    done = "resized" if rows * width == columns * height else "cropped and resized"
    warnings.warn(
        f"prompt: a picture of {columns}x{rows} pixels was {done} to the world's {width}x{height}",
        stacklevel=4,
    )
    if array.ndim == 4:
        return np.stack([crop_and_resize(frame, height, width) for frame in array])
    return crop_and_resize(array, height, width)


def crop_and_resize(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """Crops the middle of an image to the proportions wanted, then resizes it.

    Args:
        frame: `uint8 (H, W, 3)`.
        height, width: wanted, in pixels.
    """
    rows, columns = frame.shape[:2]
    scale = min(rows / height, columns / width)
    crop_height, crop_width = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (rows - crop_height) // 2, (columns - crop_width) // 2
    box = (left, top, left + crop_width, top + crop_height)
    return np.array(Image.fromarray(frame).resize((width, height), Image.Resampling.BOX, box=box))
