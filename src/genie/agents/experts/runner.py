"""A scripted runner for CoinRun, which sees no more than the frames."""

from __future__ import annotations

import numpy as np

RIGHT, RIGHT_UP, LEFT_UP = 7, 8, 2
"""Procgen's numbers of these actions."""


class Runner:
    """A policy for `genie.record`: frames u8 (N,H,W,3) to actions (N,).

    It runs to the right and jumps where the way ahead is not clear: when the scene has stopped
    scrolling, and now and then besides.

    Args:
        seed: of when it jumps for no reason.
    """

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        self._seen: np.ndarray | None = None
        self._jump = np.zeros(0, int)
        self._back = np.zeros(0, int)
        self._stuck = np.zeros(0, int)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Decides for every game."""
        count = len(frames)
        if self._seen is None or len(self._seen) != count:  # other games
            self._seen = np.zeros_like(frames)
            self._jump, self._back, self._stuck = (np.zeros(count, int) for _ in range(3))
        changed = (np.abs(frames.astype(int) - self._seen).max(-1) > 16).mean((1, 2))
        self._seen = frames.copy()
        self._stuck = np.where(changed < 0.05, self._stuck + 1, 0)
        wants = (self._stuck >= 2) | (self._random.random(count) < 0.2)
        self._jump = np.where(wants & (self._jump <= 0), 10, self._jump - 1)
        # A wall too high from where it stands is tried again with a run-up.
        self._back = np.where(self._stuck >= 14, 8, self._back - 1)
        actions = np.where(self._jump > 0, RIGHT_UP, RIGHT)
        return np.where(self._back > 0, LEFT_UP, actions)
