"""How much a player earns in the real game, on levels that nothing was trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from genie.core.config import UserError, require
from genie.core.progress import Tick, ignore_tick
from genie.data.recording.environments import EnvBatch, LevelRange, make_env_batch
from genie.data.store import ClipStore
from genie.evaluation.metrics.formulas import DRAWS, bootstrap_weights

HELD_OUT = 1_000_000
"""First level to measure on. `genie record --num_levels` keeps recordings below it."""

Player = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""Takes the frames u8 (N,H,W,3) of some games, the numbers of the games (N,), and which have just
begun (N,); returns their actions (N,)."""


@dataclass(frozen=True)
class RealGameConfig:
    """Which games are played.

    Attributes:
        env: `procgen:<game>` or `gym:<Gymnasium id>`.
        distribution_mode: Procgen's `easy`, `hard`, `extreme` or `memory`.
        options: further options of the environment, as in `genie record`.
        first_level: first level (Procgen) or seed (Gymnasium).
        levels: how many levels.
        seeds: games of each level; they differ in what the player samples.
        max_steps: number of steps after which a game is cut off.
        num_envs: most games played at the same time.
    """

    env: str = "procgen:coinrun"
    distribution_mode: str = "easy"
    options: Mapping[str, Any] = field(default_factory=dict)
    first_level: int = HELD_OUT
    levels: int = 100
    seeds: int = 5
    max_steps: int = 1000
    num_envs: int = 64

    def __post_init__(self) -> None:
        """Refuses numbers of games that cannot be played."""
        require(self.first_level >= 0, "first_level: must not be negative")
        for name in ("levels", "seeds", "max_steps", "num_envs"):
            require(getattr(self, name) >= 1, f"{name}: must be at least 1")


def require_recorded(store: ClipStore, game: RealGameConfig) -> None:
    """Raises `UserError` for video that is known to be of another game than the one to test in."""
    require(
        store.environments in ([], [game.env]),
        f"{store.path}: is video of {' and '.join(store.environments)}, but the agent would be "
        f"tested in {game.env}; name the game of the video with --game.env",
    )


@dataclass(frozen=True)
class Returns:
    """What a player earned.

    Attributes:
        returns: sum of the rewards of each game.
        lengths: steps of each game.
    """

    returns: Float[Tensor, "levels seeds"]
    lengths: Int[Tensor, "levels seeds"]

    @property
    def mean(self) -> float:
        """Mean return of a game."""
        return self.returns.mean().item()

    def interval(self) -> tuple[float, float]:
        """Returns the 95 % interval of the mean: percentiles of a bootstrap over levels."""
        drawn = self._drawn()
        low, high = np.quantile(drawn, [0.025, 0.975])
        return float(low), float(high)

    def above(self, other: Returns) -> dict[str, float]:
        """Returns how much more was earned than by another player of the same levels.

        Returns:
            Mean difference with its 95 % interval, from a bootstrap over levels of both.
        """
        low, high = np.quantile(self._drawn() - other._drawn(), [0.025, 0.975])
        return {"mean": self.mean - other.mean, "low": float(low), "high": float(high)}

    def share(self, random: Returns, best: Returns) -> dict[str, float]:
        """Returns how far this is from random play to the best player: 0 to 1, or beyond.

        Returns:
            The share of the difference with its 95 % interval, from a bootstrap over the levels,
            which are the same for all three.
        """
        own, low, high = (returns._drawn() for returns in (self, random, best))
        drawn = (own - low) / np.where(high == low, np.nan, high - low)
        gap = best.mean - random.mean
        limits = np.nanquantile(drawn, [0.025, 0.975]) if gap else (np.nan, np.nan)
        mean = (self.mean - random.mean) / gap if gap else np.nan
        return {"mean": mean, "low": float(limits[0]), "high": float(limits[1])}

    def figures(self) -> dict[str, float]:
        """Returns mean, interval and mean length, for a report."""
        low, high = self.interval()
        length = self.lengths.double().mean().item()
        return {"mean": self.mean, "low": low, "high": high, "steps": length}

    def _drawn(self) -> np.ndarray:
        levels = self.returns.double().mean(1).numpy()
        weights = bootstrap_weights(len(levels), [0, 20], DRAWS).numpy()
        return weights @ levels / len(levels)


