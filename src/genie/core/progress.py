"""How far a long piece of work is: a live bar in a terminal, a line now and then in a log file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as LiveBar

LINE_SECONDS = 60.0
LINE_SHARE = 0.05
"""Between two lines of a log file lie at least so many seconds and this share of the work."""

Item = TypeVar("Item")
Tick = Callable[[], None]
Bars = Callable[[str, int], AbstractContextManager[Tick]]


def ignore_tick() -> None:
    """Does nothing; for callers that show no progress."""


class Progress:
    """Shows how far one piece of work is, and the time left, while its block runs.

    The estimate starts at the first update, so it counts neither the work of an earlier run nor the
    time until the first step was done.

    Args:
        title: what runs.
        total: how much there is to do.
        unit: what is counted, such as "videos"; "" shows a percentage.
        console: where to write; standard error when left out.
        show: False writes nothing.
        transient: leave nothing behind at the end.
    """

    def __init__(
        self,
        title: str,
        total: float = 1.0,
        *,
        unit: str = "",
        console: Console | None = None,
        show: bool = True,
        transient: bool = False,
    ) -> None:
        from rich.console import Console

        self.title, self.total, self.unit = title, total, unit
        self.console = console or Console(stderr=True)
        self.show, self.transient = show, transient
        self.done, self.note = 0.0, ""
        self._bar: LiveBar | None = None
        self._first: tuple[float, float] | None = None
        self._line: tuple[float, float] | None = None

    def __enter__(self) -> Progress:
        self._began = time.monotonic()
        if self.show and _is_live(self.console):
            self._bar = _live_bar(self.console, self.transient)
            self._task = self._bar.add_task(self.title, total=self.total, text="")
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        text = self._text(f"took {duration(time.monotonic() - self._began)}")
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, text=text)
            self._bar.stop()
        elif self.show and self._first and not self.transient:
            say(self.console, f"{self.title}: {text}")

    def update(self, done: float, note: str = "", seconds: float | None = None) -> None:
        """Shows how much is done.

        Args:
            done: of `total`, with the work of earlier runs.
            note: shown behind the time left.
            seconds: a clock of the work itself, where not all time is spent on it.
        """
        self.done, self.note = done, note
        seconds = time.monotonic() if seconds is None else seconds
        self._first = self._first or (seconds, done)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, text=self._text(self._left(seconds)))
        elif self.show and self._line_is_due():
            self._line = time.monotonic(), done
            say(self.console, f"{self.title}: {self._text(self._left(seconds))}")

    def advance(self, steps: float = 1.0) -> None:
        """Shows that more is done."""
        self.update(self.done + steps)

    def track(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yields what there is and advances after each item has been used."""
        return ticking(items, self.advance)

    def _line_is_due(self) -> bool:
        now = time.monotonic()
        if self._line is None:
            return now - self._began >= LINE_SECONDS
        printed, done = self._line
        return now - printed >= LINE_SECONDS and self.done - done >= LINE_SHARE * self.total

    def _text(self, times: str) -> str:
        share = self.done / self.total if self.total else 1.0
        count = f"{self.done:,.0f}/{self.total:,.0f} {self.unit}"
        return f"{count if self.unit else f'{share:.0%}'}, {times}  {self.note}".rstrip()

    def _left(self, seconds: float) -> str:
        assert self._first is not None
        since, before = self._first
        if self.done <= before:
            return "?:?? left"
        rest = (self.total - self.done) / (self.done - before)
        return f"{duration((seconds - since) * rest)} left"


def progress_bars(show: bool) -> Bars:
    """Returns a function that opens a bar: `with bars(name, total) as tick`, `tick()` for a step.

    What is over is shown as complete, however few of its steps were needed.
    """

    @contextmanager
    def bar(name: str, total: int) -> Iterator[Tick]:
        with Progress(name, total, show=show) as progress:
            yield progress.advance
            progress.update(total)

    return bar


def ticking(items: Iterable[Item], tick: Tick) -> Iterator[Item]:
    """Yields what there is and calls `tick` after each has been used."""
    for item in items:
        yield item
        tick()


def say(console: Console, text: str) -> None:
    """Prints a sentence as it is, on one line however wide the terminal or log file is."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Returns minutes and seconds, or hours and minutes: `4:07`, `3h05`."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}h{minutes % 60:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


class Stopwatch:
    """Seconds spent on each part of something."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measures what is done inside."""
        begin = time.perf_counter()
        yield
        self._seconds[name] = round(time.perf_counter() - begin, 2)

    def table(self) -> dict[str, float]:
        """Returns the seconds of each part and their total."""
        return self._seconds | {"total": round(sum(self._seconds.values()), 2)}


def _is_live(console: Console) -> bool:
    return console.is_jupyter or (console.is_terminal and not console.is_dumb_terminal)


def _live_bar(console: Console, transient: bool) -> LiveBar:
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as LiveBar

    title = TextColumn("{task.description:<15}", style="bold", markup=False)
    text = TextColumn("{task.fields[text]}", markup=False)
    return LiveBar(title, BarColumn(), text, console=console, transient=transient)
