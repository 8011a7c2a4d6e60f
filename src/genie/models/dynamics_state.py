"""The state of the dynamics model and the context of a step, as values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genie.models.layers.cache import CacheView, TemporalCache


@dataclass(frozen=True)
class DynamicsState:
    """What the dynamics model knows about a game, for one or more players.

    It is a value: no call changes it.

    Attributes:
        tokens: of the last finished frame.
        cache: keys and values of the frames in the window.
    """

    tokens: Int[Tensor, "b s"]
    cache: TemporalCache

    @property
    def time(self) -> Int[Tensor, " b"]:
        """Number of finished frames per player."""
        return self.cache.time

    def select(self, rows: Int[Tensor, " n"]) -> DynamicsState:
        """Returns the state of some of the players.

        Args:
            rows: indices of players, in the order wanted.
        """
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
    """What is known about the next frame before any of its tokens.

    All MaskGIT steps over the frame share it.

    Attributes:
        state: the frames before it.
        embedding: features of the action and of the frame before; features of tokens are added.
        view: that of the state's cache.
    """

    state: DynamicsState
    embedding: Float[Tensor, "b 1 s d"]
    view: CacheView
