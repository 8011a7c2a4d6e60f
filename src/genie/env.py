"""A world as a Gymnasium environment: one game (`GenieEnv`) or a batch of them (`GenieVectorEnv`).

    import gymnasium as gym, genie
    env = gym.make("genie/World-v0", world="runs/coinrun", prompt="prompt.png")
    envs = gym.make_vec("genie/World-v0", num_envs=8, world="runs/coinrun")

Both are thin adapters over `Genie.start` and `Genie.step`. A world knows pictures and latent
actions only: what counts as reward and as the end of an episode is yours to give.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from genie import inputs
from genie.config import UserError, require
from genie.prompts import load_prompts

if TYPE_CHECKING:  # torch takes seconds to import, and registering the ids must stay cheap
    from genie.maskgit import SamplingConfig
    from genie.world import Genie, State

ENV_ID = "genie/World-v0"
DEFAULT_HORIZON = 256

RewardFn = Callable[[np.ndarray, int, np.ndarray, dict[str, Any]], float]
TerminationFn = Callable[[np.ndarray, int, np.ndarray, dict[str, Any]], bool]


def register_envs() -> None:
    """Registers `genie/World-v0` with Gymnasium; doing it twice is harmless."""
    if ENV_ID not in gymnasium.registry:
        gymnasium.register(
            ENV_ID,
            entry_point="genie.env:GenieEnv",
            vector_entry_point="genie.env:GenieVectorEnv",
        )


@dataclass(frozen=True)
class _Rules:
    """What both environments share: the world, where games start, and how a step is judged."""

    world: Genie
    prompts: Sequence[np.ndarray]
    horizon: int | None
    reward_fn: RewardFn | None
    termination_fn: TerminationFn | None
    sampling: SamplingConfig | None

    def __post_init__(self) -> None:
        if self.horizon is not None:
            words = "horizon: expected a whole number of steps above 0, or None for no end"
            limit = inputs.whole_number(self.horizon, words)
            require(limit > 0, f"{words}, got {limit}")

    @property
    def observation_space(self) -> gymnasium.spaces.Box:
        config = self.world.config
        return gymnasium.spaces.Box(0, 255, (config.height, config.width, 3), np.uint8)

    @property
    def action_space(self) -> gymnasium.spaces.Discrete:
        return gymnasium.spaces.Discrete(self.world.config.num_actions)

    def draw(self, rng: np.random.Generator, options: dict[str, Any] | None) -> tuple[int, int]:
        """Draws (index of the prompt, seed of the game) for one episode from an env's stream."""
        index, seed = int(rng.integers(len(self.prompts))), int(rng.integers(2**31))
        known = f"options['prompt']: choose 0 to {len(self.prompts) - 1}"
        wanted = inputs.whole_number((options or {}).get("prompt", index), known)
        require(0 <= wanted < len(self.prompts), f"{known}, got {wanted}")
        return wanted, seed

    def start(self, drawn: Sequence[tuple[int, int]]) -> list[State]:
        """Starts a game for each (index of a prompt, seed), in one batch where lengths agree."""
        clips = [self.prompts[index] for index, _ in drawn]
        seeds = [seed for _, seed in drawn]
        if len({clip.shape for clip in clips}) > 1:
            return [self.world.start(clip, seed) for clip, seed in zip(clips, seeds, strict=True)]
        batch = np.stack([clip if clip.ndim == 4 else clip[None] for clip in clips])
        return self.world.start(batch, seeds).split()

    def judge(
        self, frame: np.ndarray, action: int, after: np.ndarray, info: dict[str, Any]
    ) -> tuple[float, bool, bool]:
        """Returns (reward, terminated, truncated) of one transition."""
        reward = self.reward_fn(frame, action, after, info) if self.reward_fn else 0.0
        ended = self.termination_fn(frame, action, after, info) if self.termination_fn else False
        return float(reward), bool(ended), self.horizon is not None and info["step"] >= self.horizon


