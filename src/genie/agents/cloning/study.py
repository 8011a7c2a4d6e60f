"""What has been trained and played already, so that a study goes on where it was stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from genie.agents.real_game import Returns
from genie.core.config import UserError
from genie.core.io import replacing


class Study:
    """Networks and games of a study in a folder; those of other settings are made anew.

    Args:
        folder: of the study.
        settings: what decides the results, as JSON has it.

    Raises:
        UserError: the folder cannot be written.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]):
        self._folder, self._file = folder, folder / "results.json"
        # As JSON gives it back.
        settings = json.loads(json.dumps(settings))
        self._kept: dict[str, Any] = {"settings": settings, "facts": {}, "games": {}}
        found = self._read()
        if found.get("settings") == settings:
            self._kept = found
        else:
            for old in folder.glob("*.safetensors"):
                old.unlink()
            self._write()

    def fact(self, name: str, make: Callable[[], Any]) -> Any:
        """Returns a figure, as JSON has it, which is made if it is not known."""
        facts = self._kept["facts"]
        if name not in facts:
            facts[name] = make()
            self._write()
        return facts[name]

    def games(self, name: str, play: Callable[[], Returns]) -> Returns:
        """Returns what a player earned, which plays if that is not known."""
        if name not in self._kept["games"]:
            found = play()
            parts = found.returns.tolist(), found.lengths.tolist()
            self._kept["games"][name] = dict(zip(("returns", "lengths"), parts, strict=True))
            self._write()
        kept = self._kept["games"][name]
        return Returns(torch.tensor(kept["returns"]), torch.tensor(kept["lengths"]))

    def trained(self, name: str, network: nn.Module, train: Callable[[], float]) -> float:
        """Loads the weights of a network, which is trained if there are none; returns its loss."""
        path = self._folder / f"{name}.safetensors"
        if path.is_file() and f"loss of {name}" in self._kept["facts"]:
            network.load_state_dict(load_file(path))
            network.requires_grad_(False).eval()
        else:
            loss = train()
            tensors = {key: value.contiguous() for key, value in network.state_dict().items()}
            with replacing(path) as temporary:
                save_file(tensors, temporary)
            self._kept["facts"][f"loss of {name}"] = loss
            self._write()
        return self._kept["facts"][f"loss of {name}"]

    def _read(self) -> dict[str, Any]:
        try:
            return json.loads(self._file.read_text("utf-8"))
        except (OSError, ValueError):
            return {}

    def _write(self) -> None:
        try:
            with replacing(self._file) as path:
                path.write_text(json.dumps(self._kept) + "\n", "utf-8")
        except OSError as error:
            raise UserError(f"cannot write to {self._folder}: {error}") from error
