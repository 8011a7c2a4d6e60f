"""What the dynamics know of a game and of its next frame, as values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genie.models.layers.cache import TemporalCache, View


@dataclass(frozen=True)
class Past:
    """What the dynamics know of a game for one or more players. A value: no call changes it.

    Attributes:
        tokens: (B, S) of the last finished frame.
        cache: keys and values of the frames in the window.
    """

    tokens: Int[Tensor, "b s"]
    cache: TemporalCache

    @property
    def time(self) -> Int[Tensor, " b"]:
        """Number of finished frames per player."""
        return self.cache.time

    def select(self, rows: Int[Tensor, " n"]) -> Past:
        """Returns the past of some of the players, in the order given."""
        return Past(self.tokens[rows], self.cache.select(rows))

    @staticmethod
    def concatenate(pasts: list[Past]) -> Past:
        """Joins the players of several pasts into one batch."""
        return Past(
            torch.cat([past.tokens for past in pasts]),
            TemporalCache.concatenate([past.cache for past in pasts]),
        )


@dataclass(frozen=True)
class Condition:
    """What is known of the next frame before any of its tokens, the same for all passes over it.

    Attributes:
        past: the frames before it.
        fixed: features of the past and the button that its tokens' are added to.
        view: that of the past's cache.
    """

    past: Past
    fixed: Float[Tensor, "b 1 s d"]
    view: View
