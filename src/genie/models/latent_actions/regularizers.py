"""Losses on the latents of steps, beside the error of the predicted frame."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

SIMILAR = 0.8
"""Cosine from which the changes of two steps count as similar."""

COARSE = 8
"""Rows and columns to which the change of a step is averaged before it is compared."""

CONTRAST_TEMPERATURE = 0.1


def code_entropy_gap(
    latents: Float[Tensor, "*b d"], codebook: Float[Tensor, "codes d"]
) -> Float[Tensor, ""]:
    """Returns how far the mean use of the codes is from even, in nats, with a gradient.

    A step uses codes by the softmax of its negative squared distances. The gap is the logarithm of
    their number less the entropy of the mean over all steps.

    Args:
        latents: of steps, at the scale of the codebook.
        codebook: the codes.
    """
    distances = torch.cdist(latents.flatten(0, -2).float(), codebook.float()).square()
    use = (-distances).softmax(dim=-1).mean(dim=0)
    return math.log(len(codebook)) - torch.special.entr(use).sum()


def roughness(latents: Float[Tensor, "b t d"]) -> Float[Tensor, ""]:
    """Returns the mean squared difference of the latents of steps that follow each other.

    Actions are often held, so the same latent is more likely than another one.
    """
    if latents.shape[1] < 2:
        return latents.new_zeros(())
    return latents.diff(dim=1).square().mean()


def inconsistency(
    latents: Float[Tensor, "b t d"], pixels: Float[Tensor, "b t+1 h w 3"]
) -> Float[Tensor, ""]:
    """Returns a contrastive loss: steps whose pixels change alike are to have like latents.

    Other steps weigh by the exponential of the cosine of latents. The loss of a step is the
    negative logarithm of the share that similar steps have in this weight (InfoNCE, van den Oord et
    al. 2018, arXiv 1807.03748). Steps without a similar one are left out, and without any the loss
    is 0.

    Args:
        latents: of steps.
        pixels: the frames of the clips, which give the changes.
    """
    change = pixels.detach().diff(dim=1).mean(dim=-1).flatten(0, 1)[:, None]
    change = F.normalize(F.adaptive_avg_pool2d(change, COARSE).flatten(1), dim=1)
    features = F.normalize(latents.flatten(0, 1), dim=1)
    itself = torch.eye(len(change), dtype=torch.bool, device=change.device)
    similar = (change @ change.T > SIMILAR) & ~itself
    logits = (features @ features.T / CONTRAST_TEMPERATURE).masked_fill(itself, -torch.inf)
    share = logits.masked_fill(~similar, -torch.inf).logsumexp(1) - logits.logsumexp(1)
    known = similar.any(dim=1)
    return -torch.where(known, share, 0.0).sum() / known.sum().clamp_min(1)
