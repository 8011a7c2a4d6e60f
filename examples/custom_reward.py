"""Give a world a goal: what counts as reward and as the end of an episode is yours to say.

A world draws pictures and knows nothing else, so both are functions of the pictures. This script
rewards movement, ends an episode when the picture stands still, and plays many games in one batch.

    python examples/custom_reward.py runs/coinrun --games 8 --steps 200
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np

import genie.envs

gym.register_envs(genie.envs)  # importing it has made the id "genie/World-v0" known


def movement(frame: np.ndarray, action: int, after: np.ndarray, info: dict[str, Any]) -> float:
    """The share of pixels that changed visibly; also left in `info` for the other function."""
    changed = np.abs(after.astype(int) - frame).max(axis=-1) > 16
    info["movement"] = float(changed.mean())
    return info["movement"]


def stands_still(frame: np.ndarray, action: int, after: np.ndarray, info: dict[str, Any]) -> bool:
    """True when nothing moved, once the game has begun."""
    return info["step"] > 4 and info["movement"] == 0.0


def main(args: Sequence[str] | None = None) -> None:
    options = parse(args)
    games = gym.make_vec(
        "genie/World-v0",
        num_envs=options.games,
        world=options.world,
        prompt=options.prompt,
        horizon=options.horizon,
        reward_fn=movement,
        termination_fn=stands_still,
    )
    games.action_space.seed(options.seed)
    games.reset(seed=options.seed)
    total, ends = np.zeros(options.games), 0
    for _ in range(options.steps):
        # One forward pass steps all games; those that ended begin anew by themselves.
        _, rewards, terminated, truncated, _ = games.step(games.action_space.sample())
        total += rewards
        ends += int((terminated | truncated).sum())
    games.close()
    print(f"mean reward per step {total.mean() / options.steps:.4f}, {ends} episodes ended")


def parse(args: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("world", help="folder of a world")
    parser.add_argument("--prompt", help="picture, or folder of them; default: the world's own")
    parser.add_argument("--games", type=int, default=8)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--horizon", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(args)


if __name__ == "__main__":
    main()
