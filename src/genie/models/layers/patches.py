"""Frames to patches and back, and initial values of position embeddings."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class PatchEmbedding(nn.Module):
    """Cuts frames into patches and computes a feature vector for each.

    Frames whose sides are not multiples of the patch are padded by repeating their edge.

    Args:
        frame_size: height and width in pixels.
        patch: side of a patch in pixels.
        channels: per pixel.
        width: features per patch.
        overlap: number of pixels around its patch that a feature vector also depends on.
        positional: False leaves the learned position out, so that equal patches have equal vectors
            wherever they are.
    """

    def __init__(
        self,
        frame_size: tuple[int, int],
        patch: int,
        channels: int,
        width: int,
        overlap: int = 0,
        positional: bool = True,
    ):
        super().__init__()
        self.patch, self.overlap, self.grid = patch, overlap, grid_size(frame_size, patch)
        self.project = nn.Linear((patch + 2 * overlap) ** 2 * channels, width)
        self.position = nn.Parameter(sincos_positions(self.grid, width)) if positional else None

    def forward(self, frames: Float[Tensor, "b t h w c"]) -> Float[Tensor, "b t s d"]:
        """Returns one feature vector per patch, row by row."""
        x = self.project(patchify(frames, self.patch, self.overlap))
        return x if self.position is None else x + self.position


def sincos_positions(grid: tuple[int, int], width: int) -> Float[Tensor, "s d"]:
    """Makes initial position embeddings: sines and cosines of row and column.

    Neighbours are similar from the first step on. Embeddings that start as small noise are
    weaker than the features for a long time (docs/experiments).

    Args:
        grid: rows and columns.
        width: features per position.
    """
    quarter = width // 4
    rates = torch.pi / 2 ** torch.linspace(0, math.log2(2 * max(grid)), max(quarter, 1))
    rows = torch.arange(grid[0])[:, None, None] * rates
    columns = torch.arange(grid[1])[None, :, None] * rates
    parts = [wave(angle) for angle in (rows, columns) for wave in (torch.sin, torch.cos)]
    waves = torch.cat([part.expand(*grid, -1) for part in parts], dim=-1).flatten(0, 1)
    return F.pad(waves, (0, width - waves.shape[1])) if waves.shape[1] < width else waves[:, :width]


def grid_size(frame_size: tuple[int, int], patch: int) -> tuple[int, int]:
    """Returns the rows and columns of patches that cover a frame of height and width in pixels."""
    return math.ceil(frame_size[0] / patch), math.ceil(frame_size[1] / patch)


def patchify(
    frames: Float[Tensor, "b t h w c"], patch: int, overlap: int = 0
) -> Float[Tensor, "b t s pixels"]:
    """Flattens each patch, and `overlap` pixels around it, into one vector, row by row."""
    frames = pad_to_patches(frames, patch, overlap)
    side = patch + 2 * overlap
    x = frames.unfold(2, side, patch).unfold(3, side, patch)  # b t rows columns c side side
    return x.permute(0, 1, 2, 3, 5, 6, 4).flatten(4).flatten(2, 3)


def unpatchify(
    patches: Float[Tensor, "b t s pixels"], frame_size: tuple[int, int], patch: int
) -> Float[Tensor, "b t h w c"]:
    """Joins patches without overlap to frames and cuts the padding off; inverts `patchify`."""
    rows, columns = grid_size(frame_size, patch)
    b, t = patches.shape[:2]
    x = patches.reshape(b, t, rows, columns, patch, patch, -1).permute(0, 1, 2, 4, 3, 5, 6)
    x = x.reshape(b, t, rows * patch, columns * patch, -1)
    return x[:, :, : frame_size[0], : frame_size[1]]


def pad_to_patches(
    frames: Float[Tensor, "b t h w c"], patch: int, overlap: int = 0
) -> Float[Tensor, "b t hp wp c"]:
    """Repeats the edges of frames until their sides are multiples of the patch.

    Args:
        frames: to be padded below and on the right.
        patch: side of a patch in pixels.
        overlap: further pixels on all four sides.
    """
    below, right = -frames.shape[2] % patch + overlap, -frames.shape[3] % patch + overlap
    if below or right:
        flat = frames.flatten(0, 1).permute(0, 3, 1, 2)
        flat = F.pad(flat, (overlap, right, overlap, below), mode="replicate")
        frames = flat.permute(0, 2, 3, 1).unflatten(0, frames.shape[:2])
    return frames
