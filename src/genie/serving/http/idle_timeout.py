"""HTTP connections that say nothing: they are closed, for each takes a place from others."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEADER_TIMEOUT = 10.0  # that the head of a request may take, from the connection's first moment on


class HTTPProtocol(AutoHTTPProtocol):
    """uvicorn's protocol, which itself waits for ever for a request to begin or to go on."""

    cycle: Any  # of the request that is answered
    connections: set[Any]
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begins to wait for a request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Takes in a part of a request; a head that is not whole yet is waited for."""
        super().data_received(data)
        if not self._lacks_request():
            self._stop()
        elif self._timer is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits no longer."""
        self._stop()
        super().connection_lost(exc)

    def _lacks_request(self) -> bool:
        # A connection that became a WebSocket is no longer among these.
        waits = self.cycle is None or self.cycle.response_complete
        return waits and self in self.connections

    def _wait(self) -> None:
        self._timer = self.loop.call_later(HEADER_TIMEOUT, self._end)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        if self._lacks_request():
            self.transport.close()
