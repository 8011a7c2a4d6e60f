"""Idle timeout of HTTP connections, so that silent ones do not block others."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEADER_TIMEOUT = 10.0  # seconds from opening a connection until its request header is complete


class HTTPProtocol(AutoHTTPProtocol):
    """uvicorn's protocol with a timeout for the header of a request, which uvicorn lacks."""

    cycle: Any  # the current request
    connections: set[Any]
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Starts the timer."""
        super().connection_made(transport)
        self._start()

    def data_received(self, data: bytes) -> None:
        """Stops the timer when a header is complete, and starts it for the next request."""
        super().data_received(data)
        if not self._awaits_header():
            self._stop()
        elif self._timer is None:
            self._start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the timer."""
        self._stop()
        super().connection_lost(exc)

    def _awaits_header(self) -> bool:
        # A connection that became a WebSocket is no longer among these.
        waits = self.cycle is None or self.cycle.response_complete
        return waits and self in self.connections

    def _start(self) -> None:
        self._timer = self.loop.call_later(HEADER_TIMEOUT, self._end)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        if self._awaits_header():
            self.transport.close()
