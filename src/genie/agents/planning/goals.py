"""Goals of a real game: pictures that a rollout reached some steps after a start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8

from genie.agents.planning.procgen_states import agent_position
from genie.core.config import UserError, require
from genie.data.recording.environments import LevelRange, ProcgenBatch, make_env_batch
from genie.data.recording.policies import ActionSampler, PolicyConfig

ROUNDS = 200
"""Rollouts of each game before it is given up to find goals."""


@dataclass(frozen=True)
class GoalConfig:
    """Which game is played, and which of its states are starts and goals.

    Attributes:
        env: `procgen:<game>`: only Procgen saves its states and says where the agent stands.
        distribution_mode: Procgen's `easy`, `hard`, `extreme` or `memory`.
        options: further options of the environment, as of `genie record`.
        first_level: of the levels.
        levels: how many levels there are.
        goals: how many goals, each in another level if there are enough.
        before: steps from the beginning of a level, or from the goal before, to a start.
        steps: steps of the rollout from a start to its goal.
        min_distance: cells between start and goal; nearer goals are reached by chance.
        tolerance: cells; an agent nearer than this to where it stood in the goal picture is there.
        actions: that the rollouts play, by name; one given twice is played twice as often. All
            that there are when left out.
        sticky_action_prob: probability that a rollout keeps its action.
        num_envs: games at the same time.
        seed: of the rollouts.
    """

    env: str = "procgen:coinrun"
    distribution_mode: str = "easy"
    options: Mapping[str, bool] = field(default_factory=dict)
    first_level: int = 1_000_000
    levels: int = 10_000
    goals: int = 30
    before: int = 15
    steps: int = 15
    min_distance: float = 2.0
    tolerance: float = 0.5
    actions: tuple[str, ...] | None = None
    sticky_action_prob: float = 0.85
    num_envs: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses games without states, and sizes that make no goals."""
        words = "planning needs a game whose states can be saved, procgen:<game>"
        require(self.env.startswith("procgen:"), f"env: {self.env!r}; {words}")
        for name in ("levels", "goals", "before", "steps", "num_envs"):
            require(getattr(self, name) >= 1, f"{name}: must be at least 1")
        far = self.min_distance >= self.tolerance > 0
        require(far, "tolerance: must be above 0 and at most min_distance")

    def games(self, count: int) -> ProcgenBatch:
        """Starts some games.

        Raises:
            UserError: there is no such game, option or level, or Procgen is not installed.
        """
        make = make_env_batch(self.env, mode=self.distribution_mode, options=self.options)
        games = make(count, LevelRange(self.first_level, self.levels), self.seed)
        assert isinstance(games, ProcgenBatch)
        return games


@dataclass(frozen=True, eq=False)
class Situation:
    """Where a game stands.

    Attributes:
        state: as saved.
        frames: what it showed last, the present frame at the end.
    """

    state: bytes
    frames: UInt8[np.ndarray, "t h w 3"]


@dataclass(frozen=True, eq=False)
class Goal:
    """A start and the picture to reach from there.

    Attributes:
        start: where the game begins.
        picture: what to reach.
        state: of the game in that picture. Only judges and rollouts know it.
        level: of the game.
        tolerance: as of `GoalConfig`.
    """

    start: Situation
    picture: UInt8[np.ndarray, "h w 3"]
    state: bytes
    level: int
    tolerance: float

    @property
    def distance(self) -> float:
        """Cells between the start and the goal."""
        return self.distance_from(self.start.state)

    def distance_from(self, state: bytes) -> float:
        """Returns the cells between where the agent stands in a state and in the goal."""
        return float(np.linalg.norm(agent_position(state) - agent_position(self.state)))


def make_goals(config: GoalConfig, history: int) -> list[Goal]:
    """Plays until there are enough goals.

    Args:
        config: which.
        history: how many frames a start shows, the present one included.

    Raises:
        UserError: as of `GoalConfig.games`, or hardly any rollout goes as far as it should.
    """
    games = config.games(config.num_envs)
    try:
        policy = PolicyConfig("sticky", config.sticky_action_prob, actions=config.actions)
        rollouts = _Rollouts(games, ActionSampler(policy, games, config.seed))
        found, wanted = dict[int, Goal](), min(config.goals, config.levels)
        for _ in range(ROUNDS):
            for goal in rollouts.goals(config, history):
                if goal.distance >= config.min_distance:
                    found.setdefault(goal.level, goal)
            if len(found) >= wanted:
                return list(found.values())[:wanted]
    finally:
        games.close()
    far = f"that lie {config.min_distance:g} cells from their start"
    raise UserError(f"there are only {len(found)} of {wanted} goals {far}; lower min_distance")


class _Rollouts:
    """Games that are played on and on, by turns to a start and to a goal."""

    def __init__(self, games: ProcgenBatch, sampler: ActionSampler) -> None:
        self._games, self._sampler = games, sampler
        self._first = np.ones(games.num, bool)

    def goals(self, config: GoalConfig, history: int) -> Iterator[Goal]:
        """Plays to a start and on to a goal, in all games; those that ended have none."""
        frames, early = self._play(max(config.before, history - 1))
        frames.append(self._games.observe())
        starts, levels = self._games.save(), self._games.levels
        _, late = self._play(config.steps)
        pictures, states = self._games.observe(), self._games.save()
        for game in np.flatnonzero(~(early | late)):
            seen = np.stack([frame[game] for frame in frames[-history:]])
            start = Situation(starts[game], seen)
            yield Goal(start, pictures[game], states[game], levels[game], config.tolerance)

    def _play(self, steps: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Returns the frames that were acted on, and which games ended."""
        frames, ended = [], np.zeros(self._games.num, bool)
        for _ in range(steps):
            frames.append(self._games.observe())
            actions = self._sampler(frames[-1], self._first)
            step = self._games.step(actions, np.zeros(self._games.num, bool))
            self._first = step.terminated
            ended |= self._first
        return frames, ended
