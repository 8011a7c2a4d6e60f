"""A world as a Gymnasium environment: one game."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from genie.core.numbers import seed_of
from genie.envs.episode import (
    DEFAULT_HORIZON,
    RewardFn,
    TerminationFn,
    checked_render_mode,
    pixels,
    rules_of,
)
from genie.world import inputs

if TYPE_CHECKING:  # torch takes seconds to import
    from genie.world.action_mapper import ActionMapper
    from genie.world.genie import Genie
    from genie.world.maskgit import SamplingConfig
    from genie.world.reward_model import RewardModel
    from genie.world.state import State


class GenieEnv(gymnasium.Env[np.ndarray, np.int64]):
    """One game in a world.

    Observations are frames, `uint8 (H, W, 3)`. Actions are the world's latent actions,
    `Discrete(A)`, or those of the real game, which `get_action_meanings` names. The same seed and
    the same actions give the same frames. `info` holds `step` (steps since the reset) and `prompt`
    (index of the prompt that the episode started from). With real actions it also holds the
    `latent_action` that was played.

    Args:
        world: a `Genie`, the folder of a saved one, or its id on the Hugging Face hub.
        prompt: where episodes start: an image (`uint8 (H, W, 3)`, a PIL image or a file) or
            several. Several are `(N, H, W, 3)`, a list of images or of clips `(T, H, W, 3)`, or a
            folder of images, of which each reset samples one. None takes those in the world's
            folder.
        horizon: steps after which an episode is truncated; None for never.
        reward_fn: `(frame, action, next_frame, info) -> float`; None gives zero.
        termination_fn: `(frame, action, next_frame, info) -> bool`; None never ends an episode.
        sampling: how frames are sampled; None takes the world's own settings.
        render_mode: None or `"rgb_array"`.
        device: where a world given as a path is put; None chooses.
        actions: `"latent"`, or `"real"` for the actions of the real game, numbered as there.
        mapper: of real actions: an `ActionMapper` or its folder. None takes the one beside the
            world, which `genie map` makes.
        reward: `"learned"` takes reward and end from the reward model beside the world, which
            `genie train --stages [reward]` makes; a `RewardModel` or its folder does as well. The
            reward is the expected one, and the end is sampled. Both are those of the state before
            the step and of the action.

    Raises:
        UserError: there is no prompt, mapper or reward model, one of them is of another world, or
            `horizon` is not positive.

    Bruce et al. 2024 (arXiv 2402.15391), section 3.3, trains agents in such an environment.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 15}  # noqa: RUF012 - Gymnasium's own form

    def __init__(
        self,
        world: Genie | str | Path,
        prompt: Any = None,
        *,
        horizon: int | None = DEFAULT_HORIZON,
        reward_fn: RewardFn | None = None,
        termination_fn: TerminationFn | None = None,
        sampling: SamplingConfig | None = None,
        render_mode: str | None = None,
        device: str | None = None,
        actions: str = "latent",
        mapper: ActionMapper | str | Path | None = None,
        reward: RewardModel | str | Path | None = None,
    ) -> None:
        self.render_mode = checked_render_mode(render_mode)
        self.rules = rules_of(
            world,
            prompt,
            device,
            horizon,
            reward_fn,
            termination_fn,
            sampling,
            actions,
            mapper,
            reward,
        )
        self.metadata = {**self.metadata, "render_fps": round(self.rules.world.config.fps)}
        self.observation_space = self.rules.observation_space
        self.action_space = self.rules.action_space
        self._state: State | None = None
        self._info: dict[str, Any] = {}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts a new episode.

        Args:
            seed: restarts the env's stream of prompts and game seeds; None goes on with it.
            options: `{"prompt": i}` starts from the prompt with index i instead of a random one.

        Raises:
            UserError: the seed or the index is none.
        """
        super().reset(seed=None if seed is None else seed_of(seed))
        index, game_seed = self.rules.sample_start(self.np_random, options)
        self._state = self.rules.world.start(self.rules.prompts[index], seed=game_seed)
        self._info = {"step": 0, "prompt": index}
        return pixels(self._state), dict(self._info)

    def step(
        self, action: int | np.integer | np.ndarray
    ) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Plays one action; returns (frame, reward, terminated, truncated, info).

        Raises:
            UserError: the action is none.
        """
        before = self._game()
        rules, frame = self.rules, pixels(before)
        actions = inputs.check_actions(action, len(rules.action_names), 1)
        latent = int(rules.latent_actions(frame[None], actions)[0])
        (learned,) = rules.learned(before, np.array([latent]))
        _, self._state = rules.world.step(before, latent, rules.sampling)
        after = pixels(self._state)
        self._info = {**self._info, "step": self._info["step"] + 1}
        info = dict(self._info)
        if rules.mapper is not None:
            info["latent_action"] = latent
        reward, terminated, truncated = rules.outcome(frame, int(actions[0]), after, info, learned)
        return after, reward, terminated, truncated, info

    def get_action_meanings(self) -> list[str]:
        """Returns a name for each action, as Atari's environments do."""
        return self.rules.action_names

    def render(self) -> np.ndarray | None:
        """Returns the current frame, `uint8 (H, W, 3)`; None without a render mode."""
        return None if self.render_mode is None else pixels(self._game())

    def _game(self) -> State:
        if self._state is None:
            raise gymnasium.error.ResetNeeded("call reset() before step() and render()")
        return self._state