class GenieEnv(gymnasium.Env[np.ndarray, np.int64]):
    """One game in a world.

    Observations are frames, `uint8 (H, W, 3)`; actions are the world's latent actions,
    `Discrete(A)`. The same seed and the same actions give the same frames. `info` holds `step`
    (steps since the reset) and `prompt` (index of the prompt that the episode started from).

    Args:
        world: a `Genie`, the folder of a saved one, or its id on the Hugging Face hub.
        prompt: where episodes start: a picture (`uint8 (H, W, 3)`, a PIL image or a file), or
            several (`(N, H, W, 3)`, a list of pictures or of clips `(T, H, W, 3)`, or a folder of
            pictures), of which each reset draws one. None takes those in the world's folder.
        horizon: steps after which an episode is truncated; None for never.
        reward_fn: `(frame, action, next_frame, info) -> float`; None gives zero.
        termination_fn: `(frame, action, next_frame, info) -> bool`; None never ends an episode.
        sampling: how frames are sampled; None takes the world's own settings.
        render_mode: None or `"rgb_array"`.
        device: where a world given as a path is put; None chooses.

    Raises:
        UserError: there is no prompt, or `horizon` is not positive.

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
    ) -> None:
        self.render_mode = _checked_render_mode(render_mode)
        self.rules = _rules(world, prompt, device, horizon, reward_fn, termination_fn, sampling)
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
            options: `{"prompt": i}` starts from the prompt with index i instead of drawing one.

        Raises:
            UserError: the seed or the index is none.
        """
        super().reset(seed=None if seed is None else inputs.seed_of(seed))
        index, game_seed = self.rules.draw(self.np_random, options)
        self._state = self.rules.world.start(self.rules.prompts[index], seed=game_seed)
        self._info = {"step": 0, "prompt": index}
        return _pixels(self._state), dict(self._info)

    def step(
        self, action: int | np.integer | np.ndarray
    ) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Plays one latent action; returns (frame, reward, terminated, truncated, info).

        Raises:
            UserError: the action is none.
        """
        before = self._game()
        action = int(inputs.actions_of(action, self.rules.world.config.num_actions, 1)[0])
        _, self._state = self.rules.world.step(before, action, self.rules.sampling)
        frame, after = _pixels(before), _pixels(self._state)
        self._info = {**self._info, "step": self._info["step"] + 1}
        info = dict(self._info)
        reward, terminated, truncated = self.rules.judge(frame, action, after, info)
        return after, reward, terminated, truncated, info

    def render(self) -> np.ndarray | None:
        """Returns the current frame, `uint8 (H, W, 3)`; None without a render mode."""
        return None if self.render_mode is None else _pixels(self._game())

    def _game(self) -> State:
        if self._state is None:
            raise gymnasium.error.ResetNeeded("call reset() before step() and render()")
        return self._state


class GenieVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """N games in a world, all stepped by one batched forward pass.

    Game i behaves like a `GenieEnv` with the same seed. An episode that ended starts anew at the
    next step (`AutoresetMode.NEXT_STEP`): that step ignores the game's action, rewards zero and
    leaves the other games as they are.

    Args:
        world: see `GenieEnv`.
        num_envs: games played at a time.
        prompt: see `GenieEnv`; all games draw from the same prompts.
        horizon: see `GenieEnv`.
        max_episode_steps: Gymnasium's name for the horizon; of two given the lower one counts.
        reward_fn: see `GenieEnv`; called once for each game.
        termination_fn: see `GenieEnv`; called once for each game.
        sampling: see `GenieEnv`.
        render_mode: None or `"rgb_array"`.
        device: see `GenieEnv`.

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
    ) -> None:
        words = "num_envs: expected a whole number of games above 0"
        num_envs = inputs.whole_number(num_envs, words)
        require(num_envs > 0, f"{words}, got {num_envs}")
        self.render_mode = _checked_render_mode(render_mode)
        limit = min((n for n in (horizon, max_episode_steps) if n is not None), default=None)
        self.rules = _rules(world, prompt, device, limit, reward_fn, termination_fn, sampling)
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
        return _pixels(self._games), self._merged(self._infos)

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Plays one latent action in every game, `(N,)`, in one batch.

        Returns:
            Frames `uint8 (N, H, W, 3)`, rewards `float64 (N,)`, terminated `bool (N,)`, truncated
            `bool (N,)`, and the infos, arrays of length N.
        """
        expected = f"actions: expected integers of shape ({self.num_envs},), one for each game"
        actions = inputs.whole_numbers(actions, expected)
        require(actions.shape == (self.num_envs,), f"{expected}, got {actions.shape}")
        inputs.check_range(actions, self.rules.world.config.num_actions, "actions")
        running, before = ~self._ended, self._frames()
        self._games = self._advance(actions, running)
        frames, infos = self._frames(), [dict(info) for info in self._infos]
        rewards = np.zeros(self.num_envs, np.float64)
        terminated, truncated = np.zeros((2, self.num_envs), np.bool_)
        for i in np.flatnonzero(running):
            infos[i]["step"] = self._infos[i]["step"] = self._infos[i]["step"] + 1
            verdict = self.rules.judge(before[i], int(actions[i]), frames[i], infos[i])
            rewards[i], terminated[i], truncated[i] = verdict
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
        drawn = [self.rules.draw(self._streams[i], options) for i in indices]
        for i, (prompt, _) in zip(indices, drawn, strict=True):
            self._infos[i] = {"step": 0, "prompt": prompt}
        return self.rules.start(drawn)

    def _seed_streams(self, seed: int | Sequence[int | None] | None) -> None:
        count = self.num_envs
        if isinstance(seed, list | tuple):
            require(len(seed) == count, f"seed: {count} games need {count} seeds, got {len(seed)}")
            seeds = [None if one is None else inputs.seed_of(one) for one in seed]
        else:
            seeds = [None] * count if seed is None else inputs.seeds_of(seed, count).tolist()
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
        return _pixels(self._games)


def _rules(
    world: Genie | str | Path,
    prompt: Any,
    device: str | None,
    horizon: int | None,
    reward_fn: RewardFn | None,
    termination_fn: TerminationFn | None,
    sampling: SamplingConfig | None,
) -> _Rules:
    folder = world
    if isinstance(world, str | Path):
        from genie.world import Genie, locate

        folder = locate(world)
        world = Genie.from_pretrained(folder, device=device)
    prompts = load_prompts(prompt, world.config.height, world.config.width, folder)
    return _Rules(world, prompts, horizon, reward_fn, termination_fn, sampling)


def _checked_render_mode(render_mode: str | None) -> str | None:
    allowed = (None, "rgb_array")
    if render_mode not in allowed:
        raise UserError(f"render_mode: {render_mode!r} is not known, use 'rgb_array' or None")
    return render_mode


def _stack(games: Sequence[State]) -> State:
    return type(games[0]).stack(list(games))


def _pixels(state: State) -> np.ndarray:
    """The last frame(s) as the caller's own array."""
    return np.array(state.frame.cpu().numpy())


# Gymnasium's convention: importing the module makes its ids known; also genie.env:genie/World-v0.
register_envs()
