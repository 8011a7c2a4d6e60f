"""Writing files so that a kill or a full disk never leaves half of one."""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from genie.core.config import require

if TYPE_CHECKING:
    import numpy as np


MOST_BYTES = 2**22
"""Of a small file, such as a configuration."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path in the same folder; what is written there becomes `path` at the end.

    The file is flushed to the disk before it takes the place of an older one. When the block
    raises, the older file stays and the temporary one is removed. Who may read the file is decided
    by the umask and the folder, as for any new file, and not by the library that writes it.
    """
    with replacing_all(path) as (temporary,):
        yield temporary


@contextmanager
def replacing_all(*paths: str | Path) -> Iterator[list[Path]]:
    """Does for several files of a folder what `replacing` does for one: all are replaced, or none.

    Only a kill or a power cut between two renames can leave some of them replaced.
    """
    targets = [Path(path) for path in paths]
    temporaries = [_temporary(path) for path in targets]
    try:
        modes = [_begun(temporary) for temporary in temporaries]
        yield temporaries
        for temporary, mode in zip(temporaries, modes, strict=True):
            temporary.chmod(mode)
            _flush(temporary)
        _rename_all(temporaries, targets)
        sync_folder(targets[0].parent)
    finally:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    # Processes of other machines, and other threads, may be writing the same file.
    writer = f"{socket.gethostname()}.{os.getpid()}.{threading.get_native_id()}"
    return path.with_name(f".{writer}.{path.name}")


def _begun(temporary: Path) -> int:
    make_folder(temporary.parent)
    temporary.unlink(missing_ok=True)  # of a process of the same number that was killed
    temporary.touch()
    return stat.S_IMODE(temporary.stat().st_mode)


def _flush(temporary: Path) -> None:
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())


def _rename_all(temporaries: Sequence[Path], targets: Sequence[Path]) -> None:
    """Renames files; where one cannot be renamed, those before it get their old content back."""
    olds = [temporary.with_name(f"{temporary.name}.old") for temporary in temporaries[:-1]]
    done: list[tuple[Path, Path, bool]] = []
    try:
        for old, temporary, target in zip(olds, temporaries, targets, strict=False):
            was_there = target.exists()
            with suppress(OSError):  # there is none, or the file system has no links
                os.link(target, old)
            os.replace(temporary, target)
            done.append((old, target, was_there))
        os.replace(temporaries[-1], targets[-1])
    except OSError:
        for old, target, was_there in done:
            with suppress(OSError):
                os.replace(old, target) if was_there else target.unlink()
        raise
    finally:
        for old in olds:
            old.unlink(missing_ok=True)


def read_bounded(path: str | Path, most: int = MOST_BYTES) -> bytes:
    """Reads a file that may come from anyone: it may be larger than memory, or no file at all.

    Args:
        path: of the file.
        most: bytes that it may hold.

    Raises:
        UserError: it holds more, or is a pipe or a device, from which one could read for ever.
        OSError: as of `Path.read_bytes`.
    """
    path = Path(path)
    about = path.stat()
    require(stat.S_ISREG(about.st_mode), f"{path}: is no file; copy it here again")
    words = f"{path}: holds {about.st_size:,} bytes, at most {most:,} are read"
    require(about.st_size <= most, f"{words}; it is damaged or was made to fill the memory")
    return path.read_bytes()


def save_array(path: str | Path, array: np.ndarray) -> None:
    """Writes an array as `numpy.save` does, whole or not at all.

    NumPy writes to a file by itself, and its error at a full disk does not say so. To anything else
    it gives the bytes.
    """
    import numpy as np

    with replacing(path) as part, part.open("wb") as file:
        np.save(SimpleNamespace(write=file.write), array)  # type: ignore[call-overload]


def put_in_place(temporary: Path, path: Path) -> None:
    """Gives a finished file of the same folder its name, so that it has it after a power cut."""
    _flush(temporary)
    os.replace(temporary, path)
    sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, so that they are still there after a power cut."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        sync_folder(made.parent)


def sync_folder(folder: Path) -> None:
    """Flushes the names in a folder to the disk: files that were made or renamed in it stay so."""
    if os.name != "posix":  # other systems cannot open a folder
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
