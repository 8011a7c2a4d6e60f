"""Progress bars and time spent, part by part."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from genie.evaluation.rollouts import Tick

Item = TypeVar("Item")
Bars = Callable[[str, int], AbstractContextManager[Tick]]


@contextmanager
def progress_bars(show: bool) -> Iterator[Bars]:
    """Yields a function that opens a bar: `with bars(name, total) as tick`, `tick()` for a step.

    What is over is shown as complete, however few of its steps were needed.
    """
    columns = (
        TextColumn("{task.description:<15}"),
        BarColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not show) as bars:

        @contextmanager
        def bar(name: str, total: int) -> Iterator[Tick]:
            task = bars.add_task(name, total=total)
            yield lambda: bars.advance(task)
            bars.update(task, completed=total)

        yield bar


def ticking(items: Iterable[Item], tick: Tick) -> Iterator[Item]:
    """Yields what there is and calls `tick` after each has been used."""
    for item in items:
        yield item
        tick()


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
