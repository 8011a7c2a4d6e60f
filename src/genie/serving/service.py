"""The state of a server: its worlds, each with its scheduler, and the connected players."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np

from genie.agents.autoplay import Autoplay
from genie.core.config import require
from genie.data.images import png
from genie.serving.clips import ClipScheduler
from genie.serving.limits import Limits, RequestRejected, Slots
from genie.serving.play.metrics import InstrumentedGameBatch, Metrics
from genie.serving.play.scheduler import BatchScheduler
from genie.serving.protocol import SERVICE_RESTART, VERSION, Button, World
from genie.world.action_groups import players_groups
from genie.world.action_mapper import read_mapper
from genie.world.action_names import parse_names, read_names, write_names
from genie.world.handover import Handover

if TYPE_CHECKING:
    from genie.world.genie import Genie

NAMES_REJECTED = "This server does not save names for this world; they stay in this browser."
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServedWorld:
    """A world and its settings on the server.

    Attributes:
        name: of the world for clients.
        world: generates the frames.
        prompts: images `uint8 (H, W, 3)` or clips `(T, H, W, 3)` of the world's size that games
            start from.
        fps: frames per second; None takes the world's own.
        folder: of the world, with the names of its actions.
        can_name: whether players may save names in the folder.
        compiled: whether the world is compiled, once per batch size.
        agent: plays for players who let it.
    """

    name: str
    world: Genie
    prompts: Sequence[np.ndarray]
    fps: float | None = None
    folder: Path | None = None
    can_name: bool = False
    compiled: bool = False
    agent: Autoplay | None = None

    def __post_init__(self) -> None:
        """Checks that there is a prompt and a frame rate."""
        require(len(self.prompts) > 0, "prompts: give at least one picture to start from")
        require(self.pace > 0, f"fps: {self.pace} frames per second cannot be played")

    @property
    def pace(self) -> float:
        """Frames per second."""
        return self.world.config.fps if self.fps is None else self.fps


def batch_sizes(players: int) -> tuple[int, ...]:
    """Returns the powers of two up to the first that is at least `players`; at least (1, 2)."""
    return tuple(2**i for i in range(max(2, (players - 1).bit_length() + 1)))


class WorldService:
    """One world with the scheduler of its players and clips."""

    def __init__(self, served: ServedWorld, service: Service) -> None:
        self.name, self.world, self.prompts = served.name, served.world, served.prompts
        self.fps = served.pace
        sizes = batch_sizes(service.limits.players) if served.compiled else ()
        self.mapper = read_mapper(served.folder, self.world)
        games = InstrumentedGameBatch(self.world, self.prompts, sizes, self.mapper)
        games.measure(service.metrics, self.name)
        threads = service.reader, service.encoder
        others = *threads, served.agent, service.handover
        self.scheduler = BatchScheduler(games, self.fps, self.name, *others)
        self.clip_scheduler = ClipScheduler(self.scheduler, self.world, self.mapper)
        # A game continues from the last frame of a clip.
        self.prompt_images = [png(p if p.ndim == 3 else p[-1]) for p in self.prompts]
        self._served = served
        self.action_names = read_names(served.folder, self.world.config.num_actions)
        groups = players_groups(served.folder, self.world.config.num_actions)
        self.buttons = [Button(**group) for group in groups]
        self.warm = False
        players = self.scheduler.sessions
        service.metrics.sessions.labels(self.name).set_function(lambda: len(players))

    async def run(self) -> None:
        """Warms up, then runs the scheduler until it is cancelled."""
        await self.scheduler.warm_up()
        self.warm = True
        await self.scheduler.run()

    def describe(self) -> World:
        """Returns the description of the world for clients."""
        config, path = self.world.config, f"worlds/{quote(self.name, safe='')}"
        return World(
            name=self.name,
            protocol=VERSION,
            height=config.height,
            width=config.width,
            fps=self.fps,
            num_actions=config.num_actions,
            prompts=[f"{path}/prompts/{i}.png" for i in range(len(self.prompts))],
            names=self.action_names,
            buttons=self.buttons,
            real_actions=self.mapper.labelled_names if self.mapper else [],
            can_name=self._served.can_name,
            can_guide=config.dynamics.unconditional_fraction > 0,
            has_agent=self._served.agent is not None,
        )

    def require_names(self) -> None:
        """Raises `RequestRejected` if players may not save names for this world."""
        if not self._served.can_name:
            raise RequestRejected(403, "names", NAMES_REJECTED)

    def save_names(self, text: bytes) -> list[str]:
        """Saves the names of the actions in the world's folder, for all players.

        Args:
            text: JSON, as `genie.world.action_names.ActionNames`.

        Raises:
            UserError: the names do not fit the world.
            RequestRejected: the folder is read-only.
        """
        assert self._served.folder is not None
        names = parse_names(text, self.world.config.num_actions)
        try:
            write_names(self._served.folder, names)
        except OSError as error:
            log.warning("%s: the names cannot be written: %s", self._served.folder, error)
            raise RequestRejected(403, "names", NAMES_REJECTED) from None
        self.action_names = names
        return names


class Service:
    """The worlds of one server with their shared limits, slots and metrics.

    Args:
        worlds: to serve; the first one is the default.
        limits: for all worlds together.
        handover: for players who continue on another server.

    Raises:
        UserError: two worlds have the same name.
    """

    def __init__(
        self, worlds: Sequence[ServedWorld], limits: Limits | None = None,
        handover: Handover | None = None,
    ) -> None:  # fmt: skip
        names = [served.name for served in worlds]
        for name in names:
            unique = names.count(name) == 1
            require(unique, f"worlds: two are called {name!r}; rename the folder of one of them")
        self.limits, self.metrics = limits or Limits(), Metrics()
        self.handover = handover or Handover(games=self.limits.players)
        # One thread each bounds the memory that their work needs.
        self.reader = ThreadPoolExecutor(1, "genie-reading")
        self.encoder = ThreadPoolExecutor(1, "genie-encoding")
        self.worlds = {served.name: WorldService(served, self) for served in worlds}
        retry = self.limits.retry_after_seconds
        self.player_slots = Slots(self.limits.players, retry)
        self.clip_slots = Slots(self.limits.concurrent_clips, retry)
        self.upload_slots = Slots(self.limits.concurrent_uploads, retry)
        self.stopping = False
        self.failure: BaseException | None = None

    @property
    def ready(self) -> bool:
        """Whether all worlds are warm and the server is not stopping."""
        warm = all(world.warm for world in self.worlds.values())
        return warm and not self.stopping and self.failure is None

    def world(self, name: str | None) -> WorldService:
        """Returns the world of this name, or the first one for None.

        Raises:
            RequestRejected: there is no world of this name.
        """
        world = self.worlds.get(next(iter(self.worlds), "") if name is None else name)
        if world is None:
            raise RequestRejected(
                404, "world", "There is no world of this name; GET /worlds lists them."
            )
        return world

    def require_ready(self) -> None:
        """Raises `RequestRejected` while the server is not ready."""
        if not self.ready:
            words = "The server is not ready; try again when GET /ready returns 200."
            # Behind a proxy another server is ready at once.
            wait = 1 if self.stopping else self.limits.retry_after_seconds
            raise RequestRejected(503, "not_ready", words, wait)

    def stop(self) -> None:
        """Rejects new players and ends the sessions."""
        self.stopping = True
        for world in self.worlds.values():
            for session in world.scheduler.sessions.values():
                session.end("The server is being shut down.", SERVICE_RESTART)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Runs the worlds inside the context."""
        tasks = [asyncio.create_task(self._run(world)) for world in self.worlds.values()]
        try:
            yield
        finally:
            self.stop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.handover.close()
            for threads in (self.reader, self.encoder):
                threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, world: WorldService) -> None:
        try:
            await world.run()
        except Exception as error:
            log.exception("%s can no longer be played", world.name)
            self.failure = error
