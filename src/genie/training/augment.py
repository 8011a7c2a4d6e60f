"""Flips, colours and speeds of clips: drawn per clip as a pure function of seed, step and place."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from genie.data.sampler import Place
from genie.presets.schedule import Augmentation

SALT = 0x61756772
"""Keeps these draws apart from others of the same seed."""

SHIFT = 0.2
"""Largest change of brightness at full strength, as a share of white."""

SCALE = 0.4
"""Largest change of contrast and of saturation at full strength."""

TURN = 0.1
"""Largest turn of the hue at full strength, as a share of the colour circle."""

GREY = np.array([0.299, 0.587, 0.114], np.float32)
"""Red, green and blue in the brightness of a pixel (ITU-R BT.601)."""


@dataclass(frozen=True)
class Draws:
    """What happens to each clip of a part of a batch.

    Attributes:
        flips: (B,) whether it is mirrored.
        strides: (B,) every how many frames one is taken, before it is made to fit.
        colours: f32 (B,3,4) a linear map of pixels in [0, 255] and an offset.
    """

    flips: np.ndarray
    strides: np.ndarray
    colours: np.ndarray


def draw(augmentation: Augmentation, place: Place, batch: int) -> Draws:
    """Returns what happens to the clips of a place; `batch` counts all processes and parts.

    The batch is drawn as a whole, so that neither the number of processes nor that of parts
    changes what happens to a clip.
    """
    generator = np.random.default_rng([place.seed, place.step, SALT])
    flips = generator.random(batch) < augmentation.flip_prob
    strides = generator.integers(1, augmentation.max_stride + 1, batch)
    colours = _colours(generator.uniform(-1, 1, (4, batch)) * augmentation.color_jitter)
    share = batch // place.world_size
    mine = slice(place.rank * share + place.part, (place.rank + 1) * share, place.parts)
    return Draws(flips[mine], strides[mine], colours[mine])


def mirrored(frames: np.ndarray, flips: np.ndarray) -> np.ndarray:
    """Returns frames u8 (B,T,H,W,3) with the chosen clips mirrored left to right."""
    frames = frames.copy()
    frames[flips] = frames[flips, :, :, ::-1]
    return frames


def recoloured(frames: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Returns frames u8 (B,T,H,W,3) in other colours, the same for all pixels of a clip."""
    pixels: Tensor = torch.from_numpy(frames).flatten(1, 3).float()
    maps = torch.from_numpy(colours)
    pixels = torch.baddbmm(maps[:, None, :, 3], pixels, maps[:, :, :3].transpose(1, 2))
    return pixels.clamp_(0, 255).round_().to(torch.uint8).view(frames.shape).numpy()


def _colours(strengths: np.ndarray) -> np.ndarray:
    """Maps (B,3,4) of brightness, contrast, saturation and hue (4,B), each in [-1, 1]."""
    shift, contrast, saturation, hue = strengths.astype(np.float32)
    identity = np.eye(3, dtype=np.float32)
    contrast, saturation = 1 + SCALE * contrast, 1 + SCALE * saturation
    linear = _turned(2 * math.pi * TURN * hue)
    linear = (
        saturation[:, None, None] * identity + (1 - saturation)[:, None, None] * GREY
    ) @ linear
    offset = 127.5 * (1 - contrast) + 255 * SHIFT * shift
    offsets = np.broadcast_to(offset[:, None, None], (len(offset), 3, 1))
    return np.concatenate([contrast[:, None, None] * linear, offsets], axis=2)


def _turned(angles: np.ndarray) -> np.ndarray:
    """Rotations (B,3,3) of colours around the grey axis (Rodrigues' formula)."""
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], np.float32) / math.sqrt(3)
    cos, sin = np.cos(angles)[:, None, None], np.sin(angles)[:, None, None]
    return cos * np.eye(3, dtype=np.float32) + sin * cross + (1 - cos) / 3
