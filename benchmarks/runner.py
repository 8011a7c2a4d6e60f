"""A scripted runner for Procgen's CoinRun: play with a purpose, for `recipe.py play`.

It runs to the right and jumps where the way ahead is not clear: when the scene has stopped
scrolling, and now and then besides. `genie.record` replaces a share of its actions by random ones.

python benchmarks/runner.py videos/runner --frames 30000
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

import genie

OPTIONS = {"use_backgrounds": False, "restrict_themes": True}
RIGHT, RIGHT_UP, LEFT_UP = 7, 8, 2
"""Procgen's numbers of these actions."""


class Runner:
    """A policy for `genie.record`: frames u8 (N,H,W,3) to actions (N,).

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, nargs="?", help="folder; none: only say what there is")
    parser.add_argument("--frames", type=int, default=30_000)
    parser.add_argument("--random_action_prob", type=float, default=0.2)
    parser.add_argument("--append", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not options.out:
        parser.print_help()
        return
    genie.record(
        "procgen:coinrun",
        options.out,
        frames=options.frames,
        policy=Runner(options.seed),
        random_action_prob=options.random_action_prob,
        options=OPTIONS,
        append=options.append,
        seed=options.seed,
    )
    print(f"{options.out}: {coins(options.out):.2f} of the episodes reach the coin")


def coins(folder: Path) -> float:
    """The share of whole training episodes that end with a reward."""
    sides = [json.loads(file.read_text()) for file in folder.glob("train/*.actions.json")]
    ended = [side for side in sides if side.get("terminated")]
    return float(np.mean([sum(side["rewards"]) > 0 for side in ended])) if ended else 0.0


if __name__ == "__main__":
    main()
