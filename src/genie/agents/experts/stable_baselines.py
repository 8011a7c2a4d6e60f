"""Any checkpoint of Stable-Baselines3 as a policy for recording."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from genie.core.config import UserError, require

KINDS = {
    "clip_range": "PPO", "exploration_fraction": "DQN", "target_policy_noise": "TD3",
    "target_entropy": "SAC", "ent_coef": "A2C",
}  # fmt: skip
"""Algorithms by a setting that only their checkpoints have; the first that is there counts."""


@dataclass(frozen=True)
class StableBaselines:
    """A policy for `genie.record`: frames u8 (N,H,W,3) to actions.

    A checkpoint holds pickles, which can run any code: load only your own. Actions are sampled.

    Attributes:
        path: what `model.save(path)` wrote.
    """

    path: Path

    def __post_init__(self) -> None:
        """Refuses what is no checkpoint, before anything is recorded."""
        _ = self._kind

    @property
    def __name__(self) -> str:
        """What sidecars call it."""
        return f"{self._kind} {self.path.stem}"

    def __call__(self, frames: np.ndarray) -> Any:
        """Returns an action for each game.

        Raises:
            UserError: the checkpoint acts on something else than these frames.
        """
        self._require_frames(frames)
        return self._model.predict(frames, deterministic=False)[0]

    @cached_property
    def _kind(self) -> str:
        known = f"{self.path}: not a checkpoint of Stable-Baselines3; give what `save` wrote"
        require(zipfile.is_zipfile(self.path), known)
        with zipfile.ZipFile(self.path) as file:
            require("data" in file.namelist(), known)
            settings = json.loads(file.read("data"))
        for setting, kind in KINDS.items():
            if setting in settings:
                return kind
        raise UserError(f"{self.path}: of another algorithm than {', '.join(KINDS.values())}")

    @cached_property
    def _model(self) -> Any:
        import stable_baselines3

        return getattr(stable_baselines3, self._kind).load(self.path, device="cpu")

    def _require_frames(self, frames: np.ndarray) -> None:
        shape = tuple(self._model.observation_space.shape)
        own = (*shape[1:], shape[0]) if shape[0] == 3 else shape
        wanted = f"{self.path}: acts on observations of {shape}, the game shows frames of"
        right = own == frames.shape[1:]
        require(right, f"{wanted} {frames.shape[1:]}; train it on these frames")
