"""A world on disk: `config.json` and its weights in safetensors, never a pickle."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from genie.core.config import UserError, require
from genie.core.io import read_bounded, replacing_all
from genie.world import rounding, weight_files
from genie.world.weight_files import INDEX, WEIGHTS

FORMAT, VERSION = "genie-world", 1
CONFIG = "config.json"
METADATA = {FORMAT: str(VERSION)}
"""Of the weights. It has one entry, because safetensors writes several in random order."""
OTHER_WEIGHTS = "they come from another world or another version: copy or train it again"
DYNAMICS = "dynamics."
Shape = tuple[int, ...]
Value = TypeVar("Value")
PICKLES = {".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt"}


def write_world(
    folder: str | Path,
    config: dict[str, Any],
    weights: dict[str, Tensor],
    matrices: Collection[str] = (),
    max_shard_size: int | str = weight_files.MOST_BYTES,
) -> None:
    """Writes a world; configuration and weights are replaced, or nothing is.

    Args:
        folder: of the world; made if it does not exist.
        config: as JSON.
        weights: by name.
        matrices: names of weights to round to 8 bits. Where there are any, the others are in
            float16 where that loses nothing.
        max_shard_size: bytes of a file of weights, as a number or like "5GB". Above it there are
            several, and an index (`genie.world.weight_files`).

    Raises:
        UserError: the folder cannot be written or the disk is full; an older world is kept.
    """
    folder = Path(folder)
    tensors = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    tensors = rounding.rounded(tensors, matrices) if matrices else tensors
    files = weight_files.divided(tensors, max_shard_size)
    text = json.dumps({"format": FORMAT, "version": VERSION, "config": config}, indent=2)
    texts = {INDEX: weight_files.index_of(files)} if len(files) > 1 else {}
    texts[CONFIG] = text + "\n"
    try:
        with replacing_all(*(folder / name for name in (*files, *texts))) as new:
            for path, part in zip(new, files.values(), strict=False):
                save_file(part, path, metadata=METADATA)
            for path, content in zip(new[len(files) :], texts.values(), strict=True):
                path.write_text(content)
        weight_files.remove_others(folder, files)
    except (OSError, safetensors.SafetensorError) as error:
        reason = "the disk is full" if getattr(error, "errno", 0) == errno.ENOSPC else str(error)
        raise UserError(
            f"cannot write a world to {folder}: {reason}; free some space or name another folder "
            "(nothing that was there is lost)"
        ) from error


def read_config(folder: str | Path) -> Any:
    """Reads the configuration of a world and checks that this version can load it.

    Raises:
        UserError: there is no world, a pickle beside it, or a world of another version.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such world folder")
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in PICKLES)
    if pickles:
        raise UserError(
            f"{folder} holds a pickle ({pickles[0]}), which can run any code when it is opened: "
            f"remove it, a world is {CONFIG} and {WEIGHTS} alone"
        )
    found = {CONFIG: (folder / CONFIG).is_file(), WEIGHTS: weight_files.are_there(folder)}
    for name, is_there in found.items():
        require(
            is_there,
            f"{folder}: no {name} here, so it is not a finished world; train one with "
            "`genie train`, or name another folder",
        )
    try:
        values = json.loads(read_bounded(folder / CONFIG))
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        raise UserError(f"{folder / CONFIG}: not readable as JSON ({error})") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise UserError(f"{folder / CONFIG}: not the configuration of a Genie world")
    if values.get("version") != VERSION:
        raise UserError(
            f"{folder}: a world of version {values.get('version')}, this program reads version "
            f"{VERSION}; install the matching genie-worlds or train the world again"
        )
    return values.get("config")


