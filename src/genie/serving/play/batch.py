"""The games of all players in one world, advanced together: one forward pass for everyone."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from genie.serving.protocol import Codec, encode_picture

if TYPE_CHECKING:
    from genie.world.genie import Genie
    from genie.world.maskgit import SamplingConfig
    from genie.world.state import Drawing, State

MARK_EVERY = 8  # steps between the states that a game keeps of itself, before they are thinned
Picture = tuple[Codec, bytes]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Begin:
    """A turn: start a game from the prompt with this index, or from the player's own pictures.

    Attributes:
        prompt: the index or the pictures.
        seed: decides all that is random.
        frames: how many pictures the prompt has.
    """

    prompt: int | np.ndarray
    seed: int
    frames: int = 1


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


Turn = Begin | Act | Rewind | Look | Peek


@dataclass(frozen=True)
class Fork:
    """A chore: `copy` is from now on a game of its own that stands where `source` stands."""

    source: Hashable
    copy: Hashable


@dataclass(frozen=True)
class Forget:
    """A chore: nobody will go on with this game."""

    game: Hashable


Chore = Fork | Forget


def passes_beside(turn: Turn, usual: SamplingConfig) -> int:
    """How many passes through the model a turn takes that the others' step does not share.

    Args:
        turn: what is to be done.
        usual: how the world draws frames; who has other ideas steps alone.
    """
    match turn:
        case Begin(frames=frames) if frames > 1:
            return frames  # one forward over so many frames
        case Act(sampling=own) if own is not None and own != usual:
            return own.steps
        case Peek(actions=actions, sampling=own):
            return len(actions) * (own or usual).steps
        case _:
            return 0


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

    marks: tuple[tuple[int, State], ...]
    step: int = 0


@dataclass
class _Batch:
    """Games that stepped together and stay one batched state.

    Attributes:
        drawing: the last step while it is to be committed; the state is then that before it.
    """

    members: tuple[Hashable, ...]
    state: State
    drawing: Drawing | None = None

    def player(self, game: Hashable) -> State:
        assert self.drawing is None
        return self.state.player(self.members.index(game))

    def split(self) -> dict[Hashable, State]:
        assert self.drawing is None
        return dict(zip(self.members, self.state.split(), strict=False))  # without the padding


@dataclass
class Games:
    """Game states by the game's key. Not for several threads: one worker owns it.

    The players of a step stay one batched state, which is taken apart only when other players step
    than before, so that a steady round copies nothing. Players with other sampling step apart.

    Attributes:
        world: the world that is played.
        prompts: what games start from, by index.
        batch_sizes: ascending numbers of players that a compiled world was compiled for: a batch is
            padded to the next of them. Empty where every number is as good.
    """

    world: Genie
    prompts: Sequence[np.ndarray]
    batch_sizes: Sequence[int] = ()
    _games: dict[Hashable, _Game] = field(default_factory=dict)
    _alone: dict[Hashable, State] = field(default_factory=dict)
    _batches: list[_Batch] = field(default_factory=list)
    _dreams: dict[Hashable, State] = field(default_factory=dict)

    def advance(self, turns: Mapping[Hashable, Turn]) -> dict[Hashable, Drawn | Exception]:
        """Takes one turn in each game; `settle` when what it returns is on its way.

        Returns:
            What each got to see, or the error that its turn, or the step of its batch, raised.
        """
        self.settle()
        drawn: dict[Hashable, Drawn | Exception] = {}
        acts: dict[SamplingConfig | None, dict[Hashable, int]] = {}
        for game, turn in turns.items():
            if isinstance(turn, Act) and game in self._games:
                acts.setdefault(turn.sampling, {})[game] = turn.action
                continue
            drawn[game] = _attempt(lambda game=game, turn=turn: self._apart(game, turn))
        for sampling, actions in acts.items():
            try:
                drawn |= self._step(actions, sampling)
            except Exception as error:
                log.exception("a step of %d players failed", len(actions))
                drawn |= dict.fromkeys(actions, error)
        return drawn

    def do(self, chores: Iterable[Chore]) -> None:
        """Does what the players' sessions want done between two rounds, in order."""
        self.settle()
        for chore in chores:
            try:
                self._do(chore)
            except Exception:  # a fork that failed is missed by its own player's next turn
                log.exception("a chore failed")

    @property
    def unsettled(self) -> list[_Batch]:
        """The batches of which a frame is drawn and not committed."""
        return [batch for batch in self._batches if batch.drawing is not None]

    def settle(self) -> None:
        """Commits the frames of the last round, which nobody has to wait for.

        The next round does it first where it was not called. What fails here is missed, and told,
        by the players' next turns.
        """
        for batch in self.unsettled:
            try:
                self._settle(batch)
            except Exception:
                log.exception("committing a frame of %d players failed", len(batch.members))
                self._batches.remove(batch)
                for game in batch.members:
                    self._games.pop(game, None)

    def warm_up(self, players: int) -> None:
        """Draws a frame that nobody sees, for so many players."""
        state = self.world.start(self.prompts[0], seed=0)
        self.world.step(type(state).stack([state] * players), [0] * players)

    def _do(self, chore: Chore) -> None:
        match chore:
            case Fork(source, copy) if source in self._games:
                self._put(copy, self._games[source], self._state(source))
            case Forget(game):
                self._forget(game)

    def _forget(self, game: Hashable) -> None:
        self._take_out([game])
        for kept in (self._alone, self._games, self._dreams):
            kept.pop(game, None)

    def _apart(self, game: Hashable, turn: Turn) -> Drawn:
        started = time.perf_counter()
        match turn:
            case Begin():
                self._begin(game, turn)
            case Rewind(step):
                self._rewind(game, step)
            case Peek():
                return self._drawn(game, started, self._peek(game, turn))
        return self._drawn(game, started)

    def _begin(self, game: Hashable, turn: Begin) -> None:
        prompt = self.prompts[turn.prompt] if isinstance(turn.prompt, int) else turn.prompt
        state = self.world.start(prompt, seed=turn.seed)
        self._put(game, _Game(((0, state),)), state)

    def _rewind(self, game: Hashable, step: int) -> None:
        known = self._games[game]
        if step < known.step:
            marks = tuple(mark for mark in known.marks if mark[0] <= step)
            self._put(game, _Game(marks, marks[-1][0]), marks[-1][1])

    def _peek(self, game: Hashable, turn: Peek) -> tuple[Picture, ...]:
        dream = self._dreams.pop(game, None)
        if turn.first or dream is None:
            state = self._state(game)
            dream = type(state).stack([state] * len(turn.actions))
        drawing = self.world.draw(dream, list(turn.actions), turn.sampling)
        if turn.last:
            return tuple(encode_picture(frame) for frame in _pixels(drawing))
        self._dreams[game] = self.world.commit(drawing)
        return ()

    def _put(self, game: Hashable, known: _Game, state: State) -> None:
        self._forget(game)
        self._games[game], self._alone[game] = known, state

    def _drawn(self, game: Hashable, started: float, peeks: tuple[Picture, ...] = ()) -> Drawn:
        picture = encode_picture(_pixels(self._state(game)))
        return Drawn(picture, _ms_since(started), self._games[game].step, peeks)

    def _step(
        self, actions: Mapping[Hashable, int], sampling: SamplingConfig | None
    ) -> dict[Hashable, Drawn | Exception]:
        started = time.perf_counter()
        batch = self._gather(tuple(actions))
        padding = [0] * (self._padded(len(actions)) - len(actions))
        drawing = self.world.draw(batch.state, [*actions.values(), *padding], sampling)
        frames = _pixels(drawing)[: len(actions)]
        batch.drawing = drawing
        spent = _ms_since(started)

        def shown(game: Hashable, frame: np.ndarray) -> Drawn:
            return Drawn(encode_picture(frame), spent, self._count(game))

        return {
            game: _attempt(lambda game=game, frame=frame: shown(game, frame))
            for game, frame in zip(actions, frames, strict=True)
        }

    def _count(self, game: Hashable) -> int:
        known = self._games[game]
        self._games[game] = replace(known, step=known.step + 1)
        return known.step + 1

    def _settle(self, batch: _Batch) -> None:
        assert batch.drawing is not None
        batch.state, batch.drawing = self.world.commit(batch.drawing), None
        for game in batch.members:
            known = self._games[game]
            if known.step % MARK_EVERY == 0:
                marks = thinned((*known.marks, (known.step, batch.player(game))))
                self._games[game] = replace(known, marks=marks)

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
        states = [self._alone[game] for game in games]
        padding = self._padded(len(states)) - len(states)
        state = type(states[0]).stack([*states, *states[:1] * padding])
        for game in games:
            del self._alone[game]
        self._batches.append(_Batch(games, state))
        return self._batches[-1]

    def _take_out(self, games: Iterable[Hashable]) -> None:
        """Takes apart the batches that these games are in."""
        wanted = set(games)
        for batch in [b for b in self._batches if wanted & set(b.members)]:
            self._batches.remove(batch)
            self._alone.update(batch.split())

    def _padded(self, players: int) -> int:
        return next((size for size in self.batch_sizes if size >= players), players)


def thinned(marks: tuple[tuple[int, State], ...]) -> tuple[tuple[int, State], ...]:
    """Leaves out marks of a game that lie close to others, the more the older they are.

    A mark stays while it is no older than twice the largest power of two that divides its step. So
    a game of n steps has about log2(n) marks, and going back d steps from its end means playing
    less than max(`MARK_EVERY`, 2 d) of them again. The start stays for ever.

    Args:
        marks: (step, state) from the start on, the last one of now.
    """
    now = marks[-1][0]
    return tuple(
        mark for mark in marks if mark[0] == 0 or now - mark[0] <= 2 * (mark[0] & -mark[0])
    )


def _attempt(turn: Callable[[], Drawn]) -> Drawn | Exception:
    """What one player's turn drew, or the error that it raised, which is nobody else's."""
    try:
        return turn()
    except Exception as error:
        log.exception("a player's turn failed")
        return error


def _pixels(seen: State | Drawing) -> np.ndarray:
    return seen.frame.cpu().numpy()


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
