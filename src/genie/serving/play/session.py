"""One player: the games, the keys held, and what waits to be sent. It lives on the event loop."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from genie.serving.play.batch import (
    Act,
    Begin,
    Chore,
    Drawn,
    Forget,
    Fork,
    Look,
    Peek,
    Picture,
    Rewind,
    Turn,
    passes_beside,
)
from genie.serving.play.start import Opening, Terms, read_start
from genie.serving.protocol import (
    Ack,
    Branch,
    ClientMessage,
    Close,
    Film,
    Idle,
    Keys,
    Pace,
    Pause,
    ProtocolError,
    Sampling,
    Save,
    Start,
    Step,
    Switch,
    Undo,
    pack,
)
from genie.serving.protocol import Peek as PeekOrder
from genie.world.maskgit import SamplingConfig

MAX_UNACKNOWLEDGED = 2  # frames under way to a player
STALLED_AFTER = 5.0  # seconds without an acknowledgement after which a game waits for its player
MAX_AHEAD = 8  # single steps that may wait to be drawn
PEEK_TOGETHER = 2  # actions: few, so that a key which is pressed meanwhile waits for a short round
MAX_GAMES = 4  # that a player keeps at a time
FILM_SECONDS = 60


class SessionClosed(Exception):
    """The session ended from the server's side; the message is for the player."""


@dataclass
class Game:
    """What was played. The drawn state follows: steps that it lacks are played again.

    Attributes:
        begin: where it started.
        actions, sampling: of each step.
        orders: turns to take before anything is played.
        step: where the drawn state stands; -1 before the first frame.
        silent_until: steps before this one were seen already and are not shown again.
        film: step and picture of the frames of the last minute.
    """

    begin: Begin
    film: deque[tuple[int, Picture]]
    actions: list[int] = field(default_factory=list)
    sampling: list[SamplingConfig] = field(default_factory=list)
    orders: list[Turn] = field(default_factory=list)
    step: int = -1
    silent_until: int = 0

    @property
    def behind(self) -> int:
        """Steps that are not drawn yet."""
        return len(self.actions) - self.step

    @property
    def drawn_once(self) -> bool:
        """Whether there is a state of it, or will be after this round."""
        return not any(isinstance(order, Begin) for order in self.orders)

    def play(self, action: int, sampling: SamplingConfig) -> None:
        """Adds a step."""
        self.actions.append(action)
        self.sampling.append(sampling)

    def undo(self, steps: int) -> None:
        """Takes the last steps back."""
        kept = max(0, len(self.actions) - steps)
        del self.actions[kept:], self.sampling[kept:]
        self.orders = [order for order in self.orders if not isinstance(order, Rewind)]
        self.orders.append(Rewind(kept))
        self.silent_until = kept

    def saw(self, drawn: Drawn) -> None:
        """Notes where the state stands now, and what it looks like."""
        self.step = drawn.step
        while self.film and self.film[-1][0] >= drawn.step:
            self.film.pop()
        self.film.append((drawn.step, drawn.picture))

    def copy(self) -> Game:
        """A game that goes on from here as one of its own."""
        return replace(
            self,
            film=self.film.copy(),
            actions=self.actions.copy(),
            sampling=self.sampling.copy(),
            orders=self.orders.copy() or [Look()],
            silent_until=len(self.actions),
        )


