"""A game of one square that moves, and a world whose latent actions are the true ones renamed.

Frames are 16x16. Actions: noop, right, left, up; the square moves by 4 pixels around the edges.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import tensorstore
import torch

from genie.agents.labelled_steps import LabelledSteps
from genie.data.store import ClipStore, Episode, write_table, zarr_spec

SIDE, CELL = 16, 4
NAMES = ("noop", "right", "left", "up")
MOVES = np.array([[0, 0], [0, CELL], [0, -CELL], [-CELL, 0]])
PERMUTATION = torch.tensor([2, 0, 3, 1])
"""The latent action of each true one."""


def walk(actions: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Frames (T + 1, 16, 16, 3) of a square that takes actions (T,)."""
    places = np.concatenate([start[None], start + MOVES[actions].cumsum(0)]) % SIDE
    frames = np.full((len(places), SIDE, SIDE, 3), 40, np.uint8)
    for frame, (y, x) in zip(frames, places, strict=True):
        frame[y : y + CELL, x : x + CELL] = (230, 30, 30)
    return frames


def made_store(
    folder: Path, train: int = 12, val: int = 6, length: int = 30, names: object = NAMES
) -> ClipStore:
    """A store of random play on disk; without names it has no true actions."""
    rng = np.random.default_rng(0)
    splits = ["train"] * train + ["val"] * val
    actions = rng.integers(len(NAMES), size=(len(splits), length))
    clips = [walk(row[:-1], CELL * rng.integers(4, size=2)) for row in actions]
    episodes = [
        Episode(i, f"{i}.mp4", split, i * length, length, str(i)) for i, split in enumerate(splits)
    ]
    shape = [len(splits) * length, SIDE, SIDE, 3]
    array = tensorstore.open(zarr_spec(folder / "frames", SIDE, SIDE), create=True, shape=shape)
    array.result().write(np.concatenate(clips)).result()
    if names is not None:
        actions[:, -1] = -1
        np.save(folder / "labels.npy", actions.flatten())
    write_table(
        folder, height=SIDE, width=SIDE, fps=10.0, episodes=episodes, prepared={},
        action_names=names,
    )  # fmt: skip
    return ClipStore.open(folder)


class ToyWorld:
    """Reads the move off two frames; `noise` says a random latent action instead."""

    def __init__(self, noise: bool = False) -> None:
        self.config = SimpleNamespace(height=SIDE, width=SIDE, num_actions=4)
        self.device, self.noise, self.actions = torch.device("cpu"), noise, self
        self.past = 1

    def infer(self, frames: torch.Tensor) -> torch.Tensor:
        if self.noise:
            return torch.randint(4, (len(frames), frames.shape[1] - 1))
        square = (frames[..., 0] > 100).flatten(2).int().argmax(-1)
        places = torch.stack([square // SIDE, square % SIDE], -1)
        moved = places.diff(dim=1) % SIDE
        known = torch.from_numpy(MOVES) % SIDE
        return PERMUTATION[(moved[:, :, None] == known).all(-1).int().argmax(-1)]


def made_steps(
    latent: torch.Tensor, true: torch.Tensor, frames: torch.Tensor | None = None
) -> LabelledSteps:
    """Labelled steps of given actions, of grey frames where none are given."""
    if frames is None:
        frames = torch.full((len(true), 2, SIDE, SIDE, 3), 90, dtype=torch.uint8)
    return LabelledSteps(frames, latent, true, torch.arange(len(true)), NAMES, 4)
