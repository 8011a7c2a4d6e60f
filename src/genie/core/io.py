"""Writing files so that a kill or a full disk never leaves half of one."""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path in the same folder; what is written there becomes `path` at the end.

    The file is flushed to the disk before it takes the place of an older one. When the block
    raises, the older file stays and the temporary one is removed. Who may read the file is decided
    by the umask and the folder, as for any new file, and not by the library that writes it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Processes of other machines, and other threads, may be writing the same file.
    writer = f"{socket.gethostname()}.{os.getpid()}.{threading.get_native_id()}"
    temporary = path.with_name(f".{writer}.{path.name}")
    try:
        temporary.unlink(missing_ok=True)  # of a process of the same number that was killed
        temporary.touch()
        mode = stat.S_IMODE(temporary.stat().st_mode)
        yield temporary
        temporary.chmod(mode)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)