class Session:
    """One player: the games, the keys held, the clock, and the one frame that waits to be sent."""

    def __init__(self, number: int, terms: Terms) -> None:
        self.number = number
        self._terms = terms
        self._sampling = terms.sampling
        self._games: dict[int, Game] = {}
        self._current = 0
        self._game_numbers = itertools.count(1)
        self._of_turn: Game | None = None
        self._turn: Turn | None = None
        self._held: list[int] = []
        self._tapped: int | None = None  # pressed since the last turn, maybe released again
        self._idle: int | None = None
        self._paused = False
        self.every = 1  # plays at each tick that this divides
        self._peeking: deque[Peek] = deque()
        self._seq = self._seq_of_turn = 0
        self._frame_id = 0
        self._under_way: list[int] = []
        self._latest: bytes | None = None
        self._peeks: list[bytes] = []
        self._film: bytes | None = None
        self._blocked_since: float | None = None
        self._notes: dict[str, str] = {}  # by type: the latest of each is sent
        self._ended: str | None = None
        self._changed = asyncio.Event()
        self._chores: list[Chore] = []
        self.dear_since = 0.0  # when a turn was last taken that no other player shared

    @property
    def key(self) -> tuple[int, int]:
        """What `Games` knows the current game by."""
        return (self.number, self._current)

    @property
    def keys(self) -> list[tuple[int, int]]:
        """What `Games` knows all of the player's games by."""
        return [(self.number, number) for number in self._games]

    @property
    def game(self) -> Game | None:
        """The game that is played now."""
        return self._games.get(self._current)

    def receive(self, message: ClientMessage) -> None:
        """Takes in one message of the player.

        Raises:
            ProtocolError: it names an action or a game that there isn't.
        """
        match message:
            case Keys():
                self._hold(message)
            case Idle(action=action):
                self._terms.check_actions([] if action is None else [action])
                self._idle = action
            case Pause(paused=paused):
                self._paused = paused
            case Pace(every=every):
                self.every = every
            case Step():
                self._order_step(message)
            case Undo():
                self._order_undo(message)
            case Branch():
                self._branch()
            case Switch(game=number):
                self._switch(number)
            case Close(game=number):
                self._close(number)
            case Sampling():
                self._choose_sampling(message)
            case PeekOrder(steps=steps):
                self._order_peek(steps)
            case Ack(frame=frame):
                self._acknowledge(frame)
            case Start() | Save() | Film():
                raise AssertionError("the clock answers these")

    def reading(self, message: Start) -> Callable[[], Opening]:
        """Returns the function that reads a start for `open`, for another thread."""
        return partial(read_start, message, self._terms, self._sampling)

    def open(self, opening: Opening) -> None:
        """Begins the game that is played now anew."""
        begin = opening.begin
        film = deque[tuple[int, Picture]](maxlen=math.ceil(FILM_SECONDS * self._terms.fps) + 1)
        game = Game(begin, film, opening.actions, opening.sampling, [begin])
        self._games[self._current] = game
        self._seq, self._paused = opening.seq, False
        self._held, self._tapped = [], None
        index = begin.prompt if isinstance(begin.prompt, int) else None
        self.tell({"type": "started", "prompt": index, "seed": begin.seed})

    def take_chores(self) -> list[Chore]:
        """Returns what `Games` is to do before the next round."""
        chores, self._chores = self._chores, []
        return chores

    def wants_turn(self, now: float) -> bool:
        """Says whether the player has something to draw at the next tick."""
        game = self.game
        if self._ended is not None or game is None:
            return False
        if game.orders:
            return True
        stalled = self._blocked_since is not None and now - self._blocked_since > STALLED_AFTER
        if stalled or game.step < 0:
            return False
        return game.behind > 0 or len(self._peeking) > 0 or self._runs()

    def in_real_time(self) -> bool:
        """Says whether the next turn is one that the clock gives."""
        game = self.game
        return game is not None and not game.orders and game.behind <= 0 and self._runs()

    def passes_beside(self) -> int:
        """Passes that the next turn takes beside those that all players share."""
        game = self.game
        return 0 if game is None else passes_beside(self._next_turn(game), self._terms.sampling)

    def take_turn(self) -> Turn:
        """Returns what to play now; a key that was tapped between two ticks counts for one."""
        game = self.game
        assert game is not None
        turn = self._next_turn(game)
        self._of_turn, self._turn = game, turn
        if game.orders:
            game.orders.pop(0)
        elif isinstance(turn, Peek):
            self._peeking.popleft()
            return turn
        elif game.behind <= 0:
            assert isinstance(turn, Act)
            self._tapped = None
            game.play(turn.action, self._sampling)
        self._peeking.clear()
        self._peeks = []
        if game.behind <= 1:
            self._seq_of_turn = self._seq
        return turn

    def show(self, drawn: Drawn, now: float) -> None:
        """Offers what was drawn; a frame that still waits is replaced: nothing queues."""
        game = self._of_turn
        assert game is not None
        if isinstance(self._turn, Peek):
            if game is self.game and drawn.peeks and not game.orders:
                self._peeks += self._packed_peeks(self._turn.actions, drawn)
                self._changed.set()
            return
        game.saw(drawn)
        if game is not self.game or game.orders or drawn.step < game.silent_until:
            return
        self._frame_id += 1
        if self._latest is not None and self._blocked_since is None:
            self._blocked_since = now
        self._latest = pack(
            self._frame_id, self._seq_of_turn, drawn.step, drawn.generation_ms, drawn.picture
        )
        self._changed.set()

    def film(self) -> list[Picture]:
        """The pictures of the game's last minute."""
        return [] if self.game is None else [picture for _, picture in self.game.film]

    def deliver(self, film: tuple[Any, bytes]) -> None:
        """Offers a film."""
        self._film = pack(0, 0, 0, 0, film)
        self._changed.set()

    def tell(self, note: dict[str, Any], text: str | None = None) -> None:
        """Offers a note; one of the same type that was not sent yet is replaced.

        Args:
            note: has a `type`.
            text: the note as JSON, where it is long and another thread has written it.
        """
        self._notes[note["type"]] = text or json.dumps(note)
        self._changed.set()

    def end(self, message: str) -> None:
        """Ends the session; the player is told why."""
        self._ended = message
        self._changed.set()

    async def next_message(self) -> str | bytes:
        """Waits for the next thing to send, see `ready`."""
        while True:
            self._changed.clear()
            if (message := self.ready()) is not None:
                return message
            await self._changed.wait()

    def ready(self) -> str | bytes | None:
        """Returns what is to be sent now: a note, the latest frame if there is room, or a film.

        Raises:
            SessionClosed: the session was ended.
        """
        if self._notes:
            return self._notes.pop(next(iter(self._notes)))
        if self._ended is not None:
            raise SessionClosed(self._ended)
        if self._latest is not None and len(self._under_way) < MAX_UNACKNOWLEDGED:
            packet, self._latest = self._latest, None
            self._under_way.append(self._frame_id)
            return packet
        if self._peeks:
            return self._peeks.pop(0)
        packet, self._film = self._film, None
        return packet

    def _next_turn(self, game: Game) -> Turn:
        if game.orders:
            return game.orders[0]
        if game.behind > 0:
            return Act(game.actions[game.step], game.sampling[game.step])
        if self._runs():
            action = self._action()
            assert action is not None
            return Act(action, self._sampling)
        return self._peeking[0]

    def _hold(self, message: Keys) -> None:
        self._terms.check_actions(message.held)
        pressed = [action for action in message.held if action not in self._held]
        self._tapped = pressed[-1] if pressed else self._tapped
        self._held, self._seq = message.held, message.seq

    def _order_step(self, message: Step) -> None:
        self._terms.check_actions([message.action])
        game = self.game
        if game is not None and game.behind < MAX_AHEAD:
            game.play(message.action, self._sampling)
            self._seq = message.seq

    def _order_peek(self, steps: int) -> None:
        every = tuple(range(self._terms.num_actions))
        self._peeks = []
        self._peeking = deque(
            Peek(every[i : i + PEEK_TOGETHER], step == 0, step == steps - 1, self._sampling)
            for i in range(0, len(every), PEEK_TOGETHER)
            for step in range(steps)
        )

    def _order_undo(self, message: Undo) -> None:
        if self.game is not None and self.game.actions:
            self.game.undo(message.steps)
            self._seq, self._tapped = message.seq, None

    def _branch(self) -> None:
        if self.game is None or len(self._games) >= MAX_GAMES:
            return
        number = next(self._game_numbers)
        if self.game.drawn_once:
            self._chores.append(Fork(self.key, (self.number, number)))
        self._games[number] = self.game.copy()
        self._current = number
        self._tell_games()

    def _switch(self, number: int) -> None:
        if number not in self._games:
            raise ProtocolError(f"game: there is no game {number}")
        self._current, self._tapped = number, None
        game = self._games[number]
        game.silent_until = len(game.actions)
        game.orders = game.orders or [Look()]
        self._tell_games()

    def _close(self, number: int) -> None:
        if number in self._games and number != self._current:
            del self._games[number]
            self._chores.append(Forget((self.number, number)))
        self._tell_games()

    def _tell_games(self) -> None:
        steps = {number: len(game.actions) for number, game in self._games.items()}
        games = [{"game": number, "step": step} for number, step in steps.items()]
        self.tell({"type": "games", "current": self._current, "games": games, "most": MAX_GAMES})

    def _choose_sampling(self, message: Sampling) -> None:
        chosen = {"steps": message.steps, "temperature": message.temperature}
        given = {name: value for name, value in chosen.items() if value is not None}
        self._sampling = replace(self._terms.sampling, **given)

    def _acknowledge(self, frame: int) -> None:
        self._under_way = [sent for sent in self._under_way if sent > frame]
        self._blocked_since = None
        self._changed.set()

    def _runs(self) -> bool:
        return not self._paused and self._action() is not None

    def _action(self) -> int | None:
        if self._tapped is not None:
            return self._tapped
        return self._held[-1] if self._held else self._idle

    def _packed_peeks(self, actions: tuple[int, ...], drawn: Drawn) -> list[bytes]:
        place = (self._frame_id, self._seq_of_turn, drawn.step, drawn.generation_ms)
        return [
            pack(*place, picture, leads_to=action + 1)
            for action, picture in zip(actions, drawn.peeks, strict=True)
        ]
