"""Players and the clock that they share: `Session` is one player, `TickLoop` steps all of them.

Everything here lives on the event loop; only `Games.advance` runs in a worker thread, so the loop
never waits for a forward pass and nothing needs a lock.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import math
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from genie.config import UserError, from_dict, require, to_dict
from genie.maskgit import SamplingConfig
from genie.replay import Replay, SamplingChange, changes_in, prompt_of, spread, text_of, world_hash
from genie.serving.film import encode_film
from genie.serving.games import (
    Act,
    Begin,
    Drawn,
    Fork,
    Games,
    Look,
    Peek,
    Picture,
    Rewind,
    Turn,
)
from genie.serving.protocol import (
    MAX_PASSES,
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

MAX_UNACKNOWLEDGED = 2  # frames under way to a player
STALLED_AFTER = 5.0  # seconds without an acknowledgement after which a game waits for its player
MAX_AHEAD = 8  # single steps that may wait to be drawn
PEEK_TOGETHER = 2  # actions: few, so that a key which is pressed meanwhile waits for a short round
MAX_GAMES = 4  # that a player keeps at a time
FILM_SECONDS = 60
DEAR_REST = 3.0  # after a turn that cost more, times its length
log = logging.getLogger(__name__)


class SessionClosed(Exception):
    """The session ended from the server's side; the message is for the player."""


