"""The toy's square as a real game: the ground says whether to go right or left."""

from __future__ import annotations

import gymnasium
import numpy as np
from toy import CELL, MOVES, NAMES, SIDE

SQUARE = "gym:GenieTest/Square-v0"
DARK, LIGHT = 40, 80
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


def expert(frames: np.ndarray) -> np.ndarray:
    """The right action for frames (N, 16, 16, 3)."""
    return np.where(np.median(frames[..., 1], axis=(1, 2)) < 60, RIGHT, LEFT)


def register() -> None:
    """Makes the game known to Gymnasium, once."""
    if "GenieTest/Square-v0" not in gymnasium.registry:
        gymnasium.register("GenieTest/Square-v0", Square, disable_env_checker=True)
