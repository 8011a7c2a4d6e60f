"""The WebSocket of one player, which passes messages to and from the session."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from functools import partial

from starlette.websockets import WebSocket, WebSocketDisconnect

from genie.core.rate_limiter import RateLimiter
from genie.serving.limits import Limits
from genie.serving.play.metrics import Metrics
from genie.serving.play.scheduler import BatchScheduler
from genie.serving.play.session import SessionClosed
from genie.serving.protocol import (
    INTERNAL_ERROR,
    MAX_SMALL_MESSAGE,
    POLICY_VIOLATION,
    TIME_OVER,
    AckMessage,
    ProtocolError,
    message_cost,
    parse,
)

log = logging.getLogger(__name__)

CLOSING_SECONDS = 5  # for a client that does not read


class Connection:
    """Serves one player until either side ends the connection.

    Args:
        websocket: accepted already.
        scheduler: of the player's world.
        limits: of the time and the number of messages.
        metrics: count rejections and deliveries.
        world: name of the world in the metrics.
    """

    def __init__(
        self,
        websocket: WebSocket,
        scheduler: BatchScheduler,
        limits: Limits,
        metrics: Metrics,
        world: str,
    ) -> None:
        self._websocket, self._scheduler = websocket, scheduler
        self._limits, self._metrics = limits, metrics
        self._session = scheduler.join(metrics.delivery_seconds.labels(world).observe)
        self._began = self._heard = time.monotonic()

    async def serve(self) -> None:
        """Runs the connection until it ends."""
        tasks = [
            asyncio.create_task(part())
            for part in (self._send, self._receive, self._enforce_time_limit)
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._scheduler.leave(self._session)
            for task in tasks:
                task.cancel()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(ended, Exception):
                    log.error("a player's connection failed", exc_info=ended)
                    await self._close(INTERNAL_ERROR, "The server failed; reload the page.")

    async def _send(self) -> None:
        try:
            while True:
                message = await self._session.next_message()
                if isinstance(message, bytes):
                    await self._websocket.send_bytes(message)
                else:
                    await self._websocket.send_text(message)
        except SessionClosed as closed:
            await self._close(*closed.args)
        except (WebSocketDisconnect, RuntimeError):
            pass  # the player left while a message was being sent

    async def _receive(self) -> None:
        rate = RateLimiter(self._limits.messages_per_second)
        work = RateLimiter(self._limits.model_steps_per_second)
        try:
            while True:
                message = await self._websocket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                if rate.wait_for():
                    most = self._limits.messages_per_second
                    raise ProtocolError(f"a player may send {most:g} messages per second")
                await self._handle(message.get("text"), work)
        except ProtocolError as error:
            self._metrics.rejected("message")
            await self._close(POLICY_VIOLATION, str(error))

    async def _handle(self, text: str | None, work: RateLimiter) -> None:
        if text is None:
            raise ProtocolError("messages must be JSON text, not binary")
        parse_text = partial(parse, text, self._limits.message_bytes)
        long = len(text) > MAX_SMALL_MESSAGE
        message = await self._scheduler.run_in_reader(parse_text) if long else parse_text()
        if not isinstance(message, AckMessage):
            self._heard = time.monotonic()
        if wait := work.wait_for(message_cost(message)):
            await asyncio.sleep(wait)
        await self._scheduler.receive(self._session, message)

    async def _enforce_time_limit(self) -> None:
        """Waits until a time limit is reached, then ends the session."""
        session, idle = self._limits.session_minutes * 60, self._limits.idle_minutes * 60
        while True:
            now = time.monotonic()
            if now >= self._began + session:
                words = f"The limit of {self._limits.session_minutes:g} minutes is reached"
                break
            if now >= self._heard + idle:
                words = f"There was no input for {self._limits.idle_minutes:g} minutes"
                break
            await asyncio.sleep(min(self._began + session, self._heard + idle) - now)
        self._session.end(f"{words}; reload the page to play again.", TIME_OVER)
        await asyncio.sleep(CLOSING_SECONDS)

    async def _close(self, code: int, reason: str) -> None:
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await self._websocket.send_json({"type": "error", "message": reason})
            await self._websocket.close(code)
