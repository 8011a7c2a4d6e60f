"""How many CPU threads are worth having while other programs want the cores, too."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from statistics import median

import torch

TRIES = 5


def spare_threads(work: Callable[[], object], seconds: float, threads: int) -> int:
    """Leaves this thread with a single CPU thread of PyTorch's where that is fast enough.

    Threads that share an operation wait for each other in a loop. As soon as another program keeps
    a core of theirs busy they wait for a core instead, hundreds of times a frame: play on two of
    two cores fell from 57 to 0.3 frames/s, on one thread from 40 to 24 (docs/log.md). So they are
    worth their risk only to a world that is too slow without.

    Args:
        work: what is to be fast, in this thread; it is done a few times.
        seconds: how long it may take.
        threads: that there may be; PyTorch's own number, asked in the main thread.

    Returns:
        The threads that were chosen: 1 or all. `OMP_NUM_THREADS` is obeyed.
    """
    if threads > 1 and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
        if _usual_seconds(work) <= seconds:
            return 1
        torch.set_num_threads(threads)
    work()  # so that it is warm in any case
    return threads


def _usual_seconds(work: Callable[[], object]) -> float:
    work()
    spent = []
    for _ in range(TRIES):
        began = time.perf_counter()
        work()
        spent.append(time.perf_counter() - began)
    return median(spent)
