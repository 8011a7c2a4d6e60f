"""What the machine has for this process, and what this installation is."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def available_cores() -> int:
    """CPU cores that this process may use, which can be fewer than there are; at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_name() -> str:
    """Model of the CPU; its architecture where the system does not say more."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def own_version() -> str:
    """Version of this package; "from source" for a tree that was not installed."""
    try:
        return version("genie-worlds")
    except PackageNotFoundError:
        return "from source"


def versions(*packages: str) -> dict[str, str]:
    """Versions of this package, of Python and of other packages that are installed, by name."""
    own = {"genie-worlds": own_version(), "python": platform.python_version()}
    return own | {name: version(name) for name in packages}
