"""A loss on the optical flow of clips."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

FLATNESS = 0.01
"""Added to squared slopes: where an image is flat, its motion cannot be seen."""


def flow_error(
    predicted: Float[Tensor, "b t h w 3"], target: Float[Tensor, "b t h w 3"]
) -> Float[Tensor, ""]:
    """Returns the mean squared error of the normal flow between neighbouring frames, in pixels.

    Normal flow is the part of the optical flow that one pixel shows (Horn and Schunck 1981). It is
    the change over time divided by the slope of the image, in the direction of that slope. It needs
    no network. It is right where an edge is softer than the motion is long.

    It is `tokenizer.extra_losses.flow_weight` times this. After 300 steps
    the tokenizer is worse with it (`docs/experiments/2026-11-28-variants.md`).

    Args:
        predicted: reconstructed clips.
        target: the clips.

    Returns:
        The error; 0 for clips of one frame.
    """
    if target.shape[1] < 2:
        return predicted.new_zeros(())
    return (_flow(predicted) - _flow(target)).square().sum(dim=-1).mean()


def _flow(clips: Tensor) -> Tensor:
    """Normal flow (B, T - 1, H, W, 2) along rows and columns, of the mean of colours."""
    grey = clips.mean(dim=-1)
    slopes = torch.stack(torch.gradient(grey, dim=(2, 3)), dim=-1)[:, 1:]
    change = grey.diff(dim=1)[..., None]
    return -change * slopes / (slopes.square().sum(dim=-1, keepdim=True) + FLATNESS)
