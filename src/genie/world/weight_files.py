"""The files of weights: one, or above a limit several parts and an index (the Hub's format).

The names of parts hold a hash of all weights. So a save never overwrites a part of another world,
and the rename of the index makes the new parts count at once. Where there is an index, a single
file beside it does not count.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from genie.core.config import UserError, require
from genie.core.io import read_bounded
from genie.world.rounding import Header

WEIGHTS = "model.safetensors"
INDEX_ENDING = ".index.json"
INDEX = WEIGHTS + INDEX_ENDING
PATTERNS = (WEIGHTS, INDEX, "model-*-of-*.safetensors")
"""Of all files that weights can lie in."""

MOST_BYTES = 5 * 10**9
"""Of a file of weights; a larger tensor has a part for itself."""
MOST_TENSORS = 2**14
MOST_PARTS = 256
MOST_HEADER_BYTES = 100_000_000
"""Of all parts together; safetensors reads as much of one file."""

PART = re.compile(r"model(-[0-9a-f]+)?-[0-9]{5}-of-[0-9]{5}\.safetensors")


def divided(tensors: Mapping[str, Tensor], most: int | str) -> dict[str, dict[str, Tensor]]:
    """Divides tensors among files.

    Args:
        tensors: by name.
        most: bytes of a file, as a number or like "5GB".

    Returns:
        The tensors of each file, by its name; one file where that is enough.

    Raises:
        UserError: the limit is not a size, or so small that there would be too many files.
    """
    from huggingface_hub import split_torch_state_dict_into_shards

    try:
        found = split_torch_state_dict_into_shards(
            dict(sorted(tensors.items())), max_shard_size=most
        )
    except ValueError as error:
        raise UserError(f"max_shard_size: {error}; give bytes or a size such as 5GB") from None
    parts = found.filename_to_tensors
    if not found.is_sharded:
        return {WEIGHTS: dict(tensors)}
    words = f"max_shard_size: {most} makes {len(parts):,} files, at most {MOST_PARTS} are read"
    require(len(parts) <= MOST_PARTS, f"{words}; give a larger size")
    start = f"model-{_hash_of(tensors)}-"
    return {
        name.replace("model-", start): {tensor: tensors[tensor] for tensor in names}
        for name, names in parts.items()
    }


def index_of(parts: Mapping[str, Mapping[str, Tensor]]) -> str:
    """Returns the text of the index of parts, as `divided` returns them."""
    where = {tensor: name for name, part in parts.items() for tensor in part}
    size = sum(tensor.nbytes for part in parts.values() for tensor in part.values())
    values = {"metadata": {"total_size": size}, "weight_map": where}
    return json.dumps(values, indent=2, sort_keys=True) + "\n"


def remove_others(folder: Path, kept: Mapping[str, object]) -> None:
    """Removes files of weights that do not count any more, the index first."""
    others = [INDEX] * (len(kept) == 1) + [WEIGHTS] * (len(kept) > 1)
    parts = [path.name for path in folder.glob(PATTERNS[-1]) if PART.fullmatch(path.name)]
    for name in others + sorted(set(parts) - set(kept)):
        (folder / name).unlink(missing_ok=True)


def are_there(folder: Path) -> bool:
    """Returns whether a folder has weights, in one file or with an index."""
    return any((folder / name).is_file() for name in (WEIGHTS, INDEX))


def files_of(folder: Path, name: str = WEIGHTS) -> list[Path]:
    """Returns the files that hold weights: one, or the parts of an index in order.

    Args:
        folder: of a world.
        name: of the file of weights where there is one.

    Raises:
        UserError: the index is damaged, names something else than parts, or a part lacks.
    """
    if not (folder / (name + INDEX_ENDING)).exists():
        return [folder / name]
    return list(_parts(folder, name))


def size_of(folder: Path) -> int:
    """Returns the bytes of the weights of a world.

    Raises:
        UserError: as of `files_of`.
    """
    return sum(path.stat().st_size for path in files_of(folder))


def digest_of(folder: Path) -> str:
    """Returns the SHA-256 of the weights of a world, of all parts one after the other.

    Raises:
        UserError: as of `files_of`.
    """
    sha = hashlib.sha256()
    for path in files_of(folder):
        with path.open("rb") as file:
            while block := file.read(2**20):
                sha.update(block)
    return sha.hexdigest()


def read_header(folder: Path, name: str = WEIGHTS) -> Header:
    """Reads type and shape of all weights, and nothing else.

    Raises:
        UserError: a file is damaged, or does not hold what the index says.
    """
    if not (folder / (name + INDEX_ENDING)).exists():
        return _header(folder / name)
    parts, header = _parts(folder, name), {}
    _check_header_bytes(folder, list(parts))
    for path, tensors in parts.items():
        found = _header(path)
        words = f"{path}: holds other weights than {name}{INDEX_ENDING} says"
        require(found.keys() == tensors, f"{words}; copy all files of the world again")
        header |= found
    return header


def read_tensors(folder: Path, name: str = WEIGHTS) -> dict[str, Tensor]:
    """Reads all weights as they are stored, to the CPU.

    Raises:
        UserError: a file is damaged.
    """
    tensors: dict[str, Tensor] = {}
    for path in files_of(folder, name):
        with damage_named(path):
            tensors |= load_file(path)
    return tensors


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turns errors of reading a file of weights into a sentence.

    Raises:
        UserError: the file is damaged, or is no file.
    """
    is_file = path.is_file() or not path.exists()
    require(is_file, f"{path}: is no file, but a pipe or a device; copy the weights again")
    try:
        yield
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: cut short or damaged ({error}); copy or train it again") from None


def _header(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    with damage_named(path), safetensors.safe_open(path, "pt") as file:
        names = list(file.keys())
        require(len(names) <= MOST_TENSORS, f"holds {len(names):,} tensors, which no world has")
        slices = {name: file.get_slice(name) for name in names}
        return {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}


def _parts(folder: Path, name: str) -> dict[Path, set[str]]:
    """Returns the parts that an index names, in order, and the names of their tensors."""
    path = folder / (name + INDEX_ENDING)
    try:
        where = _weight_map(json.loads(read_bounded(path)))
    except UserError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable ({error}); copy the world again") from None
    require(bool(where), f"{path}: is no index of weights; copy the world again")
    parts: dict[Path, set[str]] = {folder / part: set() for part in sorted(set(where.values()))}
    require(len(parts) <= MOST_PARTS, f"{path}: names {len(parts):,} files, which no world has")
    for tensor, part in where.items():
        parts[folder / part].add(tensor)
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise UserError(f"{path}: names {missing[0]}, which is no file here; copy it here again")
    return parts


def _weight_map(values: Any) -> dict[str, str]:
    """Returns the file of each tensor by an index; nothing where it is not one."""
    where = values.get("weight_map") if isinstance(values, dict) else None
    if not isinstance(where, dict) or len(where) > MOST_TENSORS:
        return {}
    names = where.values()
    return where if all(isinstance(name, str) and PART.fullmatch(name) for name in names) else {}


def _check_header_bytes(folder: Path, paths: list[Path]) -> None:
    total = 0
    for path in paths:
        with damage_named(path), path.open("rb") as file:
            total += int.from_bytes(file.read(8), "little")
    words = f"{folder}: the headers of its weights hold {total:,} bytes"
    require(total <= MOST_HEADER_BYTES, f"{words}, at most {MOST_HEADER_BYTES:,} are read")


def _hash_of(tensors: Mapping[str, Tensor]) -> str:
    sha = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()[:12]
