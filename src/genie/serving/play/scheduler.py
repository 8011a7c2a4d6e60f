"""The clock that the players of a world share: `BatchScheduler` steps all of them.

It lives on the event loop; only `GameBatch` runs in a worker thread, so the loop never waits for a
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
from genie.serving.play.batch import DropGame, GameBatch, Maintenance, Picture, Turn, TurnResult
from genie.serving.play.session import Session
from genie.serving.play.start import WorldInfo, frame_count
from genie.serving.protocol import ClientMessage, SaveMessage, StartMessage, VideoMessage
from genie.serving.video_export import CODECS, decode_frames, display_scale, encode
from genie.world.replay import Replay, changes_in, dtype_name, text_of, world_hash

EXPENSIVE_PAUSE = 3.0  # after turns that nobody shares, times their length
FAILURE_TEXT = "The world failed to draw the next frame; start again."
VideoFormat = Literal["mp4", "gif"]
log = logging.getLogger(__name__)


class BatchScheduler:
    """Steps all players of one world together, at the world's pace.

    When drawing takes longer than a tick, the clock slows down: ticks are never made up for. A
    round in which nobody plays in real time, single steps and undone games for example, does not
    wait for the clock. Turns that no other player shares (`extra_maskgit_steps` counts their cost)
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
        games: GameBatch,
        fps: float,
        name: str = "world",
        *,
        reader: Executor | None = None,
        encoder: Executor | None = None,
    ) -> None:
        self.sessions: dict[int, Session] = {}
        self.fps = fps
        self._games = games
        self._name, self._hash = name, ""
        self._maintenance: list[Maintenance] = []
        self._numbers = itertools.count()
        self._input = asyncio.Event()
        self._due = 0.0  # the next tick, in the loop's time
        self._drawing = False
        self._ticks = 0
        self._expensive_from = 0.0  # when turns that cost more may be taken again
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="genie-games")
        self._reader, self._encoder = reader, encoder
        self._videos: dict[int, asyncio.Task[None]] = {}

    def join(self) -> Session:
        """Adds a player."""
        number = next(self._numbers)
        config, prompts = self._games.world.config, self._games.prompts
        prompt_frames = [frame_count(prompt) for prompt in prompts]
        world_info = WorldInfo(
            prompt_frames=prompt_frames,
            num_actions=config.num_actions,
            size=(config.height, config.width),
            sampling=config.sampling,
            fps=self.fps,
            window=max(config.dynamics.window, *prompt_frames),
        )
        self.sessions[number] = Session(number, world_info)
        return self.sessions[number]

    def leave(self, session: Session) -> None:
        """Removes a player, the player's games, and the film that is being made."""
        self.sessions.pop(session.number, None)
        if session.number in self._videos:
            self._videos[session.number].cancel()
        self._maintenance += session.take_maintenance() + [DropGame(key) for key in session.keys]
        self._input.set()

    async def receive(self, session: Session, message: ClientMessage) -> None:
        """Hands a message to a player's session and wakes the clock.

        What takes a while is done in another thread; the player's next message waits for it.

        Raises:
            ProtocolError: it names something that there isn't.
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

    async def run_in_reader(self, piece: Callable[[], Any]) -> Any:
        """Runs a function that would hold the event loop up, in the thread that reads starts."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, piece)

    async def warm_up(self) -> None:
        """Draws frames that nobody sees, so that the first players don't wait for compilation."""
        self._hash = await self.work(lambda: world_hash(self._games.world))
        for players in self._games.batch_sizes or (1,):
            await self.work(functools.partial(self._games.warm_up, players))

    async def work(self, piece: Callable[[], Any]) -> Any:
        """Runs a function in the thread that steps the world, between two rounds."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, piece)

    def idle_seconds(self) -> float:
        """Returns for how many seconds the thread that steps the world is free of players."""
        if self._drawing:
            return 0.0
        waiting = self._waiting_sessions()
        if not waiting:
            return math.inf
        if not any(session.in_real_time() for session in waiting):
            return 0.0
        return max(0.0, self._due - asyncio.get_running_loop().time())

    async def run(self) -> None:
        """Ticks until it is cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._something_to_do()
                if any(session.in_real_time() for session in self._waiting_sessions()):
                    self._due = max(self._due, loop.time())
                    await asyncio.sleep(self._due - loop.time())
                    self._due += 1 / self.fps
                    self._ticks += 1
                usual = [s for s in self._at_this_tick() if not s.extra_maskgit_steps()]
                if usual or self._maintenance:
                    await self._tick(loop, usual)
                if not usual or loop.time() >= self._expensive_from:
                    others = any(
                        not session.extra_maskgit_steps() for session in self._waiting_sessions()
                    )
                    await self._run_expensive(loop, bool(usual) or others)
        finally:
            self._worker.shutdown(wait=False, cancel_futures=True)

    async def _something_to_do(self) -> None:
        while not self._maintenance and not self._waiting_sessions():
            self._input.clear()
            await self._input.wait()

    async def _run_expensive(self, loop: asyncio.AbstractEventLoop, others_play: bool) -> None:
        expensive = [session for session in self._at_this_tick() if session.extra_maskgit_steps()]
        if not expensive:
            return
        taken = self._group_expensive(expensive) if others_play else expensive
        started = loop.time()
        await self._tick(loop, taken)
        for session in taken:
            session.expensive_since = started
        rest = EXPENSIVE_PAUSE * (loop.time() - started) if others_play else 0
        self._expensive_from = loop.time() + rest

    def _group_expensive(self, expensive: list[Session]) -> list[Session]:
        """Who waits longest, and the next ones while all take no more passes than a shared step."""
        expensive = sorted(expensive, key=lambda session: session.expensive_since)
        passes = itertools.accumulate(session.extra_maskgit_steps() for session in expensive)
        room = sum(total <= self._games.world.config.sampling.steps for total in passes)
        return expensive[: max(1, room)]

    async def _tick(self, loop: asyncio.AbstractEventLoop, sessions: list[Session]) -> None:
        turns: dict[Any, Turn] = {}
        for session in sessions:
            with self._isolated(session):
                turns[session.key] = session.take_turn()
        maintenance, self._maintenance = self._maintenance, []
        self._drawing = True
        try:
            self._deliver(await loop.run_in_executor(self._worker, self._round, maintenance, turns))
            if turns:  # the pictures are on their way
                await loop.run_in_executor(self._worker, self._games.commit)
        except Exception as error:
            log.exception("a round of %d players failed", len(turns))
            self._deliver(dict.fromkeys(turns, error))
        finally:
            self._drawing = False

    def _deliver(self, results: dict[Any, TurnResult | Exception]) -> None:
        for (number, _), result in results.items():
            session = self.sessions.get(number)
            if session is None:
                continue
            if isinstance(result, Exception):
                session.end(FAILURE_TEXT)
                continue
            with self._isolated(session):
                session.show(result, time.monotonic())

    def _round(
        self, maintenance: list[Maintenance], turns: dict[Any, Turn]
    ) -> dict[Any, TurnResult | Exception]:
        self._games.run_maintenance(maintenance)
        return self._games.advance(turns)

    @contextlib.contextmanager
    def _isolated(self, session: Session) -> Iterator[None]:
        """What fails here ends this player's session and nothing else."""
        try:
            yield
        except Exception:
            log.exception("a player's turn failed")
            session.end(FAILURE_TEXT)

    def _waiting_sessions(self) -> list[Session]:
        now = time.monotonic()
        return [session for session in self.sessions.values() if session.wants_turn(now)]

    def _at_this_tick(self) -> list[Session]:
        """Those who want a turn at this tick: who plays at a part of the pace lets ticks pass."""
        return [
            session
            for session in self._waiting_sessions()
            if not session.in_real_time() or self._ticks % session.every == 0
        ]

    async def _start(self, session: Session, message: StartMessage) -> None:
        if message.hash is not None and message.hash != self._hash:
            words = (
                "this game was played in another world, or another training or dtype of this one"
            )
            session.notify({"type": "refused", "message": words})
            return
        try:
            session.start_game(await self.run_in_reader(session.parse_later(message)))
        except UserError as error:
            session.notify({"type": "refused", "message": str(error)[:300]})

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

        session.notify(note, await self.run_in_reader(write))

    def _send_video(self, session: Session, format: VideoFormat) -> None:
        pictures = session.video_frames()
        if pictures and session.number not in self._videos:
            task = asyncio.create_task(self._encode_video(session, pictures, format))
            self._videos[session.number] = task

    async def _encode_video(
        self, session: Session, pictures: list[Picture], format: VideoFormat
    ) -> None:
        loop, cancelled = asyncio.get_running_loop(), threading.Event()
        config = self._games.world.config
        frames, scale = (
            decode_frames(pictures, cancelled),
            display_scale(config.height, config.width),
        )
        try:
            video = await loop.run_in_executor(
                self._encoder, encode, frames, format, self.fps, scale
            )
            session.send_video((CODECS[format], video))
        except Exception:
            log.exception("a film of %d pictures failed", len(pictures))
            session.notify({"type": "refused", "message": "The film could not be made."})
        finally:
            cancelled.set()
            self._videos.pop(session.number, None)
