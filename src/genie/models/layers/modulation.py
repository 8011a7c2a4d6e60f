"""Blocks whose tokens are scaled and shifted by the action (Perez et al. 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genie.models.layers.transformer import SpaceTimeBlock, TransformerConfig


class ModulatedBlock(SpaceTimeBlock):
    """A space-time block in which the first row of a frame conditions all others.

    This is feature-wise linear modulation (arXiv 1709.07871). The first row is the action of the
    frame, and a linear layer computes a scale and a shift of each feature from it. No token attends
    to that row over space, so the action has no other way in. The row itself attends to the actions
    of earlier frames. A new block neither scales nor shifts.

    Args:
        config: sizes.
    """

    def __init__(self, config: TransformerConfig):
        super().__init__(config)
        self.modulation = nn.Linear(config.width, 2 * config.width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def _over_space(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        action, tokens = x[:, :, :1], x[:, :, 1:]
        scale, shift = self.modulation(action).chunk(2, dim=-1)
        tokens = tokens * (1 + scale) + shift
        if positions is not None:  # of tokens, counted with the row of the action
            return super()._over_space(tokens, positions - 1)
        return torch.cat([action, super()._over_space(tokens)], dim=2)
