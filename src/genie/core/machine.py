"""What the machine has for this process."""

from __future__ import annotations

import os


def available_cores() -> int:
    """CPU cores that this process may use, which can be fewer than there are; at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
