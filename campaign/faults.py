"""The layer below Python that lets file operations fail: compiled here, told what to do here."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SOURCE = Path(__file__).with_name("faults.c")
EVERYTHING = "owsdrumt"
"""All kinds of operations, see `faults.c`."""


def library(folder: Path) -> Path:
    """Compiles the library, unless a newer one is there."""
    path = folder / "faults.so"
    if not path.exists() or path.stat().st_mtime < SOURCE.stat().st_mtime:
        folder.mkdir(parents=True, exist_ok=True)
        command = ["cc", "-shared", "-fPIC", "-O2", "-o", str(path), str(SOURCE)]
        subprocess.run([*command, "-ldl", "-lpthread"], check=True)
    return path


def run_under(folder: Path, arguments: Sequence[str]) -> None:
    """Starts this program again with the library loaded, unless it is."""
    if "faults.so" in os.environ.get("LD_PRELOAD", ""):
        return
    environment = {**os.environ, "LD_PRELOAD": str(library(folder).absolute())}
    environment.setdefault("OMP_NUM_THREADS", "1")
    os.execve(sys.executable, [sys.executable, *arguments], environment)


def arm(**plan: object) -> None:
    """Says what happens to file operations of this process from now on; nothing: all go well."""
    text = "\n".join(f"{key}={value}" for key, value in plan.items())
    ctypes.CDLL(None).faults_arm(text.encode())


def counted() -> int:
    """Returns how many operations there were since the plan was made."""
    count = ctypes.CDLL(None).faults_counted
    count.restype = ctypes.c_long
    return count()
