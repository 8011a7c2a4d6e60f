"""What a person sees while something long runs: a live bar, or plain lines without a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

PLAIN_SECONDS = 20.0
"""Time between two lines when there is no terminal."""


class LiveProgress:
    """Progress of one long piece of work, with time left.

    Args:
        title: what runs.
        console: where to write; standard error when left out.
        start: share done when this run began, for an honest estimate after a resume.
    """

    def __init__(self, title: str, console: Console | None = None, start: float = 0.0) -> None:
        self.title, self.start, self.share = title, start, start
        self.console = console or Console(stderr=True)
        self.began = self.printed = time.monotonic()
        self.bar: Progress | None = None

    def __enter__(self) -> LiveProgress:
        self.began = self.printed = time.monotonic()
        if self.console.is_terminal:
            columns = (TextColumn("[bold]{task.description}"), BarColumn(), TaskProgressColumn())
            bar = Progress(*columns, TextColumn("{task.fields[note]}"), console=self.console)
            self.task = bar.add_task(self.title, total=1.0, note="")
            bar.start()
            self.bar = bar
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def update(self, share: float, note: str = "") -> None:
        """Shows the share done, in [0, 1], the time left and a note."""
        self.share = share
        now = time.monotonic()
        if self.bar is not None:
            note = f"{self._left(now)}  {note}"
            self.bar.update(self.task, completed=share, note=note)
        elif now - self.printed >= PLAIN_SECONDS:
            self.printed = now
            self.console.print(
                f"{self.title}: {share:.0%}, {self._left(now)}  {note}", highlight=False
            )

    def _left(self, now: float) -> str:
        done = self.share - self.start
        if done <= 0:
            return "?:?? left"
        return f"{duration((now - self.began) * (1 - self.share) / done)} left"


def duration(seconds: float) -> str:
    """Returns minutes and seconds, or hours and minutes: `4:07`, `3h05`."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}h{minutes % 60:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def describe(logs: Mapping[str, float]) -> str:
    """Returns scalars in one line."""
    return "  ".join(f"{name} {value:.4g}" for name, value in logs.items())


@dataclass(frozen=True)
class Sign:
    """One thing about a model that was looked at.

    Attributes:
        name: of the figure, as in TensorBoard.
        figure: what was measured.
        warning: what is wrong, the figure, and what to try; empty where all is well.
    """

    name: str
    figure: float
    warning: str = ""


class Warnings:
    """Says what is wrong with a model, each thing once until it has been well again.

    Args:
        console: where to write.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.said: set[str] = set()

    def tell(self, signs: Iterable[Sign]) -> list[str]:
        """Prints, and returns, the warnings that are new."""
        new = []
        for sign in signs:
            if not sign.warning:
                self.said.discard(sign.name)
            elif sign.name not in self.said:
                self.said.add(sign.name)
                new.append(sign.warning)
                warn_loudly(self.console, sign.warning)
        return new


def warn_loudly(console: Console, text: str) -> None:
    """Prints a warning that cannot be overlooked."""
    console.print(Panel(text, title="warning", border_style="yellow", title_align="left"))
