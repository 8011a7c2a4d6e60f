"""How often something may happen."""

from __future__ import annotations

import time
from collections.abc import Callable


class RateLimiter:
    """A token bucket for the events of one client; a burst may have two seconds' worth of events.

    Args:
        per_second: allowed rate in the long run.
        clock: returns the time in seconds.
    """

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second, self._clock = per_second, clock
        self._room, self._seen = 2 * per_second, clock()

    def wait_for(self, events: float = 1) -> float:
        """Counts events and returns the seconds to wait until they are within the rate."""
        now = self._clock()
        gained = (now - self._seen) * self._per_second
        self._room, self._seen = min(2 * self._per_second, self._room + gained) - events, now
        return max(0.0, -self._room / self._per_second) if events else 0.0
