"""Flips, colours and strides of clips, sampled as a pure function of seed, step and rank."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from genie.data.sampler import BatchIndex
from genie.presets.schedule import Augmentation

SALT = 0x61756772
"""Keeps these random numbers apart from others of the same seed."""

MAX_BRIGHTNESS = 0.2
"""Largest change of brightness at full strength, as a fraction of white."""

MAX_CONTRAST = 0.4
"""Largest change of contrast and of saturation at full strength."""

MAX_HUE = 0.1
"""Largest rotation of the hue at full strength, as a fraction of the colour circle."""

GREY = np.array([0.299, 0.587, 0.114], np.float32)
"""Red, green and blue in the brightness of a pixel (ITU-R BT.601)."""


@dataclass(frozen=True)
class ClipAugmentations:
    """What is changed about each clip of a micro-batch.

    Attributes:
        flips: (B,) whether a clip is mirrored.
        strides: (B,) every how many frames one is taken, before the stride is made to fit.
        colors: f32 (B,3,4) a linear map of pixels in [0, 255] and an offset.
    """

    flips: np.ndarray
    strides: np.ndarray
    colors: np.ndarray


def sample_augmentations(
    augmentation: Augmentation, index: BatchIndex, batch: int
) -> ClipAugmentations:
    """Samples what is changed about the clips of a micro-batch.

    Numbers are sampled for the whole batch. So neither the number of processes nor that of
    micro-batches changes what happens to a clip.

    Args:
        augmentation: how much may change.
        index: the micro-batch.
        batch: clips per optimizer step, over all processes and micro-batches together.
    """
    generator = np.random.default_rng([index.seed, index.step, SALT])
    flips = generator.random(batch) < augmentation.flip_prob
    strides = generator.integers(1, augmentation.max_stride + 1, batch)
    colors = _color_maps(generator.uniform(-1, 1, (4, batch)) * augmentation.color_jitter)
    per_rank = batch // index.world_size
    first, end = index.rank * per_rank, (index.rank + 1) * per_rank
    mine = slice(first + index.micro_batch, end, index.micro_batches)
    return ClipAugmentations(flips[mine], strides[mine], colors[mine])


def flip(frames: np.ndarray, flips: np.ndarray) -> np.ndarray:
    """Returns frames u8 (B,T,H,W,3) with the chosen clips mirrored left to right."""
    frames = frames.copy()
    frames[flips] = frames[flips, :, :, ::-1]
    return frames


def jitter_color(frames: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Returns frames u8 (B,T,H,W,3) in other colours, by one map f32 (B,3,4) per clip."""
    pixels: Tensor = torch.from_numpy(frames).flatten(1, 3).float()
    maps = torch.from_numpy(colors)
    pixels = torch.baddbmm(maps[:, None, :, 3], pixels, maps[:, :, :3].transpose(1, 2))
    return pixels.clamp_(0, 255).round_().to(torch.uint8).view(frames.shape).numpy()


def _color_maps(strengths: np.ndarray) -> np.ndarray:
    """Maps (B,3,4) of brightness, contrast, saturation and hue (4,B), each in [-1, 1]."""
    brightness, contrast, saturation, hue = strengths.astype(np.float32)
    identity = np.eye(3, dtype=np.float32)
    contrast, saturation = 1 + MAX_CONTRAST * contrast, 1 + MAX_CONTRAST * saturation
    linear = _hue_rotation(2 * math.pi * MAX_HUE * hue)
    linear = (
        saturation[:, None, None] * identity + (1 - saturation)[:, None, None] * GREY
    ) @ linear
    offset = 127.5 * (1 - contrast) + 255 * MAX_BRIGHTNESS * brightness
    offsets = np.broadcast_to(offset[:, None, None], (len(offset), 3, 1))
    return np.concatenate([contrast[:, None, None] * linear, offsets], axis=2)


def _hue_rotation(angles: np.ndarray) -> np.ndarray:
    """Rotations (B,3,3) of colours around the grey axis (Rodrigues' formula)."""
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], np.float32) / math.sqrt(3)
    cos, sin = np.cos(angles)[:, None, None], np.sin(angles)[:, None, None]
    return cos * np.eye(3, dtype=np.float32) + sin * cross + (1 - cos) / 3
