"""A world on disk: `config.json` and `model.safetensors`, never a pickle."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from genie.core.config import UserError, require
from genie.core.io import read_bounded, replacing_all
from genie.world import rounding

FORMAT, VERSION = "genie-world", 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"
METADATA = {FORMAT: str(VERSION)}
"""Of the weights. It has one entry, because safetensors writes several in random order."""
OTHER_WEIGHTS = "they come from another world or another version: copy or train it again"
DYNAMICS = "dynamics."
MOST_TENSORS = 2**14
Shape = tuple[int, ...]
Value = TypeVar("Value")
PICKLES = {".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt"}


def write_world(
    folder: str | Path,
    config: dict[str, Any],
    weights: dict[str, Tensor],
    matrices: Collection[str] = (),
) -> None:
    """Writes a world; both of its files are replaced, or none.

    Args:
        folder: of the world; made if it does not exist.
        config: as JSON.
        weights: by name.
        matrices: names of weights to round to 8 bits. Where there are any, the others are in
            float16 where that loses nothing.

    Raises:
        UserError: the folder cannot be written or the disk is full; an older world is kept.
    """
    folder = Path(folder)
    tensors = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    tensors = rounding.rounded(tensors, matrices) if matrices else tensors
    text = json.dumps({"format": FORMAT, "version": VERSION, "config": config}, indent=2)
    try:
        with replacing_all(folder / WEIGHTS, folder / CONFIG) as (new_weights, new_config):
            save_file(tensors, new_weights, metadata=METADATA)
            new_config.write_text(text + "\n")
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
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(
                f"{folder}: no {name} here, so it is not a finished world; train one with "
                "`genie train`, or name another folder"
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
    path = Path(folder) / name
    with _damage_named(path):
        return rounding.shapes_of(_header(path))


def is_rounded(folder: str | Path) -> bool:
    """Returns whether some weights of a world have 8 bits.

    Raises:
        UserError: the file is cut short or damaged.
    """
    path = Path(folder) / WEIGHTS
    with _damage_named(path):
        return any(name.endswith(rounding.SCALE) for name in _header(path))


def _header(path: Path) -> rounding.Header:
    with safetensors.safe_open(path, "pt") as file:
        names = list(file.keys())
        require(len(names) <= MOST_TENSORS, f"holds {len(names):,} tensors, which no world has")
        slices = {name: file.get_slice(name) for name in names}
        return {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}


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
    path = Path(folder) / name
    with _damage_named(path):
        return rounding.restored(load_file(path))


def read_integers(folder: str | Path) -> list[tuple[Tensor, Tensor]]:
    """Reads the matrices of 8 bits of a world, and the scales of their rows.

    Raises:
        UserError: the file is cut short or damaged.
    """
    read_shapes(folder)  # checks that scales fit
    path = Path(folder) / WEIGHTS
    with _damage_named(path):
        tensors = load_file(path)
    return [
        (value, tensors[name + rounding.SCALE])
        for name, value in tensors.items()
        if value.dtype == torch.int8
    ]


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    is_file = path.is_file() or not path.exists()
    require(is_file, f"{path}: is no file, but a pipe or a device; copy the weights again")
    try:
        yield
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: cut short or damaged ({error}); copy or train it again") from None
