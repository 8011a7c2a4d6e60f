"""The toy's square as a real game: the ground says whether to go right or left."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import tensorstore
from toy import CELL, MOVES, NAMES, SIDE

from genie.data.store import ClipStore, Episode, write_table, zarr_spec

SQUARE = "gym:GenieTest/Square-v0"
DARK, LIGHT = 5, 95
RIGHT, LEFT = NAMES.index("right"), NAMES.index("left")
LENGTH = 6


class Square(gymnasium.Env):
    """Rewards a step to the right on dark ground, and one to the left on light ground."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, render_mode=None, length=LENGTH, space=None):
        self.render_mode, self.length = render_mode, length
        self.action_space = space or gymnasium.spaces.Discrete(len(NAMES))
        self.observation_space = gymnasium.spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)

    def get_action_meanings(self):
        return list(NAMES)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.ground = (DARK, LIGHT)[int(self.np_random.integers(2))]
        self.place, self.steps = CELL * self.np_random.integers(4, size=2), 0
        return self.render(), {}

    def step(self, action):
        right = action == (RIGHT if self.ground == DARK else LEFT)
        self.place, self.steps = (self.place + MOVES[action]) % SIDE, self.steps + 1
        return self.render(), float(right), self.steps >= self.length, False, {}

    def render(self):
        frame = np.full((SIDE, SIDE, 3), self.ground, np.uint8)
        y, x = self.place
        frame[y : y + CELL, x : x + CELL] = (230, 30, 30)
        return frame


class Unnamed(Square):
    """The same without names of its actions."""

    def get_action_meanings(self):
        return []


def expert(frames: np.ndarray) -> np.ndarray:
    """The right action for frames (N, 16, 16, 3)."""
    return np.where(np.median(frames[..., 1], axis=(1, 2)) < 60, RIGHT, LEFT)


def register() -> None:
    """Makes the game known to Gymnasium, once."""
    if "GenieTest/Square-v0" not in gymnasium.registry:
        gymnasium.register("GenieTest/Square-v0", Square, disable_env_checker=True)
        gymnasium.register("GenieTest/Unnamed-v0", Unnamed, disable_env_checker=True)


def expert_store(folder: Path, train: int = 30, val: int = 8) -> ClipStore:
    """A store of expert play, its true actions and its rewards."""
    clips, actions = [], []
    for seed in range(train + val):
        game = Square("rgb_array")
        frames, played = [game.reset(seed=seed)[0]], []
        for _ in range(LENGTH):
            played.append(int(expert(frames[-1][None])[0]))
            frames.append(game.step(played[-1])[0])
        clips.append(np.stack(frames))
        actions.append([*played, -1])
    splits, length = ["train"] * train + ["val"] * val, LENGTH + 1
    episodes = [
        Episode(i, f"{i}.mp4", split, i * length, length, str(i)) for i, split in enumerate(splits)
    ]
    spec = zarr_spec(folder / "frames", SIDE, SIDE)
    shape = [len(splits) * length, SIDE, SIDE, 3]
    tensorstore.open(spec, create=True, shape=shape).result().write(np.concatenate(clips)).result()
    np.save(folder / "labels.npy", np.array(actions).flatten())
    rewards = np.where(np.array(actions) >= 0, 1.0, np.nan).astype(np.float32)
    np.save(folder / "rewards.npy", rewards.flatten())
    ends = np.array([[0] * (LENGTH - 1) + [1, -1]] * len(splits), np.int8)
    np.save(folder / "ends.npy", ends.flatten())
    write_table(
        folder, height=SIDE, width=SIDE, fps=10.0, episodes=episodes, prepared={},
        action_names=NAMES,
    )  # fmt: skip
    return ClipStore.open(folder)
