"""Masks for dynamics that draw the coarse tokens of a frame before its fine ones."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from genie.models.layers.distributed import rand_rows
from genie.models.masking import MaskRatio, sample_mask


def coarse_first_masks(
    tokens: Int[Tensor, "b t s"], ratio: MaskRatio, coarse: int
) -> tuple[Bool[Tensor, "b t s"], Bool[Tensor, "b t s"]]:
    """Samples masks as they occur in play, where fine tokens wait for all coarse ones.

    Half of the frames learn their coarse tokens: some of these are masked, and all fine ones. The
    other half learns fine tokens, with all coarse ones given.

    Args:
        tokens: of the frames, the coarse ones first.
        ratio: as of `sample_mask`, of the tokens that are learned.
        coarse: number of coarse tokens of a frame.

    Returns:
        Where tokens are masked, and where they are learned.
    """
    early = rand_rows(*tokens.shape[:2], 1, device=tokens.device) < 0.5
    first = sample_mask(tokens[..., :coarse], ratio)
    second = sample_mask(tokens[..., coarse:], ratio)
    masked = torch.cat([first & early, second | early], dim=-1)
    return masked, torch.cat([first & early, second & ~early], dim=-1)
