"""Generates clips from an image and a list of actions, between the frames of the players."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from genie.data.video import Format

if TYPE_CHECKING:
    from genie.serving.play.scheduler import BatchScheduler
    from genie.world.action_mapper import ActionMapper
    from genie.world.genie import Genie

MIN_PIECES = 4  # per second, of all clips together
RETRY_SECONDS = 0.004
MEDIA_TYPES = {"mp4": "video/mp4", "gif": "image/gif", "png": "application/zip"}


class ClipQuery(BaseModel):
    """The parameters of a request for a clip."""

    model_config = ConfigDict(extra="forbid")
    actions: str = Field(
        description="Actions to play, one for each frame, separated by commas: numbers, or names "
        "such as left,jump where `real_actions` of the world has any.",
        examples=["1,1,2,0"],
    )
    world: str | None = Field(None, description="Name of a world; the default is the first one.")
    format: Format = Field("mp4", description="png is a ZIP archive of numbered images.")
    seed: int = Field(0, ge=0, lt=2**31, description="Of all random numbers.")
    prompt: int = Field(0, ge=0, description="Index of the world's prompt, without an upload.")
    scale: int | None = Field(None, ge=1, le=64, description="Factor that enlarges the frames.")


class ClipScheduler:
    """Runs pieces of work in a world's thread, one at a time, while the players leave it idle.

    A piece runs if it is expected to end before the players' next round. If rounds leave too
    little time, `MIN_PIECES` per second run all the same, and the players wait for them.

    Args:
        scheduler: of the world's players.
        world: generates the frames of clips.
        mapper: of actions that are names.
    """

    def __init__(
        self, scheduler: BatchScheduler, world: Genie, mapper: ActionMapper | None = None
    ) -> None:
        self._scheduler, self._world, self._mapper = scheduler, world, mapper
        self._lock = asyncio.Lock()
        self._seconds = 0.0  # duration of the last piece
        self._ended = -math.inf

    async def generate(
        self,
        prompt: np.ndarray,
        actions: Sequence[int] | Sequence[str],
        seed: int,
        wanted: Callable[[], Awaitable[bool]],
    ) -> list[np.ndarray]:
        """Generates a clip, one frame at a time.

        Args:
            prompt: image `uint8 (H, W, 3)` or clip `(T, H, W, 3)` of the world's size.
            actions: to play.
            seed: of all random numbers.
            wanted: asked before each frame; generation stops when it returns False.

        Returns:
            The prompt's frames and one per action, each `uint8 (H, W, 3)`.
        """
        frames = [prompt] if prompt.ndim == 3 else list(prompt)
        state = await self(lambda: self._world.start(prompt, seed=seed))
        for action in actions:
            if not await wanted():
                break
            frame, state = await self(lambda state=state, action=action: self._step(state, action))
            frames.append(frame)
        return frames

    def _step(self, state: Any, action: int | str) -> tuple[np.ndarray, Any]:
        if isinstance(action, str):
            assert self._mapper is not None
            action = int(self._mapper.to_latent(state.frame, action))
        frame, state = self._world.step(state, action)
        return frame.cpu().numpy(), state

    async def __call__(self, piece: Callable[[], Any]) -> Any:
        """Waits until the thread is idle, then runs one piece."""
        async with self._lock:
            latest = self._ended + 1 / MIN_PIECES
            while self._scheduler.idle_seconds() < self._seconds and time.monotonic() < latest:
                await asyncio.sleep(RETRY_SECONDS)
            try:
                return await self._scheduler.work(lambda: self._timed(piece))
            finally:
                self._ended = time.monotonic()

    def _timed(self, piece: Callable[[], Any]) -> Any:
        began = time.monotonic()
        try:
            return piece()
        finally:
            self._seconds = time.monotonic() - began
