"""The games of all players in one world, advanced together: one forward pass for everyone."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from genie.serving.protocol import Codec, encode_picture

if TYPE_CHECKING:
    from genie.maskgit import SamplingConfig
    from genie.world import Genie, State

MARK_EVERY, MARKS = 8, 2  # a game can be taken back to its start and to its latest marks
Picture = tuple[Codec, bytes]


@dataclass(frozen=True)
class Begin:
    """A turn: start a game from the prompt with this index, or from the player's own pictures."""

    prompt: int | np.ndarray
    seed: int


@dataclass(frozen=True)
class Act:
    """A turn: play this latent action; the world's own sampling when none is given."""

    action: int
    sampling: SamplingConfig | None = None


@dataclass(frozen=True)
class Rewind:
    """A turn: go back to this step, or to the nearest one before it that is still known."""

    step: int


@dataclass(frozen=True)
class Fork:
    """A turn: begin as a copy of another game."""

    source: Hashable


@dataclass(frozen=True)
class Look:
    """A turn: show where the game stands."""


@dataclass(frozen=True)
class Peek:
    """A turn: play some actions once more, each in a dream of the game that `first` begins anew.

    What they lead to is seen after the `last` of these turns.
    """

    actions: tuple[int, ...]
    first: bool
    last: bool
    sampling: SamplingConfig | None = None


Turn = Begin | Act | Rewind | Fork | Look | Peek


@dataclass(frozen=True)
class Drawn:
    """What a turn drew.

    Attributes:
        picture: the encoded frame at which the game stands.
        generation_ms: milliseconds that drawing took.
        step: steps since the prompt.
        peeks: the encoded frames that actions would lead to, after the last `Peek` only.
    """

    picture: Picture
    generation_ms: float
    step: int = 0
    peeks: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class _Game:
    """A game beside its state: a value, so that a fork costs nothing."""

    begin: Begin
    step: int = 0
    marks: tuple[tuple[int, State], ...] = ()


@dataclass
class _Batch:
    """Games that stepped together and stay one batched state."""

    members: tuple[Hashable, ...]
    state: State

    def player(self, game: Hashable) -> State:
        return self.state.player(self.members.index(game))


@dataclass
class Games:
    """Game states by the game's key. Not for several threads: one worker owns it.

    The players of a step stay one batched state, which is taken apart only when other players step
    than before, so that a steady round copies nothing. Players with other sampling step apart.

    Attributes:
        world: the world that is played.
        prompts: what games start from, by index.
    """

    world: Genie
    prompts: Sequence[np.ndarray]
    _games: dict[Hashable, _Game] = field(default_factory=dict)
    _alone: dict[Hashable, State] = field(default_factory=dict)
    _batches: list[_Batch] = field(default_factory=list)
    _dreams: dict[Hashable, State] = field(default_factory=dict)

    def advance(self, turns: Mapping[Hashable, Turn]) -> dict[Hashable, Drawn]:
        """Takes one turn in each game; returns what each got to see."""
        drawn: dict[Hashable, Drawn] = {}
        acts: dict[SamplingConfig | None, dict[Hashable, int]] = {}
        for game, turn in turns.items():
            if isinstance(turn, Act):
                acts.setdefault(turn.sampling, {})[game] = turn.action
            else:
                drawn[game] = self._apart(game, turn)
        for sampling, actions in acts.items():
            drawn |= self._step(actions, sampling)
        return drawn

    def forget(self, games: Iterable[Hashable]) -> None:
        """Drops games that nobody will go on with."""
        for game in games:
            self._take_out([game])
            for kept in (self._alone, self._games, self._dreams):
                kept.pop(game, None)

    def warm_up(self) -> None:
        """Draws one frame that nobody sees."""
        self.world.step(self.world.start(self.prompts[0], seed=0), 0)

    def _apart(self, game: Hashable, turn: Turn) -> Drawn:
        started = time.perf_counter()
        match turn:
            case Begin():
                self._begin(game, turn)
            case Rewind(step):
                self._rewind(game, step)
            case Fork(source):
                self._put(game, self._games[source], self._state(source))
            case Peek():
                return self._drawn(game, started, self._peek(game, turn))
        return self._drawn(game, started)

    def _begin(self, game: Hashable, turn: Begin) -> None:
        prompt = self.prompts[turn.prompt] if isinstance(turn.prompt, int) else turn.prompt
        self._put(game, _Game(turn), self.world.start(prompt, seed=turn.seed))

    def _rewind(self, game: Hashable, step: int) -> None:
        known = self._games[game]
        marks = tuple(mark for mark in known.marks if mark[0] <= step)
        if known.step <= step:
            return
        if not marks:
            self._begin(game, known.begin)
            return
        self._put(game, _Game(known.begin, marks[-1][0], marks), marks[-1][1])

    def _peek(self, game: Hashable, turn: Peek) -> tuple[Picture, ...]:
        dream = self._dreams.pop(game, None)
        if turn.first or dream is None:
            state = self._state(game)
            dream = type(state).stack([state] * len(turn.actions))
        _, dream = self.world.step(dream, list(turn.actions), turn.sampling)
        if turn.last:
            return tuple(encode_picture(frame) for frame in _pixels(dream))
        self._dreams[game] = dream
        return ()

    def _put(self, game: Hashable, known: _Game, state: State) -> None:
        self.forget([game])
        self._games[game], self._alone[game] = known, state

    def _drawn(self, game: Hashable, started: float, peeks: tuple[Picture, ...] = ()) -> Drawn:
        picture = encode_picture(_pixels(self._state(game)))
        return Drawn(picture, _ms_since(started), self._games[game].step, peeks)

    def _step(
        self, actions: Mapping[Hashable, int], sampling: SamplingConfig | None
    ) -> dict[Hashable, Drawn]:
        started = time.perf_counter()
        batch = self._gather(tuple(actions))
        _, batch.state = self.world.step(batch.state, list(actions.values()), sampling)
        frames = _pixels(batch.state)
        spent = _ms_since(started)
        return {
            game: Drawn(encode_picture(frame), spent, self._count(game, batch))
            for game, frame in zip(actions, frames, strict=True)
        }

    def _count(self, game: Hashable, batch: _Batch) -> int:
        known = self._games[game]
        step, marks = known.step + 1, known.marks
        if step % MARK_EVERY == 0:
            marks = (*marks, (step, batch.player(game)))[-MARKS:]
        self._games[game] = _Game(known.begin, step, marks)
        return step

    def _state(self, game: Hashable) -> State:
        for batch in self._batches:
            if game in batch.members:
                return batch.player(game)
        return self._alone[game]

    def _gather(self, games: tuple[Hashable, ...]) -> _Batch:
        for batch in self._batches:
            if batch.members == games:
                return batch
        self._take_out(games)
        states = [self._alone.pop(game) for game in games]
        self._batches.append(_Batch(games, type(states[0]).stack(states)))
        return self._batches[-1]

    def _take_out(self, games: Iterable[Hashable]) -> None:
        """Takes apart the batches that these games are in."""
        wanted = set(games)
        for batch in [b for b in self._batches if wanted & set(b.members)]:
            self._batches.remove(batch)
            self._alone.update(zip(batch.members, batch.state.split(), strict=True))


def _pixels(state: State) -> np.ndarray:
    return state.frame.cpu().numpy()


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
