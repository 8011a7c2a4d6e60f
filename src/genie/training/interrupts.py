"""Ctrl-C and SIGTERM as a request: the step ends, a checkpoint is written, the program ends."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from rich.console import Console

from genie.core.progress import say

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(SystemExit):
    """Training was asked to stop and did, with everything saved. A shell sees 128 + the signal."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(128 + signum)
        self.message = message

    def __str__(self) -> str:
        return self.message


class StopRequest:
    """While the block runs, the first signal only sets `signum`; a second one acts as usual.

    Attributes:
        signum: the signal that came, or 0.
    """

    def __init__(self, console: Console) -> None:
        self.console, self.signum = console, 0
        self._before: dict[int, Any] = {}

    def __bool__(self) -> bool:
        return self.signum != 0

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in SIGNALS}
            self.install()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def install(self) -> None:
        """Takes the signals (again: Lightning puts its own handler for SIGTERM in front)."""
        if self._before and not self.signum:
            for number in SIGNALS:
                signal.signal(number, self._note)

    def stop(self, how_to_go_on: str) -> None:
        """Ends the program, if that was asked for."""
        if self.signum:
            say(self.console, how_to_go_on)
            raise Stopped(self.signum, how_to_go_on)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        self._restore()
        say(self.console, "stopping after this step; once more to stop at once")

    def _restore(self) -> None:
        for number, handler in self._before.items():
            if handler is not None:  # set by other than Python code
                signal.signal(number, handler)
