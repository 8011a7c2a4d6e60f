"""Clips of a store: choosing some that do not overlap, and reading them batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from genie.core.config import UserError

if TYPE_CHECKING:
    from genie.data.store import ClipStore


def select_clips(
    store: ClipStore, split: str, length: int, count: int, seed: int
) -> Int64[np.ndarray, " n"]:
    """Chooses clips that do not overlap, spread over as many episodes as there are.

    Neighbouring windows of one episode show nearly the same thing; counting them as independent
    would make every interval too narrow. So each episode is cut into clips from a random offset,
    and a second clip of an episode is taken only when every episode has given its first.

    Args:
        store: the clip store.
        split: "train" or "val".
        length: frames per clip.
        count: how many clips are wanted; fewer are returned where the store has no more.
        seed: chooses the offsets and the clips.

    Returns:
        First frames of the clips, in the order of choice.

    Raises:
        UserError: the split holds no episode of `length` frames.
    """
    rng = np.random.default_rng(seed)
    episodes = [e for e in store.episodes if e.split == split and e.length >= length]
    if not episodes:
        raise UserError(
            f"The store has no {split!r} episode of {length} frames: choose another split, a "
            "shorter horizon, or prepare more videos."
        )
    turns = [rng.permutation(_cut(e.start, e.length, length, rng)) for e in episodes]
    chosen: list[int] = []
    for turn in range(max(map(len, turns))):
        starts = np.array([cuts[turn] for cuts in turns if len(cuts) > turn])
        chosen.extend(rng.permutation(starts)[: count - len(chosen)].tolist())
        if len(chosen) >= count:
            break
    return np.array(chosen, dtype=np.int64)


def _cut(start: int, frames: int, length: int, rng: np.random.Generator) -> np.ndarray:
    offset = rng.integers(frames % length + 1)
    return start + offset + length * np.arange(frames // length)


@dataclass(frozen=True)
class ClipBatches:
    """Clips of a store, read batch by batch as often as wanted.

    Attributes:
        store: where they are read from.
        starts: first frame of each clip.
        length: frames per clip.
        batch: clips read at once.
        device: where the frames are put.
    """

    store: ClipStore
    starts: Int64[np.ndarray, " n"]
    length: int
    batch: int
    device: torch.device | str = "cpu"

    @property
    def episodes(self) -> Int64[Tensor, " n"]:
        """The episode of each clip."""
        firsts = sorted(e.start for e in self.store.episodes)
        return torch.from_numpy(np.searchsorted(firsts, self.starts, side="right") - 1)

    def __len__(self) -> int:
        """Returns the number of batches."""
        return -(-len(self.starts) // self.batch)

    def __iter__(self) -> Iterator[UInt8[Tensor, "B T H W C"]]:
        """Yields the frames of each batch."""
        for first in range(0, len(self.starts), self.batch):
            starts = self.starts[first : first + self.batch]
            frames = np.array(self.store.windows(starts, self.length))
            yield torch.from_numpy(frames).to(self.device)
