"""Keeping the memory that a training step frees, for the next step."""

from __future__ import annotations

import ctypes
import sys

# Numbers of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Tells glibc to keep freed memory in this process instead of giving it back at once.

    Activations are large, freed in each step and needed again in the next. What was given back has
    to be fetched from the kernel page by page. That took up to a third of a step's time on a CPU
    (docs/experiments). It holds for the rest of the process.

    Returns:
        Whether this is glibc and took it.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return bool(mallopt and mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))
