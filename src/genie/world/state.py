"""The state of a game as a value, and a frame that is drawn but not yet part of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from genie.core.config import require
from genie.models.dynamics_state import DynamicsState, StepContext
from genie.models.layers.cache import TemporalCache


@dataclass(frozen=True)
class State:
    """Where a game stands, for one player or a batch of them. A value: no call changes it.

    Attributes:
        frames: the last frame, (B, H, W, 3) uint8.
        dynamics: the dynamics' memory of the finished frames.
        decoder: the decoder's memory of them.
        seed: (B,) with the frame number it decides all that is random.
        batched: whether frames come with a batch dimension.
    """

    frames: UInt8[Tensor, "b h w 3"]
    dynamics: DynamicsState
    decoder: TemporalCache
    seed: Int[Tensor, " b"]
    batched: bool

    @property
    def frame(self) -> Tensor:
        """A copy of the last frame: (H, W, 3), or (B, H, W, 3) for a batch of players."""
        return (self.frames if self.batched else self.frames[0]).clone()

    @property
    def time(self) -> Tensor:
        """(B,) number of frames so far, the prompt's included."""
        return self.dynamics.time

    @property
    def batch_size(self) -> int:
        """Number of players."""
        return len(self.frames)

    def clone(self) -> State:
        """A copy to branch the game from. States never change, so this is the state itself."""
        return self

    def player(self, index: int) -> State:
        """The state of one player of a batch."""
        row = torch.tensor([index], device=self.seed.device)
        return State(
            self.frames[row],
            self.dynamics.select(row),
            self.decoder.select(row),
            self.seed[row],
            batched=False,
        )

    def split(self) -> list[State]:
        """One state per player."""
        return [self.player(index) for index in range(self.batch_size)]

    @staticmethod
    def stack(states: Sequence[State]) -> State:
        """One batch of the players of several states, at whatever frame each is."""
        require(len(states) > 0, "states: nothing to stack, give at least one state")
        return State(
            torch.cat([state.frames for state in states]),
            DynamicsState.concatenate([state.dynamics for state in states]),
            TemporalCache.concatenate([state.decoder for state in states]),
            torch.cat([state.seed for state in states]),
            batched=True,
        )


@dataclass(frozen=True)
class PredictedFrame:
    """The next frame of a game, drawn and not yet taken into its memory. A value, like a state.

    Attributes:
        state: where the game stood.
        frames: (B, H, W, 3) uint8.
        tokens: (B, S) of the frame.
        context: what the dynamics knew of it before it was drawn.
        decoder: the decoder's memory, with this frame.
    """

    state: State
    frames: UInt8[Tensor, "b h w 3"]
    tokens: Int[Tensor, "b s"]
    context: StepContext
    decoder: TemporalCache

    @property
    def frame(self) -> Tensor:
        """A copy of the frame: (H, W, 3), or (B, H, W, 3) for a batch of players."""
        return (self.frames if self.state.batched else self.frames[0]).clone()
