"""The number of CPU threads for play while other programs use the cores too."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

import torch

TRIALS = 5
MAX_SECONDS = 0.5
"""Seconds after which no more calls are timed."""


@contextmanager
def use_single_thread_if_fast(work: Callable[[], object], seconds: float) -> Iterator[int]:
    """Lets PyTorch use a single CPU thread in this process, if that is fast enough.

    Threads that share an operation wait for each other in a loop. If another program keeps one of
    their cores busy, they wait for that core hundreds of times per frame. On two cores, play with
    two threads fell from 57 to 0.3 frames/s, and with one thread from 40 to 24 (docs/experiments).
    So several threads are used only if one is too slow and several are faster. Enter the context
    before other threads use PyTorch and before anything is compiled; both keep the number they
    find. The environment variable `OMP_NUM_THREADS` has precedence.

    Args:
        work: what has to be fast; it is called a few times.
        seconds: how long a call may take.

    Yields:
        The number of threads until the context ends, 1 or the number before.
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
    """Returns the median of a few calls after one to warm up; of fewer calls if they are slow."""
    work()
    spent: list[float] = []
    while len(spent) < TRIALS and sum(spent) < MAX_SECONDS:
        began = time.perf_counter()
        work()
        spent.append(time.perf_counter() - began)
    return median(spent)
