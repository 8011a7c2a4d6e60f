"""The clock that the players of a world share: `TickLoop` steps all of them.

It lives on the event loop; only `Games` runs in a worker thread, so the loop never waits for a
forward pass and nothing needs a lock. What else would hold the loop up, reading a start, writing a
replay, encoding a film, runs in threads of the server's.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, Literal

from genie.core.config import UserError, to_dict
from genie.serving.play.batch import Chore, Drawn, Forget, Games, Picture, Turn
from genie.serving.play.session import Session
from genie.serving.play.start import Terms, frames_of
from genie.serving.protocol import ClientMessage, Film, Save, Start
from genie.serving.video_export import CODECS, decoded, encode, scale_of
from genie.world.replay import Replay, changes_in, dtype_name, text_of, world_hash

DEAR_REST = 3.0  # after turns that nobody shares, times their length
FAILED = "The world failed to draw the next frame; start again."
FilmFormat = Literal["mp4", "gif"]
log = logging.getLogger(__name__)


class TickLoop:
    """Steps all players of one world together, at the world's pace.

    When drawing takes longer than a tick, the clock slows down: ticks are never made up for. A
    round in which nobody plays in real time, single steps and undone games for example, does not
    wait for the clock. Turns that no other player shares, `passes_beside` counts what they cost,
    have rounds of their own, and a quarter of the time while others play.

    Args:
        games: the games of one world.
        fps: ticks per second.
        name: what replays call the world.
        reading: where starts are read and replays written; None takes the loop's own threads.
        encoding: where films are encoded; None likewise.
    """

    def __init__(
        self,
        games: Games,
        fps: float,
        name: str = "world",
        *,
        reading: Executor | None = None,
        encoding: Executor | None = None,
    ) -> None:
        self.sessions: dict[int, Session] = {}
        self.fps = fps
        self._games = games
        self._name, self._hash = name, ""
        self._chores: list[Chore] = []
        self._numbers = itertools.count()
        self._input = asyncio.Event()
        self._due = 0.0  # the next tick, in the loop's time
        self._drawing = False
        self._ticks = 0
        self._dear_from = 0.0  # when turns that cost more may be taken again
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="genie-games")
        self._reading, self._encoding = reading, encoding
        self._films: dict[int, asyncio.Task[None]] = {}

    def join(self) -> Session:
        """Adds a player."""
        number = next(self._numbers)
        config, prompts = self._games.world.config, self._games.prompts
        prompt_frames = [frames_of(prompt) for prompt in prompts]
        terms = Terms(
            prompt_frames=prompt_frames,
            num_actions=config.num_actions,
            size=(config.height, config.width),
            sampling=config.sampling,
            fps=self.fps,
            window=max(config.dynamics.window, *prompt_frames),
        )
        self.sessions[number] = Session(number, terms)
        return self.sessions[number]

    def leave(self, session: Session) -> None:
        """Removes a player, the player's games, and the film that is being made."""
        self.sessions.pop(session.number, None)
        if session.number in self._films:
            self._films[session.number].cancel()
        self._chores += session.take_chores() + [Forget(key) for key in session.keys]
        self._input.set()

    async def receive(self, session: Session, message: ClientMessage) -> None:
        """Hands a message to a player's session and wakes the clock.

        What takes a while is done in another thread; the player's next message waits for it.

        Raises:
            ProtocolError: it names something that there isn't.
        """
        match message:
            case Save():
                await self._save(session)
            case Film(format=format):
                self._film(session, format)
            case Start():
                await self._start(session, message)
            case _:
                session.receive(message)
        self._chores += session.take_chores()
        self._input.set()

    async def aside(self, piece: Callable[[], Any]) -> Any:
        """Runs a function that would hold the event loop up, in the thread that reads starts."""
        return await asyncio.get_running_loop().run_in_executor(self._reading, piece)

    async def warm_up(self) -> None:
        """Draws frames that nobody sees, so that the first players don't wait for compilation."""
        self._hash = await self.work(lambda: world_hash(self._games.world))
        for players in self._games.batch_sizes or (1,):
            await self.work(functools.partial(self._games.warm_up, players))

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
                usual = [s for s in self._at_this_tick() if not s.passes_beside()]
                if usual or self._chores:
                    await self._tick(loop, usual)
                if not usual or loop.time() >= self._dear_from:
                    others = any(not session.passes_beside() for session in self._wanting())
                    await self._tick_dear(loop, bool(usual) or others)
        finally:
            self._worker.shutdown(wait=False, cancel_futures=True)

    async def _something_to_do(self) -> None:
        while not self._chores and not self._wanting():
            self._input.clear()
            await self._input.wait()

    async def _tick_dear(self, loop: asyncio.AbstractEventLoop, others_play: bool) -> None:
        dear = [session for session in self._at_this_tick() if session.passes_beside()]
        if not dear:
            return
        taken = self._together(dear) if others_play else dear
        started = loop.time()
        await self._tick(loop, taken)
        for session in taken:
            session.dear_since = started
        rest = DEAR_REST * (loop.time() - started) if others_play else 0
        self._dear_from = loop.time() + rest

    def _together(self, dear: list[Session]) -> list[Session]:
        """Who waits longest, and the next ones while all take no more passes than a shared step."""
        dear = sorted(dear, key=lambda session: session.dear_since)
        passes = itertools.accumulate(session.passes_beside() for session in dear)
        room = sum(total <= self._games.world.config.sampling.steps for total in passes)
        return dear[: max(1, room)]

    async def _tick(self, loop: asyncio.AbstractEventLoop, sessions: list[Session]) -> None:
        turns: dict[Any, Turn] = {}
        for session in sessions:
            with self._alone(session):
                turns[session.key] = session.take_turn()
        chores, self._chores = self._chores, []
        self._drawing = True
        try:
            self._show(await loop.run_in_executor(self._worker, self._round, chores, turns))
            if turns:  # the pictures are on their way
                await loop.run_in_executor(self._worker, self._games.settle)
        except Exception as error:
            log.exception("a round of %d players failed", len(turns))
            self._show(dict.fromkeys(turns, error))
        finally:
            self._drawing = False

    def _show(self, drawn: dict[Any, Drawn | Exception]) -> None:
        for (number, _), seen in drawn.items():
            session = self.sessions.get(number)
            if session is None:
                continue
            if isinstance(seen, Exception):
                session.end(FAILED)
                continue
            with self._alone(session):
                session.show(seen, time.monotonic())

    def _round(self, chores: list[Chore], turns: dict[Any, Turn]) -> dict[Any, Drawn | Exception]:
        self._games.do(chores)
        return self._games.advance(turns)

    @contextlib.contextmanager
    def _alone(self, session: Session) -> Iterator[None]:
        """What fails here ends this player's session and nothing else."""
        try:
            yield
        except Exception:
            log.exception("a player's turn failed")
            session.end(FAILED)

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

    async def _start(self, session: Session, message: Start) -> None:
        if message.hash is not None and message.hash != self._hash:
            words = (
                "this game was played in another world, or another training or dtype of this one"
            )
            session.tell({"type": "refused", "message": words})
            return
        try:
            session.open(await self.aside(session.reading(message)))
        except UserError as error:
            session.tell({"type": "refused", "message": str(error)[:300]})

    async def _save(self, session: Session) -> None:
        game = session.game
        if game is None:
            return
        at = game.begin.prompt
        note = {"type": "replay", "gallery": at if isinstance(at, int) else None}
        prompt = self._games.prompts[at] if isinstance(at, int) else at
        frames = prompt if prompt.ndim == 4 else prompt[None]
        seed, actions = game.begin.seed, tuple(game.actions)
        dtype = dtype_name(self._games.world.dtype)
        first = game.sampling.copy() or [self._games.world.config.sampling]

        def write() -> str:
            replay = Replay(
                world=self._name,
                hash=self._hash,
                fps=self.fps,
                prompt=tuple(text_of(frame) for frame in frames),
                seed=seed,
                sampling=changes_in(first),
                actions=actions,
                dtype=dtype,
            )
            return json.dumps(note | {"replay": to_dict(replay)})

        session.tell(note, await self.aside(write))

    def _film(self, session: Session, format: FilmFormat) -> None:
        pictures = session.film()
        if pictures and session.number not in self._films:
            task = asyncio.create_task(self._encode(session, pictures, format))
            self._films[session.number] = task

    async def _encode(self, session: Session, pictures: list[Picture], format: FilmFormat) -> None:
        loop, unwanted = asyncio.get_running_loop(), threading.Event()
        config = self._games.world.config
        frames, scale = decoded(pictures, unwanted), scale_of(config.height, config.width)
        try:
            film = await loop.run_in_executor(
                self._encoding, encode, frames, format, self.fps, scale
            )
            session.deliver((CODECS[format], film))
        except Exception:
            log.exception("a film of %d pictures failed", len(pictures))
            session.tell({"type": "refused", "message": "The film could not be made."})
        finally:
            unwanted.set()
            self._films.pop(session.number, None)
