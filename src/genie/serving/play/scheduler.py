"""Schedules the turns of all players of a world.

`BatchScheduler` runs on the event loop. Only `GameBatch` runs in a worker thread, so the loop never
waits for a forward pass and no locks are needed. Other slow work (parsing a start, writing a
replay, encoding a video) runs in threads of the server.
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
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from genie.agents.autoplay import Autoplay
from genie.core.config import UserError, require, to_dict
from genie.data.images import Codec, Picture, decode_pictures
from genie.data.video import Format, display_scale, encode
from genie.serving.play.batch import DropGame, GameBatch, Maintenance, Turn, TurnResults
from genie.serving.play.session import Session
from genie.serving.protocol import (
    ClientMessage,
    SaveMessage,
    StartMessage,
    VideoFormat,
    VideoMessage,
)
from genie.world.handover import Handover, Origin
from genie.world.prompts import frame_count
from genie.world.replay import Replay, world_hash

EXPENSIVE_PAUSE = 3.0  # after turns outside the shared batch, relative to their duration
FAILURE_TEXT = "The world failed to generate the next frame; start the game again."
log = logging.getLogger(__name__)


class BatchScheduler:
    """Steps all players of one world together, at the world's frame rate.

    If generation takes longer than a tick, the game slows down: missed ticks are not made up for.
    Turns that need no tick, such as single steps and undo, do not wait for one. Turns outside the
    shared batch (see `extra_maskgit_steps`) have rounds of their own. While others play, these
    rounds take a quarter of the time.

    Args:
        games: of one world.
        fps: ticks per second.
        name: of the world in replays.
        reader: parses starts and writes replays; None takes the event loop's default threads.
        encoder: encodes videos; None likewise.
        agent: plays for those who let it.
        handover: lets players continue on other servers; None does so on this one only.
    """

    def __init__(
        self,
        games: GameBatch,
        fps: float,
        name: str = "world",
        reader: Executor | None = None,
        encoder: Executor | None = None,
        agent: Autoplay | None = None,
        handover: Handover | None = None,
    ) -> None:
        self.sessions: dict[int, Session] = {}
        self.fps = fps
        self._games = games
        self._name, self._hash = name, ""
        self._maintenance: list[Maintenance] = []
        self._numbers = itertools.count()
        self._input = asyncio.Event()
        self._due = 0.0  # time of the next tick
        self._busy = False
        self._ticks = 0
        self._expensive_from = 0.0  # earliest time of the next round outside the shared batch
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="genie-games")
        self._reader, self._encoder, self._agent = reader, encoder, agent
        self._handover = handover or Handover()
        self._videos: dict[int, asyncio.Task[None]] = {}

    def join(self, on_delivery: Callable[[float], object] = lambda seconds: None) -> Session:
        """Adds a player; see `Session` for the argument."""
        number = next(self._numbers)
        config = replace(self._games.world.config, fps=self.fps)
        prompt_frames = [frame_count(prompt) for prompt in self._games.prompts]
        mapper = self._games.mapper
        real = len(mapper.labelled_names) if mapper else 0
        self.sessions[number] = Session(number, config, prompt_frames, on_delivery, real)
        return self.sessions[number]

    def leave(self, session: Session) -> None:
        """Removes a player and the player's games, and cancels the player's video."""
        self.sessions.pop(session.number, None)
        if session.number in self._videos:
            self._videos[session.number].cancel()
        self._maintenance += session.take_maintenance() + [DropGame(key) for key in session.keys]
        self._input.set()

    async def receive(self, session: Session, message: ClientMessage) -> None:
        """Handles a message of a player.

        Slow work runs in another thread; the player's next message waits for it.

        Raises:
            ProtocolError: there is no such prompt, action or game.
        """
        match message:
            case SaveMessage():
                await self._save(session)
            case VideoMessage(format=format):
                self._send_video(session, format)
            case StartMessage():
                await self._start(session, message)
            case _:
                session.receive(message)
        self._maintenance += session.take_maintenance()
        self._input.set()

    async def run_in_reader(self, function: Callable[[], Any]) -> Any:
        """Runs a function in the thread that parses starts."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, function)

    async def encode(self, frames: Iterable[np.ndarray], format: Format, scale: int) -> bytes:
        """Encodes frames in the thread for it, as `genie.data.video.encode`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._encoder, encode, frames, format, self.fps, scale)

    async def work(self, function: Callable[[], Any]) -> Any:
        """Runs a function in the thread that steps the world, between two rounds."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, function)

    async def warm_up(self) -> None:
        """Generates a frame for each batch size, so that players do not wait for compilation."""
        self._hash = await self.work(lambda: world_hash(self._games.world))
        for players in self._games.batch_sizes or (1,):
            await self.work(functools.partial(self._games.warm_up, players))

    def idle_seconds(self) -> float:
        """Returns for how many seconds the players leave the world's thread idle."""
        waiting = self._waiting_sessions()
        if self._busy:
            return 0.0
        if not waiting:
            return math.inf
        if not any(session.in_real_time() for session in waiting):
            return 0.0
        return max(0.0, self._due - time.monotonic())

    async def run(self) -> None:
        """Runs rounds until it is cancelled."""
        try:
            while True:
                while not self._maintenance and not self._waiting_sessions():
                    self._input.clear()
                    await self._input.wait()
                if any(session.in_real_time() for session in self._waiting_sessions()):
                    self._due = max(self._due, time.monotonic())
                    await asyncio.sleep(self._due - time.monotonic())
                    self._due += 1 / self.fps
                    self._ticks += 1
                usual = [s for s in self._at_this_tick() if not s.extra_maskgit_steps()]
                if usual or self._maintenance:
                    await self._round(usual)
                if not usual or time.monotonic() >= self._expensive_from:
                    others = any(not s.extra_maskgit_steps() for s in self._waiting_sessions())
                    await self._run_expensive(bool(usual) or others)
        finally:
            self._worker.shutdown(wait=False, cancel_futures=True)

    async def _run_expensive(self, others_play: bool) -> None:
        expensive = [session for session in self._at_this_tick() if session.extra_maskgit_steps()]
        if not expensive:
            return
        taken = self._group_expensive(expensive) if others_play else expensive
        started = time.monotonic()
        await self._round(taken)
        for session in taken:
            session.expensive_since = started
        pause = EXPENSIVE_PAUSE * (time.monotonic() - started) if others_play else 0
        self._expensive_from = time.monotonic() + pause

    def _group_expensive(self, expensive: list[Session]) -> list[Session]:
        """Returns the longest waiting session, and more while all cost at most a shared step."""
        expensive = sorted(expensive, key=lambda session: session.expensive_since)
        totals = itertools.accumulate(session.extra_maskgit_steps() for session in expensive)
        count = sum(total <= self._games.world.config.sampling.steps for total in totals)
        return expensive[: max(1, count)]

    async def _round(self, sessions: list[Session]) -> None:
        turns: dict[Any, Turn] = {}
        for session in sessions:
            with self._isolated(session):
                turns[session.key] = session.take_turn()
        maintenance, self._maintenance = self._maintenance, []
        self._busy = True
        try:
            self._deliver(await self.work(lambda: self._advance(maintenance, turns)))
            if turns:  # the frames are being sent
                await self.work(self._games.commit)
                for session in sessions:
                    session.keep_state(self._games.newest(session.key))
            for session in sessions:
                if session.agent_plays and self._agent is not None:
                    seen = session.video_frames()[-self._agent.frames :]
                    session.follow(*await self.work(functools.partial(self._agent, seen)))
        except Exception as error:
            log.exception("a round of %d players failed", len(turns))
            self._deliver(dict.fromkeys(turns, error))
        finally:
            self._busy = False

    def _advance(self, maintenance: list[Maintenance], turns: dict[Any, Turn]) -> TurnResults:
        self._games.run_maintenance(maintenance)
        return self._games.advance(turns)

    def _deliver(self, results: TurnResults | dict[Any, Exception]) -> None:
        for key, result in results.items():
            session = self.sessions.get(key[0])  # type: ignore[index]
            if session is None:
                continue
            if isinstance(result, Exception):
                session.end(FAILURE_TEXT)
                continue
            with self._isolated(session):
                session.show(result, time.monotonic())

    @contextlib.contextmanager
    def _isolated(self, session: Session) -> Iterator[None]:
        """Limits the effect of an error to this player's session."""
        try:
            yield
        except Exception:
            log.exception("a player's turn failed")
            session.end(FAILURE_TEXT)

    def _waiting_sessions(self) -> list[Session]:
        now = time.monotonic()
        return [session for session in self.sessions.values() if session.wants_turn(now)]

    def _at_this_tick(self) -> list[Session]:
        """Returns the waiting sessions without those whose pace skips this tick."""
        return [
            session
            for session in self._waiting_sessions()
            if not session.in_real_time() or self._ticks % session.every == 0
        ]

    async def _start(self, session: Session, message: StartMessage) -> None:
        try:
            words = "this game was played in another world, training or dtype"
            require(message.hash in (None, self._hash), words)
            parse = functools.partial(self._parse, session, message)
            session.start_game(message, *await self.run_in_reader(parse))
        except UserError as error:
            session.notify({"type": "refused", "message": str(error)[:300]})

    def _parse(self, session: Session, message: StartMessage) -> tuple[Any, ...]:
        begin, sampling = session.parse(message)
        if message.resume is None:
            return begin, sampling, None
        prompt = (
            self._games.prompts[begin.prompt] if isinstance(begin.prompt, int) else begin.prompt
        )
        origin = Origin(self._hash, prompt, begin.seed)
        log, kept = self._handover.resume(message.resume, origin, message.actions, sampling)
        return replace(begin, kept=kept), sampling, log

    async def _save(self, session: Session) -> None:
        game = session.game
        if game is None:
            return
        start = game.begin.prompt
        note = {"type": "replay", "gallery": start if isinstance(start, int) else None}
        prompt = self._games.prompts[start] if isinstance(start, int) else start
        world = self._games.world
        # Real actions that wait for their turn have no latent one yet.
        actions = [*itertools.takewhile(lambda a: a < world.config.num_actions, game.actions)]
        played = game.begin.seed, actions, game.sampling[: len(actions)]

        def write() -> str:
            known = {"fps": self.fps, "hash": self._hash}
            replay = Replay.of_game(world, self._name, prompt, *played, **known)
            return json.dumps(note | {"replay": to_dict(replay)})

        session.notify(note, await self.run_in_reader(write))

    def _send_video(self, session: Session, format: VideoFormat) -> None:
        pictures = session.video_frames()
        if pictures and session.number not in self._videos:
            task = asyncio.create_task(self._encode_video(session, pictures, format))
            self._videos[session.number] = task

    async def _encode_video(
        self, session: Session, pictures: list[Picture], format: VideoFormat
    ) -> None:
        config, cancelled = self._games.world.config, threading.Event()
        frames = decode_pictures(pictures, cancelled)
        scale = display_scale(config.height, config.width)
        try:
            session.send_video((Codec[format.upper()], await self.encode(frames, format, scale)))
        except Exception:
            log.exception("a video of %d frames failed", len(pictures))
            session.notify({"type": "refused", "message": "The video could not be encoded."})
        finally:
            cancelled.set()
            self._videos.pop(session.number, None)
