"""Checkpoints that survive a kill at any moment: checksummed, read back, the previous one kept.

A checkpoint is a `torch.save` file, which is a ZIP archive, whose archive comment holds the SHA-256
of all that stands before it. So one file carries its own checksum and `torch.load` still reads it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import warnings
from pathlib import Path
from typing import IO, Any

import torch

from genie.core.config import UserError
from genie.core.io import make_folder, sync_folder

CHUNK = 1 << 22
COMMENT_LENGTH = 64  # a SHA-256 in hexadecimal digits
TRAILER = 2 + COMMENT_LENGTH  # the comment and its length close a ZIP archive


class BadCheckpoint(Exception):
    """A checkpoint file is truncated, corrupt or not a checkpoint."""


def previous_path(path: Path) -> Path:
    """Returns where the checkpoint before the one at `path` is kept."""
    return path.with_name(path.name + ".previous")


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes a checkpoint so that at every moment a good one lies on the disk.

    The new file is written beside the old one, flushed to the disk, read back and compared with its
    checksum. Only then it takes the old one's place. The old one is kept as the previous one.

    Args:
        path: where the checkpoint goes; the folder is made if need be.
        state: tensors, numbers, strings, None, and dicts, lists and tuples of them.

    Raises:
        UserError: the disk is full or the folder cannot be written; what was there is intact.
    """
    temporary = path.with_name(f".{path.name}.tmp")  # what a killed run left is written over
    try:
        make_folder(path.parent)
        with temporary.open("w+b") as file:
            _save(state, file)
            file.flush()
            os.fsync(file.fileno())
        _verify(temporary)
        if path.exists():
            os.replace(path, previous_path(path))
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise UserError(advice(path, error)) from error
    except BadCheckpoint as error:
        raise UserError(
            f"{path}: the new checkpoint did not read back ({error}); check this disk. "
            "The checkpoint before it is kept."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """Reads a checkpoint onto the CPU, or the one before it where the newest is damaged.

    Returns:
        What was written, or None where there never was a checkpoint.

    Raises:
        UserError: there are files, but none is whole.
    """
    problems: list[str] = []
    for candidate in (path, previous_path(path)):
        if not candidate.exists():
            continue
        try:
            state = _load(candidate)
        except (BadCheckpoint, OSError) as error:
            problems.append(f"{candidate.name}: {error}")
            continue
        if problems:
            warnings.warn(f"{'; '.join(problems)}: going on from {candidate}", stacklevel=2)
        return state
    if problems:
        raise UserError(
            f"no whole checkpoint in {path.parent} ({'; '.join(problems)}): "
            f"delete {path.name}* there to train this stage from its start"
        )
    return None


class _HashingFile:
    """A binary file for `torch.save` to write to, which hashes what it writes.

    The last two bytes are held back: they are the archive's comment length, which is replaced.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.sha, self.held = file, hashlib.sha256(), b""
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data)
        tail = self.held + bytes(view[-2:])
        try:
            if len(view) > 2:
                self._pass(self.held)
                self._pass(view[:-2])
                tail = bytes(view[-2:])
            self._pass(tail[:-2])
        except OSError as error:  # torch would turn it into a RuntimeError
            self.error = error
            raise
        self.held = tail[-2:]
        return len(view)

    def _pass(self, data: Any) -> None:
        self.file.write(data)
        self.sha.update(data)

    def flush(self) -> None:
        self.file.flush()


def _save(state: dict[str, Any], file: IO[bytes]) -> None:
    hashing = _HashingFile(file)
    try:
        torch.save(state, hashing)  # type: ignore[arg-type]
    except Exception:
        if hashing.error is not None:
            raise hashing.error from None
        raise
    assert hashing.held == b"\0\0", "torch.save no longer ends with an empty archive comment"
    file.write(struct.pack("<H", COMMENT_LENGTH))
    file.write(hashing.sha.hexdigest().encode())


def _load(path: Path) -> dict[str, Any]:
    _verify(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a whole file that is no checkpoint of this version
        raise BadCheckpoint(f"cannot be loaded ({error})") from error


def _verify(path: Path) -> None:
    left = path.stat().st_size - TRAILER
    if left <= 0:
        raise BadCheckpoint("truncated")
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while left:
            chunk = file.read(min(CHUNK, left))
            if not chunk:
                raise BadCheckpoint("truncated")
            sha.update(chunk)
            left -= len(chunk)
        trailer = file.read()
    if trailer != struct.pack("<H", COMMENT_LENGTH) + sha.hexdigest().encode():
        raise BadCheckpoint("truncated or corrupt")


def advice(path: Path, error: BaseException) -> str:
    """Returns what to do about a checkpoint that could not be written."""
    kept = "Earlier checkpoints are intact: run the same command again to go on from them."
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if isinstance(error, OSError) and error.errno in full:
        return f"{path}: the disk is full ({error.strerror}). Make room. {kept}"
    return f"{path}: the checkpoint could not be written ({error}). {kept}"
