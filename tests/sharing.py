"""What takes long to make and is made once, however many processes run the tests."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Returns a folder of this run of the tests, filled by `make` in the first process to ask."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"once-{name}"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            half = folder.with_name(f"half-{name}-{os.getpid()}")
            make(half)
            half.rename(folder)
    return folder