@dataclass(frozen=True)
class Terms:
    """What a session has to know of the world.

    Attributes:
        num_prompts: pictures in the gallery.
        num_actions: latent actions.
        size: height and width in pixels.
        sampling: how frames are drawn unless the player says otherwise.
        fps: ticks per second.
    """

    num_prompts: int
    num_actions: int
    size: tuple[int, int] = (64, 64)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    fps: float = 15.0


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
        """Whether there is a state of it."""
        return not any(isinstance(order, Begin | Fork) for order in self.orders)

    def play(self, action: int, sampling: SamplingConfig) -> Act:
        """Adds a step."""
        self.actions.append(action)
        self.sampling.append(sampling)
        return Act(action, sampling)

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

    def copy(self, key: tuple[int, int]) -> Game:
        """A game that goes on from here as one of its own; `key` is this game's."""
        orders = [Fork(key), *self.orders] if self.drawn_once else list(self.orders)
        return replace(
            self,
            film=self.film.copy(),
            actions=self.actions.copy(),
            sampling=self.sampling.copy(),
            orders=orders,
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
        self._notes: dict[str, dict[str, Any]] = {}  # by type: the latest of each is sent
        self._ended: str | None = None
        self._changed = asyncio.Event()
        self.closed: list[tuple[int, int]] = []  # games that the worker may forget

    @property
    def key(self) -> tuple[int, int]:
        """What `Games` knows the current game by."""
        return (self.number, self._current)

    @property
    def keys(self) -> list[tuple[int, int]]:
        """What `Games` knows all of the player's games by."""
        return [(self.number, number) for number in self._games] + self.closed

    @property
    def game(self) -> Game | None:
        """The game that is played now."""
        return self._games.get(self._current)

    def receive(self, message: ClientMessage) -> None:
        """Takes in one message of the player.

        Raises:
            ProtocolError: it names a prompt, an action, a game or a frame that there isn't.
        """
        match message:
            case Start():
                self._order_start(message)
            case Keys():
                self._hold(message)
            case Idle(action=action):
                self._check_actions([] if action is None else [action])
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
            case Save():
                raise AssertionError("the clock answers this")
            case Ack(frame=frame):
                self._acknowledge(frame)

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

    def costs_more(self) -> bool:
        """Says whether the next turn takes longer than a step as the world draws it."""
        game = self.game
        if game is None or game.orders:
            return False
        if game.behind > 0:
            passes = game.sampling[game.step].steps
        elif self._runs():
            passes = self._sampling.steps
        else:
            return True
        return passes > self._terms.sampling.steps

    def take_turn(self) -> Turn:
        """Returns what to play now; a key that was tapped between two ticks counts for one."""
        game = self.game
        assert game is not None
        self._of_turn = game
        self._turn = turn = self._next_turn(game)
        if isinstance(turn, Peek):
            return turn
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

    def tell(self, note: dict[str, Any]) -> None:
        """Offers a note; one of the same type that was not sent yet is replaced."""
        self._notes[note["type"]] = note
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
            return json.dumps(self._notes.pop(next(iter(self._notes))))
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
            return game.orders.pop(0)
        if game.behind > 0:
            return Act(game.actions[game.step], game.sampling[game.step])
        if self._runs():
            action, self._tapped = self._action(), None
            assert action is not None
            return game.play(action, self._sampling)
        return self._peeking.popleft()

    def _order_start(self, message: Start) -> None:
        seed = random.randrange(2**31) if message.seed is None else message.seed
        self._check_actions(message.actions)
        if isinstance(message.prompt, int):
            count = self._terms.num_prompts
            if message.prompt not in range(count):
                raise ProtocolError(f"prompt: there are {count}, {message.prompt} is none")
        try:
            begin = self._begin(message, seed)
            changes = self._changes(message)
        except UserError as error:
            self.tell({"type": "refused", "message": str(error)[:300]})
            return
        actions = message.actions
        film = deque[tuple[int, Picture]](maxlen=math.ceil(FILM_SECONDS * self._terms.fps) + 1)
        drawn = spread(changes, len(actions))
        self._games[self._current] = Game(begin, film, actions, drawn, [begin])
        self._seq, self._paused = message.seq, False
        self._held, self._tapped = [], None
        index = message.prompt if isinstance(message.prompt, int) else None
        self.tell({"type": "started", "prompt": index, "seed": seed})

    def _begin(self, message: Start, seed: int) -> Begin:
        if isinstance(message.prompt, int):
            return Begin(message.prompt, seed)
        return Begin(prompt_of(message.prompt, self._terms.size), seed)

    def _changes(self, message: Start) -> list[SamplingChange]:
        own = [{"step": 0, "sampling": to_dict(self._sampling)}]
        changes = [
            from_dict(SamplingChange, change, "sampling") for change in message.sampling or own
        ]
        steps = [change.step for change in changes]
        require(steps == sorted(set(steps)) and steps[0] == 0, "sampling: changes are out of order")
        for change in changes:
            passes = change.sampling.steps
            most = max(MAX_PASSES, self._terms.sampling.steps)
            require(passes <= most, f"sampling: {passes} passes, {most} are the most")
        return changes

    def _hold(self, message: Keys) -> None:
        self._check_actions(message.held)
        pressed = [action for action in message.held if action not in self._held]
        self._tapped = pressed[-1] if pressed else self._tapped
        self._held, self._seq = message.held, message.seq

    def _order_step(self, message: Step) -> None:
        self._check_actions([message.action])
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
        self._games[number] = self.game.copy(self.key)
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
        key = (self.number, number)
        needed = any(Fork(key) in game.orders for game in self._games.values())
        if number in self._games and number != self._current and not needed:
            del self._games[number]
            self.closed.append(key)
        self._tell_games()

    def _tell_games(self) -> None:
        steps = {number: len(game.actions) for number, game in self._games.items()}
        games = [{"game": number, "step": step} for number, step in steps.items()]
        self.tell({"type": "games", "current": self._current, "games": games, "most": MAX_GAMES})

    def _choose_sampling(self, message: Sampling) -> None:
        chosen = {"steps": message.steps, "temperature": message.temperature}
        given = {name: value for name, value in chosen.items() if value is not None}
        self._sampling = replace(self._terms.sampling, **given)

    def _check_actions(self, actions: Sequence[int]) -> None:
        if any(action not in range(self._terms.num_actions) for action in actions):
            raise ProtocolError(
                f"action: this world has 0 to {self._terms.num_actions - 1}, not {actions[:64]}"
            )

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


class TickLoop:
    """Steps all players of one world together, at the world's pace.

    When drawing takes longer than a tick, the clock slows down: ticks are never made up for. A
    round in which nobody plays in real time, single steps and undone games for example, does not
    wait for the clock. Turns that cost more than others, looks ahead and more passes than the
    world's own, have rounds of their own, and a quarter of the time while others play.

    Args:
        games: the games of one world.
        fps: ticks per second.
        name: what replays call the world.
    """

    def __init__(self, games: Games, fps: float, name: str = "world") -> None:
        self.sessions: dict[int, Session] = {}
        self.fps = fps
        self._games = games
        self._name, self._hash = name, ""
        self._left: list[tuple[int, int]] = []
        self._numbers = itertools.count()
        self._input = asyncio.Event()
        self._due = 0.0  # the next tick, in the loop's time
        self._drawing = False
        self._ticks = 0
        self._dear_from = 0.0  # when turns that cost more may be taken again
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="genie-games")
        self._filming = ThreadPoolExecutor(max_workers=1, thread_name_prefix="genie-film")
        self._films: dict[int, asyncio.Task[None]] = {}

    def join(self) -> Session:
        """Adds a player."""
        number = next(self._numbers)
        config = self._games.world.config
        size = (config.height, config.width)
        prompts = len(self._games.prompts)
        terms = Terms(prompts, config.num_actions, size, config.sampling, self.fps)
        self.sessions[number] = Session(number, terms)
        return self.sessions[number]

    def leave(self, session: Session) -> None:
        """Removes a player and the player's games."""
        self.sessions.pop(session.number, None)
        self._left += session.keys
        self._input.set()

    def receive(self, session: Session, message: ClientMessage) -> None:
        """Hands a message to a player's session and wakes the clock."""
        match message:
            case Save():
                self._save(session)
            case Film(format=format):
                self._film(session, format)
            case Start(hash=str(other)) if other != self._hash:
                refusal = "this game was played in another world, or another training of this one"
                session.tell({"type": "refused", "message": refusal})
            case _:
                session.receive(message)
        self._left += session.closed
        session.closed = []
        self._input.set()

    async def warm_up(self) -> None:
        """Draws a frame that nobody sees, so that the first player doesn't wait for compilation."""
        await self.work(self._games.warm_up)
        self._hash = await self.work(lambda: world_hash(self._games.world))

    async def work(self, piece: Callable[[], Any]) -> Any:
        """Runs a function in the thread that steps the world, between two rounds."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, piece)

    def slack(self) -> float:
        """Returns for how many seconds the thread that steps the world is free of players."""
        if self._drawing:
            return 0.0
        wanting = self._wanting()
        if not wanting:
            return math.inf
        if not any(session.in_real_time() for session in wanting):
            return 0.0
        return max(0.0, self._due - asyncio.get_running_loop().time())

    async def run(self) -> None:
        """Ticks until it is cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._something_to_do()
                if any(session.in_real_time() for session in self._wanting()):
                    self._due = max(self._due, loop.time())
                    await asyncio.sleep(self._due - loop.time())
                    self._due += 1 / self.fps
                    self._ticks += 1
                usual = [session for session in self._at_this_tick() if not session.costs_more()]
                if usual or self._left:
                    await self._tick(loop, usual)
                if not usual or loop.time() >= self._dear_from:
                    await self._tick_dear(loop, bool(usual))
        finally:
            self._worker.shutdown(wait=False, cancel_futures=True)
            self._filming.shutdown(wait=False, cancel_futures=True)

    async def _something_to_do(self) -> None:
        while not self._left and not self._wanting():
            self._input.clear()
            await self._input.wait()

    async def _tick_dear(self, loop: asyncio.AbstractEventLoop, others_play: bool) -> None:
        dear = [session for session in self._at_this_tick() if session.costs_more()]
        if dear:
            started = loop.time()
            await self._tick(loop, dear)
            rest = DEAR_REST * (loop.time() - started) if others_play else 0
            self._dear_from = loop.time() + rest

    async def _tick(self, loop: asyncio.AbstractEventLoop, sessions: list[Session]) -> None:
        turns = {session.key: session.take_turn() for session in sessions}
        left, self._left = self._left, []
        self._drawing = True
        try:
            drawn = await loop.run_in_executor(self._worker, self._round, left, turns)
        except Exception:
            log.exception("a round of %d players failed", len(turns))
            self._end(turns, "The world failed to draw the next frame; start again.")
            return
        finally:
            self._drawing = False
        for (number, _), picture in drawn.items():
            if number in self.sessions:
                self.sessions[number].show(picture, time.monotonic())

    def _round(self, left: list[Any], turns: dict[Any, Turn]) -> dict[Any, Drawn]:
        self._games.forget(left)
        return self._games.advance(turns)

    def _end(self, keys: dict[tuple[int, int], Any], message: str) -> None:
        for number, _ in keys:
            if number in self.sessions:
                self.sessions[number].end(message)

    def _wanting(self) -> list[Session]:
        now = time.monotonic()
        return [session for session in self.sessions.values() if session.wants_turn(now)]

    def _at_this_tick(self) -> list[Session]:
        """Those who want a turn at this tick: who plays at a part of the pace lets ticks pass."""
        return [
            session
            for session in self._wanting()
            if not session.in_real_time() or self._ticks % session.every == 0
        ]

    def _save(self, session: Session) -> None:
        game = session.game
        if game is None:
            return
        at = game.begin.prompt
        prompt = self._games.prompts[at] if isinstance(at, int) else at
        frames = prompt if prompt.ndim == 4 else prompt[None]
        first = game.sampling or [self._games.world.config.sampling]
        replay = Replay(
            world=self._name,
            hash=self._hash,
            fps=self.fps,
            prompt=tuple(text_of(frame) for frame in frames),
            seed=game.begin.seed,
            sampling=changes_in(first),
            actions=tuple(game.actions),
        )
        index = at if isinstance(at, int) else None
        session.tell({"type": "replay", "gallery": index, "replay": to_dict(replay)})

    def _film(self, session: Session, format: str) -> None:
        pictures = session.film()
        if pictures and session.number not in self._films:
            task = asyncio.create_task(self._encode(session, pictures, format))
            self._films[session.number] = task

    async def _encode(self, session: Session, pictures: list[Picture], format: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            film = await loop.run_in_executor(
                self._filming, encode_film, pictures, self.fps, format
            )
            session.deliver(film)
        except Exception:
            log.exception("a film of %d pictures failed", len(pictures))
            session.tell({"type": "refused", "message": "The film could not be made."})
        finally:
            self._films.pop(session.number, None)
