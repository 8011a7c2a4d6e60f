"""Limits of a server, in total and per client, with safe defaults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, fields

from genie.core.config import require
from genie.serving.protocol import MAX_MESSAGE_BYTES


class RequestRejected(Exception):
    """A request that the server refuses; the message tells the client why.

    Attributes:
        status: HTTP status code.
        reason: one word, for the metrics.
        retry_after: seconds after which the client may try again, None if that is useless.
    """

    def __init__(
        self, status: int, reason: str, message: str, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.reason, self.retry_after = status, reason, retry_after


@dataclass(frozen=True)
class Limits:
    """How much a server gives; clients beyond it are refused, never queued.

    Attributes:
        players: most players at the same time, in all worlds together.
        session_minutes: time after which a game ends.
        idle_minutes: time without an input after which a game ends.
        messages_per_second: most messages of one player; for a moment twice as many.
        message_bytes: largest message of a player.
        model_steps_per_second: a player's images to read and steps to preview, see
            `genie.serving.protocol.message_cost`; for a moment twice as much. Clients that ask for
            more wait.
        concurrent_clips: most requests to `/generate` that are worked on at the same time.
        actions_per_clip: most actions in one request to `/generate`.
        concurrent_uploads: most pictures that arrive at the same time.
        upload_megabytes: size of one uploaded picture, counted as it arrives.
        upload_seconds: longest time that an upload may take.
        megapixels: most of one uploaded picture, known before it is decoded.
        retry_after_seconds: what refused clients are told to wait when the server is full.
    """

    players: int = 16
    session_minutes: float = 120
    idle_minutes: float = 10
    messages_per_second: float = 150
    message_bytes: int = MAX_MESSAGE_BYTES
    model_steps_per_second: float = 12
    concurrent_clips: int = 4
    actions_per_clip: int = 256
    concurrent_uploads: int = 16
    upload_megabytes: float = 10
    upload_seconds: float = 30
    megapixels: float = 16
    retry_after_seconds: int = 10

    def __post_init__(self) -> None:
        """Checks that every limit is positive."""
        for field in fields(self):
            require(getattr(self, field.name) > 0, f"{field.name}: must be more than 0")


class Slots:
    """A fixed number of slots for players or requests; a `with` block takes one.

    Args:
        count: number of slots.
        retry_after_seconds: sent to clients that are refused because no slot is free.
    """

    def __init__(self, count: int, retry_after_seconds: int) -> None:
        self.count, self.taken, self._retry = count, 0, retry_after_seconds

    def require_free(self) -> None:
        """Raises `RequestRejected` if no slot is free."""
        if self.taken >= self.count:
            words = f"All {self.count} places are taken; try again in {self._retry} seconds."
            raise RequestRejected(503, "full", words, self._retry)

    def __enter__(self) -> Slots:
        self.require_free()
        self.taken += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.taken -= 1


async def read_upload(
    chunks: AsyncIterator[bytes], limits: Limits, most: int | None = None
) -> bytes:
    """Reads the body of a request.

    Args:
        chunks: parts of the body, as they arrive.
        limits: for the size of an image and for the time.
        most: maximum size in bytes; None takes that of an image.

    Raises:
        RequestRejected: the body is too large or takes too long.
    """
    most = most or int(limits.upload_megabytes * 1e6)
    body = bytearray()
    try:
        async with asyncio.timeout(limits.upload_seconds):
            async for chunk in chunks:
                body += chunk
                if len(body) > most:
                    words = f"The upload is larger than {most / 1e6:g} MB; send less."
                    raise RequestRejected(413, "upload", words)
    except TimeoutError:
        words = f"The upload took longer than {limits.upload_seconds:g} seconds; send less."
        raise RequestRejected(408, "upload", words) from None
    return bytes(body)
