"""The output of a command, whose reader may close it at any time without ending the command."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any


class Unbreakable:
    """A text stream on which a closed pipe is no error: what is written from then on is dropped.

    Args:
        stream: to write to.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes text, or drops it."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._close_for_good()
            return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes lines, or drops them."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Hands on what was written, or drops it."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._close_for_good()

    def _close_for_good(self) -> None:
        # What the stream still holds is written when Python ends, so it needs a place to go to.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


@contextmanager
def unbreakable_output() -> Iterator[None]:
    """Inside, neither standard output nor standard error fails when its reader has gone."""
    out, errors = Unbreakable(sys.stdout), Unbreakable(sys.stderr)
    with redirect_stdout(out), redirect_stderr(errors):
        try:
            yield
        finally:
            out.flush()
            errors.flush()
