"""The state of a game and a predicted frame that is not committed yet, as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from genie.core.config import require
from genie.models.dynamics_state import DynamicsState, StepContext
from genie.models.layers.cache import DecoderCache


@dataclass(frozen=True)
class State:
    """All that is known about a game, for one player or a batch of players.

    It is a value: no call changes it.

    Attributes:
        frames: the last frame, (B, H, W, 3) uint8.
        dynamics: the dynamics' state after the finished frames.
        decoder: the cache of the tokenizer's decoder.
        seed: of each player. Seed and frame number determine all random numbers.
        batched: whether `frame` has a batch dimension.
    """

    frames: UInt8[Tensor, "b h w 3"]
    dynamics: DynamicsState
    decoder: DecoderCache
    seed: Int[Tensor, " b"]
    batched: bool

    @property
    def frame(self) -> Tensor:
        """A copy of the last frame: (H, W, 3), or (B, H, W, 3) for a batch of players."""
        return (self.frames if self.batched else self.frames[0]).clone()

    @property
    def time(self) -> Tensor:
        """(B,) number of frames so far, including those of the prompt."""
        return self.dynamics.time

    @property
    def batch_size(self) -> int:
        """Number of players."""
        return len(self.frames)

    def clone(self) -> State:
        """Returns a copy to branch the game from. States never change, so it is this object."""
        return self

    def player(self, index: int) -> State:
        """Returns the state of one player of a batch, without a batch dimension."""
        row = torch.tensor([index], device=self.seed.device)
        return State(
            self.frames[row],
            self.dynamics.select(row),
            self.decoder.select(row),
            self.seed[row],
            batched=False,
        )

    def split(self) -> list[State]:
        """Returns one state per player."""
        return [self.player(index) for index in range(self.batch_size)]

    @staticmethod
    def stack(states: Sequence[State]) -> State:
        """Joins the players of several states into one batch; their numbers of frames may differ.

        Raises:
            UserError: the list is empty.
        """
        require(len(states) > 0, "states: nothing to stack, give at least one state")
        return State(
            torch.cat([state.frames for state in states]),
            DynamicsState.concatenate([state.dynamics for state in states]),
            DecoderCache.concatenate([state.decoder for state in states]),
            torch.cat([state.seed for state in states]),
            batched=True,
        )


@dataclass(frozen=True)
class PredictedFrame:
    """The next frame of a game before it is committed. It is a value, like a state.

    Attributes:
        state: of the game before this frame.
        frames: (B, H, W, 3) uint8.
        tokens: (B, S) of the frame, as the dynamics remember it.
        context: of the dynamics' step.
        decoder: the decoder's cache with this frame.
    """

    state: State
    frames: UInt8[Tensor, "b h w 3"]
    tokens: Int[Tensor, "b s"]
    context: StepContext
    decoder: DecoderCache

    @property
    def frame(self) -> Tensor:
        """A copy of the frame: (H, W, 3), or (B, H, W, 3) for a batch of players."""
        return (self.frames if self.state.batched else self.frames[0]).clone()
