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

    @property
    def features(self) -> Float[Tensor, "b s f"]:
        """What the dynamics keep of the last frame: the values of all layers, side by side.

        Later frames attend to them, so they tell of the frame and of those before it. They are in
        the cache, so they take no computation.
        """
        values, players = self.cache.values, torch.arange(len(self.tokens), device=self.time.device)
        last = values[:, (self.time - 1) % values.shape[1], players]
        return last[:, :, -self.tokens.shape[1] :].permute(1, 2, 0, 3, 4).flatten(2)

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

    @staticmethod
    def concatenate(contexts: list[StepContext]) -> StepContext:
        """Joins the players of several contexts into one batch."""
        state = DynamicsState.concatenate([context.state for context in contexts])
        embedding = torch.cat([context.embedding for context in contexts])
        return StepContext(state, embedding, state.cache.view())
