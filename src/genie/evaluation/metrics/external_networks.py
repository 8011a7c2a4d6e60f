"""Networks that a user has as local files: to name features, and to compare pictures.

A file is a TorchScript archive, the form in which Inception and I3D for Fréchet distances are
commonly passed on. Its weights are read without Python's pickle, but it holds a program, which
runs: load only files that you trust. Nothing is ever downloaded.
"""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from genie.core.config import UserError, require

if TYPE_CHECKING:
    from collections.abc import Callable


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
        self._call = _loaded(path, device)

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


def _loaded(path: Path, device: torch.device | str) -> Callable[..., Any]:
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
