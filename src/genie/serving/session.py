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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from genie.serving.games import Act, Begin, Drawn, Games
from genie.serving.protocol import (
    Ack,
    ClientMessage,
    Idle,
    Keys,
    Pause,
    ProtocolError,
    Start,
    pack,
)

MAX_UNACKNOWLEDGED = 2  # frames under way to a player
STALLED_AFTER = 5.0  # seconds without an acknowledgement after which a game waits for its player
log = logging.getLogger(__name__)


class SessionClosed(Exception):
    """The session ended from the server's side; the message is for the player."""


class Session:
    """One player: the keys held, the game's clock, and the one frame that waits to be sent."""

    def __init__(self, number: int, num_prompts: int, num_actions: int) -> None:
        self.number = number
        self._num_prompts, self._num_actions = num_prompts, num_actions
        self._held: list[int] = []
        self._tapped: int | None = None  # pressed since the last turn, maybe released again
        self._idle: int | None = None
        self._paused = False
        self._begin: Begin | None = None
        self._seq = self._seq_of_turn = 0
        self._step = -1  # -1: no game yet
        self._frame_id = 0
        self._under_way: list[int] = []
        self._latest: bytes | None = None
        self._blocked_since: float | None = None
        self._notes: dict[str, dict[str, Any]] = {}  # by type: the latest of each is sent
        self._ended: str | None = None
        self._changed = asyncio.Event()

    def receive(self, message: ClientMessage) -> None:
        """Takes in one message of the player.

        Raises:
            ProtocolError: it names a prompt, an action or a frame that there isn't.
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
            case Ack(frame=frame):
                self._acknowledge(frame)

    def wants_turn(self, now: float) -> bool:
        """Says whether the player has something to play at the next tick."""
        if self._ended is not None:
            return False
        if self._begin is not None:
            return True
        stalled = self._blocked_since is not None and now - self._blocked_since > STALLED_AFTER
        return self._step >= 0 and not (self._paused or stalled) and self._action() is not None

    def take_turn(self) -> Begin | Act:
        """Returns what to play now; a key that was tapped between two ticks counts for one."""
        self._seq_of_turn = self._seq
        if self._begin is not None:
            turn, self._begin, self._step = self._begin, None, -1
            return turn
        action, self._tapped = self._action(), None
        assert action is not None
        return Act(action)

    def show(self, drawn: Drawn, now: float) -> None:
        """Offers a frame; one that still waits to be sent is replaced, so nothing queues."""
        self._step += 1
        self._frame_id += 1
        if self._latest is not None and self._blocked_since is None:
            self._blocked_since = now
        self._latest = pack(
            self._frame_id, self._seq_of_turn, self._step, drawn.generation_ms, drawn.picture
        )
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
        """Returns what is to be sent now: a note, or the latest frame if there is room for it.

        Raises:
            SessionClosed: the session was ended.
        """
        if self._notes:
            return json.dumps(self._notes.pop(next(iter(self._notes))))
        if self._ended is not None:
            raise SessionClosed(self._ended)
        if self._latest is None or len(self._under_way) >= MAX_UNACKNOWLEDGED:
            return None
        packet, self._latest = self._latest, None
        self._under_way.append(self._frame_id)
        return packet

    def _order_start(self, message: Start) -> None:
        if message.prompt not in range(self._num_prompts):
            raise ProtocolError(f"prompt: there are {self._num_prompts}, {message.prompt} is none")
        seed = random.randrange(2**31) if message.seed is None else message.seed
        self._begin, self._seq, self._paused = Begin(message.prompt, seed), message.seq, False
        self._held, self._tapped = [], None
        self._notes["started"] = {"type": "started", "prompt": message.prompt, "seed": seed}
        self._changed.set()

    def _hold(self, message: Keys) -> None:
        self._check_actions(message.held)
        pressed = [action for action in message.held if action not in self._held]
        self._tapped = pressed[-1] if pressed else self._tapped
        self._held, self._seq = message.held, message.seq

    def _check_actions(self, actions: list[int]) -> None:
        if any(action not in range(self._num_actions) for action in actions):
            raise ProtocolError(
                f"action: this world has 0 to {self._num_actions - 1}, not {actions}"
            )

    def _acknowledge(self, frame: int) -> None:
        self._under_way = [sent for sent in self._under_way if sent > frame]
        self._blocked_since = None
        self._changed.set()

    def _action(self) -> int | None:
        if self._tapped is not None:
            return self._tapped
        return self._held[-1] if self._held else self._idle


class TickLoop:
    """Steps all players of one world together, at the world's pace.

    When drawing takes longer than a tick, the clock slows down: ticks are never made up for.

    Args:
        games: the games of one world.
        fps: ticks per second.
    """

    def __init__(self, games: Games, fps: float) -> None:
        self.sessions: dict[int, Session] = {}
        self.fps = fps
        self._games = games
        self._left: list[int] = []
        self._numbers = itertools.count()
        self._input = asyncio.Event()
        self._due = 0.0  # the next round, in the loop's time
        self._drawing = False
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="genie-games")

    def join(self) -> Session:
        """Adds a player."""
        number = next(self._numbers)
        prompts, actions = len(self._games.prompts), self._games.world.config.num_actions
        self.sessions[number] = Session(number, prompts, actions)
        return self.sessions[number]

    def leave(self, session: Session) -> None:
        """Removes a player and the player's game."""
        self.sessions.pop(session.number, None)
        self._left.append(session.number)
        self._input.set()

    def receive(self, session: Session, message: ClientMessage) -> None:
        """Hands a message to a player's session and wakes the clock."""
        session.receive(message)
        self._input.set()

    async def warm_up(self) -> None:
        """Draws a frame that nobody sees, so that the first player doesn't wait for compilation."""
        await self.work(self._games.warm_up)

    async def work(self, piece: Callable[[], Any]) -> Any:
        """Runs a function in the thread that steps the world, between two rounds."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, piece)

    async def run(self) -> None:
        """Ticks until it is cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._something_to_do()
                self._due = max(self._due, loop.time())
                await asyncio.sleep(self._due - loop.time())
                self._due += 1 / self.fps
                self._drawing = True
                await self._tick(loop)
                self._drawing = False
        finally:
            self._worker.shutdown(wait=False, cancel_futures=True)

    def slack(self) -> float:
        """Returns for how many seconds the thread that steps the world is free of players."""
        if self._drawing:
            return 0.0
        if not any(s.wants_turn(time.monotonic()) for s in self._players()):
            return math.inf
        return max(0.0, self._due - asyncio.get_running_loop().time())

    async def _something_to_do(self) -> None:
        while not self._left and not any(s.wants_turn(time.monotonic()) for s in self._players()):
            self._input.clear()
            await self._input.wait()

    async def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = time.monotonic()
        turns = {s.number: s.take_turn() for s in self._players() if s.wants_turn(now)}
        left, self._left = self._left, []
        try:
            drawn = await loop.run_in_executor(self._worker, self._round, left, turns)
        except Exception:
            log.exception("a round of %d players failed", len(turns))
            self._end(turns, "The world failed to draw the next frame; start again.")
            return
        for number, picture in drawn.items():
            if number in self.sessions:
                self.sessions[number].show(picture, time.monotonic())

    def _round(self, left: list[int], turns: dict[int, Begin | Act]) -> dict[int, Drawn]:
        self._games.forget(left)
        return self._games.advance(turns)

    def _end(self, numbers: dict[int, Any], message: str) -> None:
        for number in numbers:
            if number in self.sessions:
                self.sessions[number].end(message)

    def _players(self) -> list[Session]:
        return list(self.sessions.values())
