"""A loss of the dynamics at coarser resolutions than that of the tokens."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

SCALES = (2, 4)
"""Sides in tokens of the squares in which predictions are compared."""


def coarse_divergence(
    logits: Float[Tensor, "b t s v"],
    tokens: Int[Tensor, "b t s"],
    masked: Bool[Tensor, "b t s"],
    grid: tuple[int, int],
) -> Float[Tensor, ""]:
    """Returns how far predictions are from the video in squares of tokens, in nats.

    Each square has a distribution over the vocabulary: the mean of its tokens. The predicted one
    takes probabilities where a token is masked. The result is the Kullback-Leibler divergence, as a
    mean over squares and scales. It asks what is in a square and not where, so a thing that is
    predicted one token beside its place costs little.

    It is `dynamics.multiscale_weight` times this. After 300 steps actions
    are followed more strongly with it (`docs/experiments/2026-11-28-variants.md`, one seed).

    Args:
        logits: of the masked tokens; others are not read.
        tokens: of the same frames, none masked.
        masked: where tokens are predicted.
        grid: rows and columns of tokens.
    """
    true = F.one_hot(tokens, logits.shape[-1]).float()
    predicted = torch.where(masked[..., None], logits.float().softmax(dim=-1), true)
    scales = [scale for scale in SCALES if scale <= max(grid)] or [SCALES[0]]
    parts = [
        _divergence(_pooled(true, grid, scale), _pooled(predicted, grid, scale)) for scale in scales
    ]
    return torch.stack(parts).mean()


def _pooled(shares: Tensor, grid: tuple[int, int], scale: int) -> Tensor:
    """Averages (B,T,S,V) over squares; returns (N,V,rows,columns)."""
    images = shares.flatten(0, 1).transpose(1, 2).unflatten(2, grid)
    return F.avg_pool2d(images, scale, ceil_mode=True)


def _divergence(true: Tensor, predicted: Tensor) -> Tensor:
    log_ratio = true.clamp_min(1e-8).log() - predicted.clamp_min(1e-8).log()
    return (true * log_ratio).sum(dim=1).mean()
