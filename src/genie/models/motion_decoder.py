"""The motion decoder: predicts a frame by moving the pixels of the frame before."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from genie.models.layers.patches import patchify, unpatchify


class MotionDecoder(nn.Module):
    """Predicts the next frame as the frame before with its pixels moved, plus a correction.

    Each patch has a few motions. A motion is a distribution over where a pixel comes from. Each
    pixel mixes the motions of its patch and adds a correction (after CDNA of Finn et al. 2016,
    arXiv 1605.07157). At the start it predicts close to no change. It reads
    `(2 * max_displacement + 1) ** 2` values for each one it writes.

    Args:
        width: features of a patch.
        frame_size: height and width in pixels.
        patch: side of a patch in pixels.
        max_displacement: how far a pixel can move, in pixels along each axis.
        num_motions: motions of a patch.
    """

    def __init__(
        self,
        width: int,
        frame_size: tuple[int, int],
        patch: int,
        max_displacement: int,
        num_motions: int,
    ):
        super().__init__()
        self.frame_size, self.patch = frame_size, patch
        self.max_displacement, self.num_motions = max_displacement, num_motions
        self.window = 2 * max_displacement + 1
        self.to_sources = nn.Linear(width, num_motions * self.window**2)
        self.to_mixture = nn.Linear(width, patch**2 * num_motions)
        self.to_correction = nn.Linear(width, patch**2 * 3)
        self._start_without_change()

    def forward(
        self, x: Float[Tensor, "b t s d"], before: Float[Tensor, "b t h w 3"]
    ) -> Float[Tensor, "b t h w 3"]:
        """Moves the pixels of frames by what the features of their patches say.

        Args:
            x: features of each patch.
            before: frames whose pixels are moved.

        Returns:
            The predicted next frames.
        """
        count, pixels = x.shape[:3].numel(), self.patch**2
        sources = self.to_sources(x).view(count, self.num_motions, -1).softmax(dim=-1)
        moved = torch.bmm(self._surroundings(before), sources.transpose(1, 2))
        moved = moved.view(count, pixels, 3, self.num_motions)
        mixture = self.to_mixture(x).view(count, pixels, 1, self.num_motions).softmax(dim=-1)
        patches = (moved * mixture).sum(dim=-1).view(*x.shape[:3], -1) + self.to_correction(x)
        return unpatchify(patches, self.frame_size, self.patch)

    def _surroundings(self, frames: Tensor) -> Tensor:
        """For each patch and pixel the pixels that it may come from, (n, pixels * 3, window^2)."""
        around = patchify(frames, self.patch, self.max_displacement)
        side = self.patch + 2 * self.max_displacement
        around = around.unflatten(-1, (side, side, 3)).flatten(0, 2)
        around = around.unfold(1, self.window, 1).unfold(2, self.window, 1)
        return around.reshape(len(around), self.patch**2 * 3, self.window**2)

    @torch.no_grad()
    def _start_without_change(self) -> None:
        for part in (self.to_sources, self.to_mixture):
            nn.init.normal_(part.weight, std=0.01)
        nn.init.zeros_(self.to_correction.weight)
        nn.init.zeros_(self.to_correction.bias)
        # The first motion is to stand still, and it is used most.
        positions = self.window**2
        sources = self.to_sources.bias.view(self.num_motions, positions)
        sources.normal_(std=0.5)[0].zero_()[positions // 2] = math.log(positions) + 3
        mixture = self.to_mixture.bias.view(-1, self.num_motions)
        mixture.zero_()[:, 0] = math.log(self.num_motions) + 2
