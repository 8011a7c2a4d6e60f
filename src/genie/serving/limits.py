"""What one server gives to everybody together and to each client, with defaults that are safe."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, fields

from genie.core.config import require
from genie.serving.protocol import MAX_MESSAGE_BYTES


class RequestRejected(Exception):
    """A request that is not served.

    Attributes:
        status: of the HTTP answer.
        reason: one word, for the metrics.
        retry_after: seconds until it is worth trying again, where it is.
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
        players: that play at the same time, in all worlds together.
        session_minutes: after which a game ends.
        idle_minutes: without an input after which a game ends.
        messages_per_second: of one player; for a moment twice as many.
        message_bytes: of one message of a player.
        work_per_second: of one player, in pictures to read or steps to preview, see
            `genie.serving.protocol.message_cost`; for a moment twice as much. Clients that ask for
            more wait.
        generations: requests to `/generate` that are worked on at the same time.
        actions: in one request to `/generate`.
        uploads: pictures that arrive at the same time.
        upload_megabytes: of one uploaded picture, counted as it arrives.
        upload_seconds: that an upload may take.
        megapixels: of one uploaded picture, known before it is decoded.
        retry_seconds: after which a client that was refused for lack of room is told to come back.
    """

    players: int = 16
    session_minutes: float = 120
    idle_minutes: float = 10
    messages_per_second: float = 150
    message_bytes: int = MAX_MESSAGE_BYTES
    work_per_second: float = 12
    generations: int = 4
    actions: int = 256
    uploads: int = 16
    upload_megabytes: float = 10
    upload_seconds: float = 30
    megapixels: float = 16
    retry_seconds: int = 10

    def __post_init__(self) -> None:
        """Refuses limits that would let nobody in."""
        for field in fields(self):
            require(getattr(self, field.name) > 0, f"{field.name}: must be more than 0")


class RateLimiter:
    """Counts events of one client: so many a second, for a moment twice as many.

    Args:
        per_second: that are allowed in the long run.
        clock: seconds.
    """

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second, self._clock = per_second, clock
        self._room, self._seen = 2 * per_second, clock()

    def allows(self) -> bool:
        """Counts one event and says whether there was room for it."""
        self._gain()
        if self._room < 1:
            return False
        self._room -= 1
        return True

    def wait_for(self, events: float) -> float:
        """Counts events and returns the seconds until there is room for them; 0 at once."""
        self._gain()
        self._room -= events
        return max(0.0, -self._room / self._per_second) if events else 0.0

    def _gain(self) -> None:
        now = self._clock()
        gained = (now - self._seen) * self._per_second
        self._room, self._seen = min(2 * self._per_second, self._room + gained), now


class Slots:
    """A number of places that are taken and given back, for players or for work.

    Args:
        count: how many there are.
        retry_seconds: what is told to those for whom there is none.
    """

    def __init__(self, count: int, retry_seconds: int) -> None:
        self.count, self.taken, self._retry = count, 0, retry_seconds

    def require_free(self) -> None:
        """Refuses who would find no place now.

        Raises:
            Refused: all are taken.
        """
        if self.taken >= self.count:
            again = f"try again in {self._retry} seconds"
            raise RequestRejected(
                503, "full", f"All {self.count} places are taken; {again}.", self._retry
            )

    def __enter__(self) -> Slots:
        self.require_free()
        self.taken += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.taken -= 1


async def read_upload(
    chunks: AsyncIterator[bytes], limits: Limits, most: int | None = None
) -> bytes:
    """Reads a request's body, and stops where it becomes too large or takes too long.

    Args:
        chunks: of the body, as they arrive.
        limits: of a picture.
        most: bytes, where less than a picture is expected.

    Raises:
        Refused: it did.
    """
    most = most or int(limits.upload_megabytes * 1e6)
    body = bytearray()
    try:
        async with asyncio.timeout(limits.upload_seconds):
            async for chunk in chunks:
                if len(body) + len(chunk) > most:
                    size = f"{most / 1e6:g} MB"
                    raise RequestRejected(413, "upload", f"{size} are the most; send less.")
                body += chunk
    except TimeoutError:
        slow = f"The upload took longer than {limits.upload_seconds:g} seconds; send less."
        raise RequestRejected(408, "upload", slow) from None
    return bytes(body)
