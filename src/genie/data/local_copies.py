"""The limit of what stores at addresses keep on this machine: those used longest ago go first.

Each store has a folder, and beside it a file that processes lock while they use the store.
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from genie.core.config import UserError
from genie.core.io import make_folder

LIMIT = "GENIE_CACHE_LIMIT"
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_held: dict[Path, int] = {}
"""Descriptors of the locks of this process, which the system frees when it ends."""


def limit() -> int | None:
    """Returns the bytes that all stores may take, from the environment; None for no limit.

    Raises:
        UserError: it is no size.
    """
    text = os.environ.get(LIMIT)
    if not text:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip().upper())
    if found is None:
        raise UserError(f"{LIMIT}: expected a size such as 50GB, got {text!r}")
    return int(float(found[1]) * _UNITS[found[2]])


def hold(folder: Path) -> None:
    """Notes that this process uses a store's folder, which nobody removes until it ends."""
    if folder not in _held:
        make_folder(folder.parent)
        lock = _open(folder)
        if not _lock(lock, wait=True):  # the file system has no locks: nothing is ever removed
            os.close(lock)
            return
        _held[folder] = lock
    os.utime(_lock_of(folder))


def trim(root: Path, most: int | None) -> None:
    """Removes folders of stores that nobody uses, the one used longest ago first.

    Args:
        root: folder of the folders.
        most: bytes that may stay; None for any number.
    """
    if most is None:
        return
    folders = sorted((path for path in root.iterdir() if path.is_dir()), key=_last_use)
    sizes = {folder: _size(folder) for folder in folders}
    total = sum(sizes.values())
    for folder in folders:
        if total <= most:
            return
        total -= sizes[folder] if _remove(folder) else 0


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _last_use(folder: Path) -> float:
    lock = _lock_of(folder)
    return (lock if lock.exists() else folder).stat().st_mtime


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # another process removes it
            total += path.lstat().st_size if path.is_file() else 0
    return total


def _remove(folder: Path) -> bool:
    lock = _open(folder)
    try:
        if not _lock(lock, wait=False):
            return False
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()
    finally:
        os.close(lock)


def _open(folder: Path) -> int:
    return os.open(_lock_of(folder), os.O_RDWR | os.O_CREAT, 0o666)


def _lock(lock: int, *, wait: bool) -> bool:
    """Locks a file for those that use the store, or for the one that removes it."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
