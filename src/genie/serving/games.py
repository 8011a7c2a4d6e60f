"""The games of all players in one world, advanced together: one forward pass for everyone."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from genie.serving.protocol import Codec, encode_picture

if TYPE_CHECKING:
    from genie.world import Genie, State


@dataclass(frozen=True)
class Begin:
    """A player's turn: start a game from the prompt with this index."""

    prompt: int
    seed: int


@dataclass(frozen=True)
class Act:
    """A player's turn: play this latent action."""

    action: int


@dataclass(frozen=True)
class Drawn:
    """What a turn drew."""

    picture: tuple[Codec, bytes]
    generation_ms: float


class Games:
    """Game states by player. Not for several threads: one worker owns it.

    The players of the last step stay one batched state, which is taken apart only when other
    players step than before, so that a steady round copies nothing.
    """

    def __init__(self, world: Genie, prompts: Sequence[np.ndarray]) -> None:
        self.world = world
        self.prompts = prompts
        self._alone: dict[int, State] = {}
        self._members: tuple[int, ...] = ()
        self._batch: State | None = None

    def advance(self, turns: Mapping[int, Begin | Act]) -> dict[int, Drawn]:
        """Takes one turn for each player; returns what each got to see."""
        drawn = {p: self._begin(p, turn) for p, turn in turns.items() if isinstance(turn, Begin)}
        actions = {p: turn.action for p, turn in turns.items() if isinstance(turn, Act)}
        return {**drawn, **self._step(actions)} if actions else drawn

    def forget(self, players: Iterable[int]) -> None:
        """Drops the games of players who left."""
        for player in players:
            if player in self._members:
                self._take_apart()
            self._alone.pop(player, None)

    def warm_up(self) -> None:
        """Draws one frame that nobody sees."""
        self.world.step(self.world.start(self.prompts[0], seed=0), 0)

    def _begin(self, player: int, turn: Begin) -> Drawn:
        started = time.perf_counter()
        self.forget([player])
        state = self.world.start(self.prompts[turn.prompt], seed=turn.seed)
        self._alone[player] = state
        return Drawn(encode_picture(_pixels(state)), _ms_since(started))

    def _step(self, actions: Mapping[int, int]) -> dict[int, Drawn]:
        started = time.perf_counter()
        batch = self._gather(tuple(actions))
        _, self._batch = self.world.step(batch, list(actions.values()))
        frames = _pixels(self._batch)
        spent = _ms_since(started)
        return {
            player: Drawn(encode_picture(frame), spent)
            for player, frame in zip(actions, frames, strict=True)
        }

    def _gather(self, players: tuple[int, ...]) -> State:
        if players != self._members:
            self._take_apart()
            states = [self._alone.pop(player) for player in players]
            self._batch, self._members = type(states[0]).stack(states), players
        assert self._batch is not None
        return self._batch

    def _take_apart(self) -> None:
        if self._batch is not None:
            self._alone.update(zip(self._members, self._batch.split(), strict=True))
        self._batch, self._members = None, ()


def _pixels(state: State) -> np.ndarray:
    return state.frame.cpu().numpy()


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
