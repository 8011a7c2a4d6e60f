"""Balanced sampling: clips in which every latent action ends about as often as any other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from genie.data.sampler import BatchIndex


@dataclass(frozen=True)
class BalancedClips:
    """The clips of a store by the action of their last step.

    A share of the clips of each batch is replaced. The running number of a clip chooses its action,
    one after the other, and the clip is one that ends with it. Rare actions are then seen more
    often. See `TrainConfig.balanced_actions`; after 300 steps it changed
    little (`docs/experiments/2026-11-28-variants.md`).

    Args:
        windows: (n,) first frames of all clips.
        actions: (N,) action from each frame to the next.
        frames: T, frames per clip.
        share: of the clips that are replaced.
    """

    windows: np.ndarray
    actions: np.ndarray
    frames: int
    share: float

    @cached_property
    def groups(self) -> list[np.ndarray]:
        """First frames of the clips that end with each action; of actions that occur."""
        last = self.actions[self.windows + self.frames - 2]
        return [self.windows[last == action] for action in np.unique(last)]

    def __call__(self, index: BatchIndex, starts: np.ndarray, batch: int) -> np.ndarray:
        """Returns the first frames of the clips of a micro-batch.

        Args:
            index: of the micro-batch.
            starts: (b,) what is sampled without balance.
            batch: clips per optimizer step.
        """
        numbers = index.clip_numbers(batch)
        replaced = np.floor((numbers + 1) * self.share) > np.floor(numbers * self.share)
        chosen = np.floor(numbers * self.share).astype(int) % len(self.groups)
        starts = starts.copy()
        for action in np.unique(chosen[replaced]):
            rows = replaced & (chosen == action)
            others = index.clip_starts(self.groups[action], batch, salt=2 + int(action))
            starts[rows] = others[rows]
        return starts
