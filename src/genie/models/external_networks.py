"""What makes features of clips and compares frames: fixed averages, or networks from local files.

A file is a TorchScript archive, the form in which Inception and I3D for Fréchet distances are
commonly passed on. Its weights are read without Python's pickle, but it holds a program, which
runs: load only files that you trust. Nothing is ever downloaded.
"""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from genie.core.config import UserError, require

if TYPE_CHECKING:
    pass


@runtime_checkable
class Extractor(Protocol):
    """Makes features of clips; each clip begins with the frame before those that count."""

    @property
    def name(self) -> str:
        """What stands beside every figure."""
        ...

    def features(self, frames: UInt8[Tensor, "b t h w 3"]) -> Float[Tensor, "b n d"]:
        """Rows of features: n is t - 1 for frames or steps between them, 1 for whole clips."""
        ...


class Pixels:
    """Colours averaged over a grid: needs no network and no labels, and is the same everywhere.

    It sees what lies where and in which colour, and neither sharpness nor motion.

    Args:
        side: rows and columns of the grid.
    """

    def __init__(self, side: int = 8):
        self.side, self.name = side, f"pixels-{side}x{side}"

    def features(self, frames: UInt8[Tensor, "b t h w 3"]) -> Float[Tensor, "b t-1 d"]:
        """The averages of every frame but the first, from 0 to 1."""
        pixels = frames[:, 1:].flatten(0, 1).movedim(-1, 1).float() / 255.0
        grid = F.adaptive_avg_pool2d(pixels, (self.side, self.side))
        return grid.flatten(1).unflatten(0, (frames.shape[0], frames.shape[1] - 1))


class NetworkFile:
    """A network from a file, under the name of the file and of its content.

    Args:
        path: TorchScript archive.
        device: where it runs.

    Attributes:
        name: the file's name without suffix, and the first digits of its SHA-256.

    Raises:
        UserError: there is no such file, or it is no TorchScript archive.
    """

    def __init__(self, path: str | Path, device: torch.device | str = "cpu"):
        path = Path(path)
        require(path.is_file(), f"{path}: there is no such file")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        self.name = f"{path.stem} (sha256 {digest[:12]})"
        self._path, self._device = path, device
        self._call = load_archive(path, device)

    def features(self, frames: UInt8[Tensor, "b t h w 3"]) -> Float[Tensor, "b n d"]:
        """Calls the network with a batch of clips, of which it makes (b, d) or (b, n, d)."""
        found = self._result(frames)
        found = found[:, None] if found.ndim == 2 else found
        if found.ndim != 3 or len(found) != len(frames):
            raise UserError(
                f"{self._path}: an extractor makes (b, d) or (b, n, d) of clips (b, t, h, w, 3), "
                f"this one made {tuple(found.shape)} of {tuple(frames.shape)}"
            )
        return found.float()

    def distance(
        self, real: UInt8[Tensor, "b h w 3"], predicted: UInt8[Tensor, "b h w 3"]
    ) -> Float[Tensor, " b"]:
        """Calls the network with two batches of frames, which it compares one by one."""
        found = self._result(real, predicted)
        if found.numel() != len(real):
            raise UserError(
                f"{self._path}: a distance is one number for each of {len(real)} pairs of frames "
                f"(b, h, w, 3), this network made {tuple(found.shape)}"
            )
        return found.flatten().float()

    def _result(self, *frames: Tensor) -> Tensor:
        try:
            found = self._call(*(part.to(self._device) for part in frames))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise UserError(
                f"{self._path}: does not take uint8 frames (..., height, width, 3): {reason}"
            ) from None
        if not isinstance(found, Tensor):
            raise UserError(f"{self._path}: has to return a tensor, not a {type(found).__name__}")
        return found


def load_archive(path: Path, device: torch.device | str) -> torch.jit.ScriptModule:
    """Reads a network from a TorchScript archive.

    Raises:
        UserError: the file is no such archive.
    """
    with warnings.catch_warnings():
        # Deprecated in favour of torch.export, whose archives evaluate expressions while loading.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return torch.jit.load(path, map_location=device).eval()
        except RuntimeError:
            raise UserError(
                f"{path}: not a TorchScript archive; make one with `torch.jit.trace(network, "
                "example).save(file)`"
            ) from None
