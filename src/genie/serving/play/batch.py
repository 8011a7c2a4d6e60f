"""The games of all players in one world, which step in one batch."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from genie.data.images import Picture, encode_picture
from genie.world.kept_states import KEEP_EVERY, thin_snapshots
from genie.world.maskgit import SamplingConfig

if TYPE_CHECKING:
    from genie.world.action_mapper import ActionMapper
    from genie.world.genie import Genie
    from genie.world.kept_states import KeptState
    from genie.world.state import PredictedFrame, State

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StartGame:
    """A turn that starts a game.

    Attributes:
        prompt: index of a prompt, or the player's own images.
        seed: of all random numbers.
        frames: number of frames of the prompt.
        kept: a later state of the game, from which it continues.
    """

    prompt: int | np.ndarray
    seed: int
    frames: int = 1
    kept: KeptState | None = None


@dataclass(frozen=True)
class PlayAction:
    """A turn that plays an action, as `to_played` of a mapper takes it; None: world's sampling."""

    action: int
    sampling: SamplingConfig | None = None


@dataclass(frozen=True)
class Rewind:
    """A turn that goes back to this step, or to the nearest snapshot before it."""

    step: int


@dataclass(frozen=True)
class ShowFrame:
    """A turn that shows the current frame."""


@dataclass(frozen=True)
class PreviewActions:
    """A turn that plays one step of previews, each in a copy of the game.

    The `first` of these turns makes the copies. The `last` one returns their frames.
    """

    actions: tuple[int, ...]
    first: bool
    last: bool
    sampling: SamplingConfig | None = None


Turn = StartGame | PlayAction | Rewind | ShowFrame | PreviewActions


@dataclass(frozen=True)
class CopyGame:
    """Maintenance that makes `copy` a game of its own with the state of `source`."""

    source: Hashable
    copy: Hashable


@dataclass(frozen=True)
class DropGame:
    """Maintenance that deletes a game."""

    game: Hashable


Maintenance = CopyGame | DropGame


def extra_maskgit_steps(turn: Turn, usual: SamplingConfig) -> int:
    """Returns how often a turn calls the dynamics, as far as no shared batch covers it.

    Args:
        turn: to take.
        usual: sampling of the world; a game with other sampling is not part of the shared batch.
    """
    match turn:
        case StartGame(frames=frames) if frames > 1:
            return frames  # one forward pass over all frames
        case PlayAction(sampling=own) if own is not None and own != usual:
            return own.model_calls
        case PreviewActions(actions=actions, sampling=own):
            return len(actions) * (own or usual).model_calls
        case _:
            return 0


@dataclass(frozen=True)
class TurnResult:
    """The result of a turn.

    Attributes:
        picture: encoded current frame of the game.
        generation_ms: milliseconds that the turn took.
        step: number of steps since the prompt.
        action: the latent action of the last step, if there was one.
        previews: encoded frames, after the last `PreviewActions` only.
    """

    picture: Picture
    generation_ms: float
    step: int = 0
    previews: tuple[Picture, ...] = ()
    action: int | None = None


TurnResults = dict[Hashable, TurnResult | Exception]


@dataclass(frozen=True)
class _GameStates:
    """The snapshots (step, state) of a game: an immutable value, so that copies are free."""

    snapshots: tuple[tuple[int, State], ...]
    step: int = 0
    action: int | None = None


@dataclass
class _StateBatch:
    """Games that stepped together and stay one batched state.

    Attributes:
        predicted: the predicted frame until it is committed; `state` is the one before it.
    """

    members: tuple[Hashable, ...]
    state: State
    predicted: PredictedFrame | None = None

    def player(self, game: Hashable) -> State:
        assert self.predicted is None
        return self.state.player(self.members.index(game))

    def split(self) -> dict[Hashable, State]:
        assert self.predicted is None
        return dict(zip(self.members, self.state.split(), strict=False))  # without the padding


