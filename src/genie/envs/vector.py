"""A world as a vectorized Gymnasium environment: a batch of games in one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from genie.core.config import require
from genie.core.numbers import seed_of, seeds_of, whole_number, whole_numbers
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


class GenieVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """N games in a world, all stepped by one batched forward pass.

    Game i behaves like a `GenieEnv` with the same seed. An episode that ended starts anew at the
    next step (`AutoresetMode.NEXT_STEP`): that step ignores the game's action, rewards zero and
    leaves the other games as they are.

    Args:
        world: see `GenieEnv`.
        num_envs: games played at a time.
        prompt: see `GenieEnv`; all games start from the same prompts.
        horizon: see `GenieEnv`.
        max_episode_steps: Gymnasium's name for the horizon; of two given the lower one counts.
        reward_fn: see `GenieEnv`; called once for each game.
        termination_fn: see `GenieEnv`; called once for each game.
        sampling: see `GenieEnv`.
        render_mode: None or `"rgb_array"`.
        device: see `GenieEnv`.
        actions: see `GenieEnv`.
        mapper: see `GenieEnv`.
        reward: see `GenieEnv`; all games are rated at once.

    Raises:
        UserError: there is no prompt, or a number is not positive.
    """

    metadata = {  # noqa: RUF012 - Gymnasium's own form
        "render_modes": ["rgb_array"],
        "render_fps": 15,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        world: Genie | str | Path,
        num_envs: int = 1,
        prompt: Any = None,
        *,
        horizon: int | None = DEFAULT_HORIZON,
        max_episode_steps: int | None = None,
        reward_fn: RewardFn | None = None,
        termination_fn: TerminationFn | None = None,
        sampling: SamplingConfig | None = None,
        render_mode: str | None = None,
        device: str | None = None,
        actions: str = "latent",
        mapper: ActionMapper | str | Path | None = None,
        reward: RewardModel | str | Path | None = None,
    ) -> None:
        words = "num_envs: expected a whole number of games above 0"
        num_envs = whole_number(num_envs, words)
        require(num_envs > 0, f"{words}, got {num_envs}")
        self.render_mode = checked_render_mode(render_mode)
        limit = min((n for n in (horizon, max_episode_steps) if n is not None), default=None)
        self.rules = rules_of(
            world,
            prompt,
            device,
            limit,
            reward_fn,
            termination_fn,
            sampling,
            actions,
            mapper,
            reward,
        )
        self.metadata = {**self.metadata, "render_fps": round(self.rules.world.config.fps)}
        self.num_envs = num_envs
        self.single_observation_space = self.rules.observation_space
        self.single_action_space = self.rules.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._streams: list[np.random.Generator] = []
        self._games: State | None = None
        self._infos: list[dict[str, Any]] = []
        self._ended = np.zeros(num_envs, np.bool_)

    def reset(  # type: ignore[override]  # Gymnasium's own vector envs take a list of seeds as well
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts a new episode in every game.

        Args:
            seed: one seed per game, or an int s for s, s + 1, s + 2 and so on; None goes on.
            options: `{"prompt": i}` starts every game from the prompt with index i.

        Returns:
            Frames `uint8 (N, H, W, 3)` and the infos, arrays of length N.
        """
        self._seed_streams(seed)
        games = self._start(range(self.num_envs), options)
        self._games = _stack(games)
        self._ended[:] = False
        return pixels(self._games), self._merged(self._infos)

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Plays one action in every game, `(N,)`, in one batch.

        Returns:
            Frames `uint8 (N, H, W, 3)`, rewards `float64 (N,)`, terminated `bool (N,)`, truncated
            `bool (N,)`, and the infos, arrays of length N.
        """
        expected = f"actions: expected integers of shape ({self.num_envs},), one for each game"
        actions = whole_numbers(actions, expected)
        require(actions.shape == (self.num_envs,), f"{expected}, got {actions.shape}")
        inputs.check_range(actions, len(self.rules.action_names), "actions")
        running, before = ~self._ended, self._frames()
        latents = self.rules.latent_actions(before, actions)
        assert self._games is not None
        learned = self.rules.learned(self._games, latents)
        self._games = self._advance(latents, running)
        frames, infos = self._frames(), [dict(info) for info in self._infos]
        rewards = np.zeros(self.num_envs, np.float64)
        terminated, truncated = np.zeros((2, self.num_envs), np.bool_)
        for i in np.flatnonzero(running):
            infos[i]["step"] = self._infos[i]["step"] = self._infos[i]["step"] + 1
            if self.rules.mapper is not None:
                infos[i]["latent_action"] = int(latents[i])
            outcome = self.rules.outcome(
                before[i], int(actions[i]), frames[i], infos[i], learned[i]
            )
            rewards[i], terminated[i], truncated[i] = outcome
        self._ended = terminated | truncated
        return frames, rewards, terminated, truncated, self._merged(infos)

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Returns the current frame of every game; None without a render mode."""
        return None if self.render_mode is None else tuple(self._frames())

    def _advance(self, actions: np.ndarray, running: np.ndarray) -> State:
        assert self._games is not None
        world, sampling = self.rules.world, self.rules.sampling
        if running.all():
            return world.step(self._games, actions.tolist(), sampling)[1]
        games = self._games.split()
        going, ended = np.flatnonzero(running), np.flatnonzero(~running)
        if going.size:
            batch = _stack([games[i] for i in going])
            stepped = world.step(batch, actions[going].tolist(), sampling)[1].split()
            for i, game in zip(going, stepped, strict=True):
                games[i] = game
        for i, game in zip(ended, self._start(ended, None), strict=True):
            games[i] = game
        return _stack(games)

    def _start(
        self, indices: Sequence[int] | np.ndarray, options: dict[str, Any] | None
    ) -> list[State]:
        starts = [self.rules.sample_start(self._streams[i], options) for i in indices]
        for i, (prompt, _) in zip(indices, starts, strict=True):
            self._infos[i] = {"step": 0, "prompt": prompt}
        return self.rules.start(starts)

    def _seed_streams(self, seed: int | Sequence[int | None] | None) -> None:
        count = self.num_envs
        if isinstance(seed, list | tuple):
            require(len(seed) == count, f"seed: {count} games need {count} seeds, got {len(seed)}")
            seeds = [None if one is None else seed_of(one) for one in seed]
        else:
            seeds = [None] * count if seed is None else seeds_of(seed, count).tolist()
        if not self._streams:
            self._streams = [seeding.np_random()[0] for _ in range(count)]
            self._infos = [{} for _ in range(count)]
        for i, given in enumerate(seeds):
            if given is not None:
                self._streams[i] = seeding.np_random(given)[0]

    def _merged(self, infos: list[dict[str, Any]]) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for i, info in enumerate(infos):
            merged = self._add_info(merged, info, i)
        return merged

    def _frames(self) -> np.ndarray:
        if self._games is None:
            raise gymnasium.error.ResetNeeded("call reset() before step() and render()")
        return pixels(self._games)


def _stack(games: Sequence[State]) -> State:
    return type(games[0]).stack(list(games))
