"""Checkpoints to which each process writes its part; resumed on any number of processes.

A checkpoint is a folder of torch's distributed checkpoint with a header. It gets its name by one
rename, when all processes have written, flushed and read back. The header has the SHA-256 of each
file. Torch's index of the folder is a pickle: a run folder is private, and what is shared is the
world.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.utils._pytree import tree_leaves, tree_map

from genie.core.config import UserError
from genie.core.io import make_folder, sync_folder
from genie.training.checkpointing import advice, previous_path
from genie.training.distributed import all_results, first_alone, rank_and_size, together
from genie.training.sharding import all_agree, own_part

HEADER = "header.json"

T = TypeVar("T")


def write_sharded(path: Path, header: dict[str, Any], tensors: dict[str, Any]) -> None:
    """Writes a checkpoint so that at every moment a good one lies on the disk.

    All processes call this together. The checkpoint before is kept as the previous one.

    Args:
        path: the folder.
        header: what JSON can hold.
        tensors: nested dicts of tensors, of which each process has its part.

    Raises:
        UserError: a process could not write, or did not read back what it wrote.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        first_alone(partial(_explained, path, _begin, temporary))
        together(partial(_explained, path, _write, temporary, tensors))
        sums = all_results(partial(_explained, path, _checksums, temporary))
        files = {name: value for part in sums for name, value in part.items()}
        first_alone(partial(_explained, path, _finish, path, temporary, header | {"files": files}))
    finally:
        if rank_and_size()[0] == 0:
            shutil.rmtree(temporary, ignore_errors=True)


def read_header(path: Path) -> tuple[Path, dict[str, Any]] | None:
    """Returns the newest whole checkpoint and its header, or None where there never was one.

    All processes of a training call this together, and each looks through its share of the files.

    Raises:
        UserError: there are checkpoints, but none is whole.
    """
    problems = []
    for candidate in (path, previous_path(path)):
        if not candidate.is_dir():
            continue
        problem = _problem(candidate)
        if all_agree(not problem):
            if problems:
                warnings.warn(f"{'; '.join(problems)}: going on from {candidate}", stacklevel=2)
            return candidate, json.loads((candidate / HEADER).read_text("utf-8"))
        problems.append(f"{candidate.name}: {problem or 'damaged'}")
    if problems:
        raise UserError(
            f"no whole checkpoint in {path.parent} ({'; '.join(problems)}): delete {path.name}* "
            "there to train this stage from its start"
        )
    return None


def load_sharded(folder: Path, tensors: dict[str, Any]) -> None:
    """Overwrites tensors by those of a checkpoint, whatever number of processes wrote it."""
    state_dict_loader.load(tensors, checkpoint_id=folder)


def read_part(folder: Path, part: str) -> dict[str, Tensor]:
    """Returns the whole tensors of one part of a checkpoint, such as "average", on the CPU."""
    entries = FileSystemReader(folder).read_metadata().state_dict_metadata
    tensors = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)
        for name, entry in entries.items()
        if name.startswith(f"{part}.") and isinstance(entry, TensorStorageMetadata)
    }
    state_dict_loader.load(tensors, checkpoint_id=folder, no_dist=True)
    return {name.removeprefix(f"{part}."): value for name, value in tensors.items()}


def _explained(path: Path, work: Callable[..., T], *arguments: Any) -> T:
    """Calls something that writes to the disk, and says in its error what is left."""
    try:
        return work(*arguments)
    except OSError as error:
        raise UserError(advice(path, error)) from error
    except CheckpointException as error:  # the same in all processes
        reason, _ = next(iter(error.failures.values()))
        raise UserError(advice(path, reason)) from error


def _write(folder: Path, tensors: dict[str, Any]) -> None:
    """Writes and reads back the part of this process."""
    state_dict_saver.save(tensors, storage_writer=FileSystemWriter(folder))
    again = tree_map(_emptied, tensors)
    state_dict_loader.load(again, checkpoint_id=folder)
    pairs = zip(tree_leaves(tensors), tree_leaves(again), strict=True)
    same = all(torch.equal(own_part(wrote), own_part(read)) for wrote, read in pairs)
    if not same:
        raise OSError("it did not read back; check this disk")


def _emptied(values: Any) -> Any:
    return torch.full_like(values, -1) if isinstance(values, Tensor) else values


def _checksums(folder: Path) -> dict[str, str]:
    """Returns the checksums of this process's share of the files."""
    rank, size = rank_and_size()
    names = sorted(path.name for path in folder.iterdir())[rank::size]
    return {name: _sha(folder / name) for name in names}


def _problem(folder: Path) -> str:
    """What is wrong with this process's share of the files; "" where nothing is."""
    rank, size = rank_and_size()
    try:
        files = json.loads((folder / HEADER).read_text("utf-8"))["files"]
        wrong = [name for name in sorted(files)[rank::size] if _sha(folder / name) != files[name]]
    except (OSError, ValueError, KeyError) as error:
        return str(error)
    return f"{', '.join(wrong)} damaged" if wrong else ""


def _sha(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _begin(temporary: Path) -> None:
    shutil.rmtree(temporary, ignore_errors=True)
    make_folder(temporary.parent)


def _finish(path: Path, temporary: Path, header: dict[str, Any]) -> None:
    with (temporary / HEADER).open("w", encoding="utf-8") as file:
        json.dump(header, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(temporary)
    if path.exists():
        shutil.rmtree(previous_path(path), ignore_errors=True)
        os.replace(path, previous_path(path))
    os.replace(temporary, path)
    sync_folder(path.parent)
