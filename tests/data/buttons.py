"""A game whose picture shows the last action and the step, to check what belongs to what."""

from __future__ import annotations

import gymnasium
import numpy as np

ACTIONS = 4


class Buttons(gymnasium.Env):
    """Ends by itself after `length` steps; the reward is the number of the action."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 15}  # noqa: RUF012

    def __init__(self, render_mode=None, length=20, drawn=True, first=0, space=None):
        self.render_mode = render_mode if drawn else None
        self.length = length
        self.action_space = space or gymnasium.spaces.Discrete(ACTIONS, start=first)
        self.observation_space = gymnasium.spaces.Box(0, 255, (32, 32, 3), np.uint8)
        self.first = first
        self.drawn = drawn

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seed, self.steps, self.last = seed, 0, 0
        return self._picture(), {}

    def step(self, action):
        self.steps += 1
        self.last = 1 + (int(action) - self.first if np.isscalar(action) else 0)
        return self._picture(), float(self.last - 1), self.steps >= self.length, False, {}

    def render(self):
        return self._picture()

    def _picture(self):
        picture = np.zeros((32, 32, 3), np.uint8)
        picture[:16, :, :] = 50 * self.last
        picture[16:, :, :] = 10 * min(self.steps, 25)
        return picture


class WithoutPicture(Buttons):
    """Has neither a picture to draw nor one to observe."""

    def __init__(self, render_mode=None):
        super().__init__(drawn=False)

    def _picture(self):
        return np.zeros(3, np.float32)


def register() -> None:
    """Makes the games known to Gymnasium, once."""
    for name, game in (("Buttons-v0", Buttons), ("WithoutPicture-v0", WithoutPicture)):
        if f"GenieTest/{name}" not in gymnasium.registry:
            gymnasium.register(f"GenieTest/{name}", game, disable_env_checker=True)


def last_actions(frames: np.ndarray) -> list[int]:
    """Reads the action before each frame from the pictures, -1 at the start."""
    return [round(float(frame[2:14].mean()) / 50) - 1 for frame in frames]


def steps(frames: np.ndarray) -> list[int]:
    """Reads the number of steps before each frame from the pictures."""
    return [round(float(frame[18:30].mean()) / 10) for frame in frames]
