"""How many CPU threads are worth having while other programs want the cores, too."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

import torch

TRIALS = 5
MAX_SECONDS = 0.5
"""Seconds after which no further call is timed."""


@contextmanager
def use_single_thread_if_fast(work: Callable[[], object], seconds: float) -> Iterator[int]:
    """Has PyTorch take a single CPU thread, in this process, where that is fast enough.

    Threads that share an operation wait for each other in a loop. As soon as another program keeps
    a core of theirs busy they wait for a core instead, hundreds of times a frame: play on two of
    two cores fell from 57 to 0.3 frames/s, on one thread from 40 to 24 (docs/experiments). So they
    are worth their risk only to a world that is too slow without, and faster with them. To be
    entered before other threads use PyTorch and before anything is compiled: both keep what they
    find.

    Args:
        work: what is to be fast; it is done a few times.
        seconds: how long it may take.

    Yields:
        The number of threads, until the context ends: 1 or as many as before. `OMP_NUM_THREADS` is
        obeyed.
    """
    before = torch.get_num_threads()
    try:
        if before > 1 and "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(1)
            alone = _usual_seconds(work)
            if alone > seconds:
                torch.set_num_threads(before)
                if _usual_seconds(work) > alone:
                    torch.set_num_threads(1)
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def _usual_seconds(work: Callable[[], object]) -> float:
    """Median of some calls after one that warms up; of fewer where they take long."""
    work()
    spent: list[float] = []
    while len(spent) < TRIALS and sum(spent) < MAX_SECONDS:
        began = time.perf_counter()
        work()
        spent.append(time.perf_counter() - began)
    return median(spent)