@dataclass
class GameBatch:
    """The states of all games, by the game's key. Only one thread may use it.

    The games of a step stay one batched state until different games step, so that a steady round
    copies nothing. Games with other sampling step in a batch of their own.

    Attributes:
        world: that is played.
        prompts: images or clips that games start from.
        batch_sizes: ascending sizes that the world was compiled for. A batch is padded to the next
            one. Empty for a world that is not compiled.
        mapper: of real actions.
    """

    world: Genie
    prompts: Sequence[np.ndarray]
    batch_sizes: Sequence[int] = ()
    mapper: ActionMapper | None = None
    _games: dict[Hashable, _GameStates] = field(default_factory=dict)
    _single: dict[Hashable, State] = field(default_factory=dict)
    _batches: list[_StateBatch] = field(default_factory=list)
    _previews: dict[Hashable, State] = field(default_factory=dict)

    def advance(self, turns: Mapping[Hashable, Turn]) -> TurnResults:
        """Takes one turn in each game; call `commit` once the results are sent.

        Returns:
            The result of each turn, or the error that it or its batch raised.
        """
        self.commit()
        results: TurnResults = {}
        acts: dict[SamplingConfig | None, dict[Hashable, int]] = {}
        for game, turn in turns.items():
            if isinstance(turn, PlayAction) and game in self._games:
                acts.setdefault(turn.sampling, {})[game] = turn.action
                continue
            results[game] = _attempt(self._take_turn, game, turn)
        for sampling, actions in acts.items():
            try:
                results |= self._step(actions, sampling)
            except Exception as error:
                log.exception("a step of %d players failed", len(actions))
                results |= dict.fromkeys(actions, error)
        return results

    def run_maintenance(self, maintenance: Iterable[Maintenance]) -> None:
        """Copies and deletes games between two rounds, in order."""
        self.commit()
        for task in maintenance:
            try:
                self._maintain(task)
            except Exception:  # a copy that failed is reported by its player's next turn
                log.exception("maintenance failed")

    @property
    def uncommitted(self) -> list[_StateBatch]:
        """The batches with a predicted frame that is not committed."""
        return [batch for batch in self._batches if batch.predicted is not None]

    def commit(self) -> None:
        """Commits the predicted frames of the last round, after they were sent.

        `advance` calls it first. After an error here, the next turns of the players fail.
        """
        for batch in self.uncommitted:
            try:
                self._commit(batch)
            except Exception:
                log.exception("committing a frame of %d players failed", len(batch.members))
                self._batches.remove(batch)
                for game in batch.members:
                    self._games.pop(game, None)

    def warm_up(self, players: int) -> None:
        """Generates one frame for a batch of this size, so that it is compiled."""
        state = self.world.start(self.prompts[0], seed=0)
        self.world.step(type(state).stack([state] * players), [0] * players)

    def newest(self, game: Hashable) -> tuple[int, State] | None:
        """Returns the last snapshot of a game with its step; None if there is no such game."""
        return self._games[game].snapshots[-1] if game in self._games else None

    def _maintain(self, task: Maintenance) -> None:
        match task:
            case CopyGame(source, copy) if source in self._games:
                self._put(copy, self._games[source], self._state(source))
            case DropGame(game):
                self._forget(game)

    def _forget(self, game: Hashable) -> None:
        self._take_out([game])
        for kept in (self._single, self._games, self._previews):
            kept.pop(game, None)

    def _take_turn(self, game: Hashable, turn: Turn) -> TurnResult:
        started = time.perf_counter()
        match turn:
            case StartGame():
                self._begin(game, turn)
            case Rewind(step):
                self._rewind(game, step)
            case PreviewActions():
                return self._result(game, started, self._preview(game, turn))
        return self._result(game, started)

    def _begin(self, game: Hashable, turn: StartGame) -> None:
        prompt = self.prompts[turn.prompt] if isinstance(turn.prompt, int) else turn.prompt
        state = self.world.start(prompt, seed=turn.seed)
        states = _GameStates(((0, state),))
        if turn.kept is not None:
            step, state = turn.kept.step, turn.kept.state(state)
            states = _GameStates((*states.snapshots, (step, state)), step)
        self._put(game, states, state)

    def _rewind(self, game: Hashable, step: int) -> None:
        states = self._games[game]
        if step < states.step:
            snapshots = tuple(snapshot for snapshot in states.snapshots if snapshot[0] <= step)
            self._put(game, _GameStates(snapshots, snapshots[-1][0]), snapshots[-1][1])

    def _preview(self, game: Hashable, turn: PreviewActions) -> tuple[Picture, ...]:
        preview = self._previews.pop(game, None)
        if turn.first or preview is None:
            state = self._state(game)
            preview = type(state).stack([state] * len(turn.actions))
        _, predicted = self._predict(preview, turn.actions, turn.sampling)
        if turn.last:
            return tuple(encode_picture(frame) for frame in _pixels(predicted))
        self._previews[game] = self.world.commit(predicted)
        return ()

    def _put(self, game: Hashable, states: _GameStates, state: State) -> None:
        self._forget(game)
        self._games[game], self._single[game] = states, state

    def _result(
        self, game: Hashable, started: float, previews: tuple[Picture, ...] = ()
    ) -> TurnResult:
        picture, states = encode_picture(_pixels(self._state(game))), self._games[game]
        return TurnResult(picture, _ms_since(started), states.step, previews, states.action)

    def _step(
        self, actions: Mapping[Hashable, int], sampling: SamplingConfig | None
    ) -> TurnResults:
        started = time.perf_counter()
        batch = self._gather(tuple(actions))
        padding = [0] * (self._padded(len(actions)) - len(actions))
        played, predicted = self._predict(batch.state, [*actions.values(), *padding], sampling)
        frames = _pixels(predicted)[: len(actions)]
        batch.predicted = predicted
        spent = _ms_since(started)
        shown = zip(actions, frames, played, strict=False)
        return {game: _attempt(self._shown, game, *more, spent) for game, *more in shown}

    def _predict(
        self, state: State, actions: Sequence[int], sampling: SamplingConfig | None
    ) -> tuple[Sequence[int], PredictedFrame]:
        """Returns the latent actions that are played, and what they lead to."""
        played = self.mapper.to_played(state.frame, actions) if self.mapper else list(actions)
        return played, self.world.predict(state, played, sampling)

    def _shown(self, game: Hashable, frame: np.ndarray, action: int, spent: float) -> TurnResult:
        step = self._games[game].step + 1
        self._games[game] = replace(self._games[game], step=step, action=action)
        return TurnResult(encode_picture(frame), spent, step, action=action)

    def _commit(self, batch: _StateBatch) -> None:
        assert batch.predicted is not None
        batch.state, batch.predicted = self.world.commit(batch.predicted), None
        for game in batch.members:
            states = self._games[game]
            if states.step % KEEP_EVERY == 0:
                snapshots = thin_snapshots((*states.snapshots, (states.step, batch.player(game))))
                self._games[game] = replace(states, snapshots=snapshots)

    def _state(self, game: Hashable) -> State:
        for batch in self._batches:
            if game in batch.members:
                return batch.player(game)
        return self._single[game]

    def _gather(self, games: tuple[Hashable, ...]) -> _StateBatch:
        for batch in self._batches:
            if batch.members == games:
                return batch
        self._take_out(games)
        states = [self._single[game] for game in games]
        padding = self._padded(len(states)) - len(states)
        state = type(states[0]).stack([*states, *states[:1] * padding])
        for game in games:
            del self._single[game]
        self._batches.append(_StateBatch(games, state))
        return self._batches[-1]

    def _take_out(self, games: Iterable[Hashable]) -> None:
        """Splits the batches of these games."""
        wanted = set(games)
        for batch in [b for b in self._batches if wanted & set(b.members)]:
            self._batches.remove(batch)
            self._single.update(batch.split())

    def _padded(self, players: int) -> int:
        return next((size for size in self.batch_sizes if size >= players), players)


def _attempt(turn: Callable[..., TurnResult], *arguments: Any) -> TurnResult | Exception:
    """Returns the result of a turn, or the error that it raised."""
    try:
        return turn(*arguments)
    except Exception as error:
        log.exception("a player's turn failed")
        return error


def _pixels(seen: State | PredictedFrame) -> np.ndarray:
    return seen.frame.cpu().numpy()


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