@dataclass(frozen=True)
class Part:
    """How something that belongs to a world, such as a mapper, lies on disk.

    Attributes:
        what: it is, with its article.
        command: that makes one.
        format: as its `config.json` says.
        version: of the format.
        weights: name of the file of weights.
    """

    what: str
    command: str
    format: str
    version: int = 1
    weights: str = WEIGHTS

    def write(self, folder: Path, config: dict[str, Any], weights: dict[str, Tensor]) -> None:
        """Writes configuration and weights; both files are replaced, or none.

        Raises:
            UserError: the folder cannot be written; what was there is kept.
        """
        values = {"format": self.format, "version": self.version, "config": config}
        tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
        try:
            with replacing_all(folder / self.weights, folder / CONFIG) as (new_weights, new_config):
                save_file(tensors, new_weights, metadata={self.format: str(self.version)})
                new_config.write_text(json.dumps(values, indent=2) + "\n", "utf-8")
        except (OSError, safetensors.SafetensorError) as error:
            raise UserError(f"cannot write {self.what} to {folder}: {error}") from error

    def read_config(self, folder: Path) -> Any:
        """Reads the configuration.

        Raises:
            UserError: there is none, or one of another version.
        """
        path = folder / CONFIG
        missing = f"{folder}: there is no {self.what.partition(' ')[2]} here; make one with"
        require(path.is_file(), f"{missing} `{self.command}`")
        try:
            values = json.loads(read_bounded(path))
        except UserError:
            raise
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: not readable as JSON ({error})") from None
        known = isinstance(values, dict) and values.get("format") == self.format
        require(known, f"{missing} `{self.command}`")
        version = values.get("version")
        words = f"{folder}: {self.what} of version {version}, this program reads version"
        again = f"make it again with `{self.command}`"
        require(version == self.version, f"{words} {self.version}; {again}")
        return values.get("config")

    def load(self, folder: Path, module: nn.Module) -> None:
        """Loads weights into a module.

        Raises:
            UserError: the file is damaged, or has the weights of another configuration.
        """
        wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
        check_shapes(wanted, read_shapes(folder, self.weights), folder)
        module.load_state_dict(read_weights(folder, self.weights))


def read_shapes(folder: str | Path, name: str = WEIGHTS) -> dict[str, Shape]:
    """Reads the shapes of weights from the header of the file only.

    Args:
        folder: of a world.
        name: of the file of weights.

    Raises:
        UserError: the file is cut short or damaged.
    """
    header = weight_files.read_header(Path(folder), name)
    with weight_files.damage_named(Path(folder) / name):
        return rounding.shapes_of(header)


def is_rounded(folder: str | Path) -> bool:
    """Returns whether some weights of a world have 8 bits.

    Raises:
        UserError: the file is cut short or damaged.
    """
    return any(name.endswith(rounding.SCALE) for name in weight_files.read_header(Path(folder)))


def rename_dynamics(weights: Mapping[str, Value], rename: Callable[[str], str]) -> dict[str, Value]:
    """Renames the weights of the dynamics model, whose names differ between versions.

    Args:
        weights: weights of a world, or what is known of them, by name.
        rename: from a name within the dynamics to another.

    Returns:
        The same values, in the same order.
    """
    return {
        DYNAMICS + rename(name.removeprefix(DYNAMICS)) if name.startswith(DYNAMICS) else name: value
        for name, value in weights.items()
    }


def check_layers(layers: int, shapes: Mapping[str, Shape], folder: Path) -> None:
    """Checks that a configuration does not have more layers than the weights have tensors.

    Args:
        layers: of the configuration.
        shapes: of the weights, by name.
        folder: for the message.

    Raises:
        UserError: the weights come from another world.
    """
    require(
        layers <= len(shapes),
        f"{folder}: the weights do not fit the configuration ({layers} layers, {len(shapes)} "
        f"tensors); {OTHER_WEIGHTS}",
    )


def check_shapes(wanted: Mapping[str, Shape], shapes: Mapping[str, Shape], folder: Path) -> None:
    """Checks that weights have the shapes of the configuration.

    Args:
        wanted: shapes of the configuration, by name.
        shapes: of the weights, by name.
        folder: for the message.

    Raises:
        UserError: the weights come from another world; the message names a tensor.
    """
    wrong = sorted(n for n in wanted.keys() | shapes.keys() if wanted.get(n) != shapes.get(n))
    if wrong:
        there, here = (sizes.get(wrong[0], "missing") for sizes in (shapes, wanted))
        raise UserError(
            f"{folder}: the weights do not fit the configuration ({wrong[0]} is {there} in the "
            f"weights, {here} in the configuration; {len(wrong)} such); {OTHER_WEIGHTS}"
        )


def read_weights(folder: str | Path, name: str = WEIGHTS) -> dict[str, Tensor]:
    """Reads weights to the CPU, those of 8 bits to float32.

    Args:
        folder: of a world.
        name: of the file of weights.

    Raises:
        UserError: the file is cut short or damaged.
    """
    read_shapes(folder, name)  # checks that scales fit
    return rounding.restored(weight_files.read_tensors(Path(folder), name))


def read_integers(folder: str | Path) -> list[tuple[Tensor, Tensor]]:
    """Reads the matrices of 8 bits of a world, and the scales of their rows.

    Raises:
        UserError: the file is cut short or damaged.
    """
    read_shapes(folder)  # checks that scales fit
    tensors = weight_files.read_tensors(Path(folder))
    return [
        (value, tensors[name + rounding.SCALE])
        for name, value in tensors.items()
        if value.dtype == torch.int8
    ]
