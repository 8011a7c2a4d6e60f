"""What the dynamics know of a game and of its next frame, as values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genie.models.layers.cache import CacheView, TemporalCache


@dataclass(frozen=True)
class DynamicsState:
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

    def select(self, rows: Int[Tensor, " n"]) -> DynamicsState:
        """Returns the state of some of the players, in the order given."""
        return DynamicsState(self.tokens[rows], self.cache.select(rows))

    @staticmethod
    def concatenate(states: list[DynamicsState]) -> DynamicsState:
        """Joins the players of several states into one batch."""
        return DynamicsState(
            torch.cat([state.tokens for state in states]),
            TemporalCache.concatenate([state.cache for state in states]),
        )


@dataclass(frozen=True)
class StepContext:
    """What is known of the next frame before any of its tokens, the same for all passes over it.

    Attributes:
        state: the frames before it.
        embedding: features of that state and of the action, which those of tokens are added to.
        view: that of the state's cache.
    """

    state: DynamicsState
    embedding: Float[Tensor, "b 1 s d"]
    view: CacheView