def measure(
    player: Player, config: RealGameConfig, seed: int = 0, on_game: Tick = ignore_tick
) -> Returns:
    """Plays every level as often as the configuration says.

    Args:
        player: chooses the actions.
        config: which games.
        seed: of the order of levels.
        on_game: called after each game, of which there are `levels` times `seeds`.

    Raises:
        UserError: no such environment, or it has not these levels.
    """
    make = make_env_batch(config.env, mode=config.distribution_mode, options=config.options)
    levels = LevelRange(config.first_level, config.levels)
    games = make(min(config.num_envs, config.levels * config.seeds), levels, seed)
    try:
        return _Match(games, config).play(player, on_game)
    finally:
        games.close()


def random_player(config: RealGameConfig, seed: int = 0) -> Player:
    """Returns a player that takes any action at each step, all equally often."""
    count, rng = len(action_names(config)), np.random.default_rng([seed, 21])
    return lambda frames, games, first: rng.integers(count, size=len(games))


def steady_player(action: int) -> Player:
    """Returns a player that always takes the same action."""
    return lambda frames, games, first: np.full(len(games), action)


def action_names(config: RealGameConfig) -> list[str]:
    """Returns the names of the game's actions.

    Raises:
        UserError: there is no such game, or its actions are not a list of choices.
    """
    make = make_env_batch(config.env, mode=config.distribution_mode, options=config.options)
    games = make(1, LevelRange(config.first_level, config.levels), 0)
    games.close()
    if games.action_names is None:
        raise UserError(f"{config.env}: its actions are not a list of choices")
    return games.action_names


class _Match:
    """The games that are played: a level that was begun often enough is skipped."""

    def __init__(self, games: EnvBatch, config: RealGameConfig):
        self._games, self._config = games, config
        shape = config.levels, config.seeds
        self._returns, self._lengths = torch.zeros(shape), torch.zeros(shape, dtype=torch.int64)
        self._begun = np.zeros(config.levels, int)
        # The level and the number of its game that each environment plays; -1 for none.
        self._slots = np.full((games.num, 2), -1)
        self._left = config.levels * config.seeds

    def play(self, player: Player, on_game: Tick) -> Returns:
        first = np.ones(self._games.num, bool)
        while self._left:
            self._begin(first)
            playing = np.flatnonzero(self._slots[:, 0] >= 0)
            actions = np.zeros(self._games.num, np.int64)
            if len(playing):
                seen = self._games.observe()[playing]
                actions[playing] = player(seen, playing, first[playing])
            first = self._step(actions, playing, on_game)
        return Returns(self._returns, self._lengths)

    def _begin(self, first: np.ndarray) -> None:
        for game in np.flatnonzero(first):
            level = self._games.levels[game] - self._config.first_level
            wanted = self._begun[level] < self._config.seeds
            self._slots[game] = (level, self._begun[level]) if wanted else -1
            self._begun[level] += wanted

    def _step(self, actions: np.ndarray, playing: np.ndarray, on_game: Tick) -> np.ndarray:
        # One that has nothing to play goes on to the next level, until all have begun.
        skipped = np.full(self._games.num, bool((self._begun < self._config.seeds).any()))
        skipped[playing] = False
        step = self._games.step(actions, skipped)
        ended = step.terminated | step.truncated
        for game in playing:
            slot = tuple(self._slots[game])
            self._returns[slot] += float(step.rewards[game])
            self._lengths[slot] += 1
            if ended[game] or int(self._lengths[slot]) >= self._config.max_steps:
                self._left -= 1
                self._slots[game] = -1
                on_game()
        return ended
