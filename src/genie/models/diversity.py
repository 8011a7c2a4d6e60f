"""A loss of the dynamics against predictions that are less diverse than the video."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F


def diversity_gap(
    logits: Float[Tensor, "b t s v"],
    tokens: Int[Tensor, "b t s"],
    masked: Bool[Tensor, "b t s"],
) -> Float[Tensor, ""]:
    """Returns how much less diverse predictions are than the tokens of a batch, in nats.

    Diversity is the entropy of the mean over all masked tokens of a batch: of the tokens for the
    video, of the probabilities for the model. The gap is 0 where the model is as diverse as the
    video or more. So the loss acts against dynamics that always draw the same, and not against
    sure predictions. The gradient goes through the probabilities.

    It is `dynamics.diversity_weight` times this. In 300 steps of `coinrun-tiny` it changed nothing
    (`docs/experiments/2026-11-28-variants.md`); its effect on longer training is not measured.

    Args:
        logits: of the masked tokens; others are not read.
        tokens: of the same frames, none masked.
        masked: where tokens are predicted.
    """
    weight = masked[..., None].float()
    true = F.one_hot(tokens, logits.shape[-1]).float()
    gap = _entropy(true, weight) - _entropy(logits.float().softmax(dim=-1), weight)
    return gap.clamp_min(0)


def _entropy(shares: Tensor, weight: Tensor) -> Tensor:
    mean = (shares * weight).flatten(0, -2).sum(dim=0) / weight.sum().clamp_min(1)
    return torch.special.entr(mean).sum()
