"""Pursuing a goal in the real game: plan, act a few steps, plan again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from genie.agents.planning.goals import Goal, Situation
from genie.agents.planning.search import SearchConfig, search
from genie.core.config import require

if TYPE_CHECKING:
    from genie.agents.planning.simulators import Simulator
    from genie.data.recording.environments import ProcgenBatch


@dataclass(frozen=True)
class PursuitConfig:
    """How a goal is pursued; the sizes are those of AdaWorld.

    Attributes:
        search: for each plan.
        executed: steps of a plan that are acted before the next plan is made.
        limit: steps after which the goal counts as missed.
    """

    search: SearchConfig = field(default_factory=SearchConfig)
    executed: int = 5
    limit: int = 20

    def __post_init__(self) -> None:
        """Refuses to act no step."""
        for name in ("executed", "limit"):
            require(getattr(self, name) >= 1, f"{name}: must be at least 1")


@dataclass(frozen=True)
class Outcome:
    """How a pursuit went.

    Attributes:
        reached: share of games that reached the goal; 0 or 1 for a single game.
        nearest: cells between the agent and the goal at the best step, the mean over games.
    """

    reached: float
    nearest: float


def pursue(
    goal: Goal, simulator: Simulator, game: ProcgenBatch, config: PursuitConfig, seed: int
) -> Outcome:
    """Pursues a goal by plans.

    Args:
        goal: a start and a picture.
        simulator: where plans are tried.
        game: one real game, in which they are acted.
        config: sizes.
        seed: of the plans that are sampled and of a world's random numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    trial = _Trial(goal, game)
    while trial.steps < config.limit and trial.open:
        sizes = config.search.within(config.limit - trial.steps)
        now, noise = trial.situation(), seed + trial.steps
        plan = search(
            lambda plans, now=now, noise=noise: simulator.score(now, goal, plans, noise),
            simulator.choices, sizes, generator,
        )  # fmt: skip
        for choice in plan.actions[: config.executed].tolist():
            if trial.open:
                trial.act([simulator.real_action(trial.frames[-1][0], choice)])
    return trial.outcome()


def play_randomly(
    goal: Goal, games: ProcgenBatch, actions: Sequence[int], limit: int, seed: int
) -> Outcome:
    """Plays from the start of a goal without a plan, once in each game.

    Args:
        goal: a start and a picture.
        games: real games.
        actions: that are taken, each equally often.
        limit: steps after which the goal counts as missed.
        seed: of the actions.
    """
    rng, trial = np.random.default_rng([seed, 31]), _Trial(goal, games)
    for _ in range(limit):
        trial.act(rng.choice(actions, games.num))
    return trial.outcome()


class _Trial:
    """Games that began where a goal begins, and how near they have come to it."""

    def __init__(self, goal: Goal, games: ProcgenBatch) -> None:
        self._goal, self._games = goal, games
        games.restore([goal.start.state] * games.num)
        self.frames = [frame[None] for frame in goal.start.frames]
        self._ended = np.zeros(games.num, bool)
        self._nearest = np.full(games.num, goal.distance)
        self.steps = 0

    @property
    def open(self) -> bool:
        """Whether a game can still reach the goal and has not."""
        return bool((~self._ended & (self._nearest >= self._goal.tolerance)).any())

    def situation(self) -> Situation:
        """Where the only game stands."""
        recent = self.frames[-len(self._goal.start.frames) :]
        return Situation(self._games.save()[0], np.concatenate(recent))

    def act(self, actions: Sequence[int] | np.ndarray) -> None:
        """Acts in each game. Those that end go no further."""
        step = self._games.step(np.asarray(actions), np.zeros(self._games.num, bool))
        self._ended |= step.terminated
        self.steps += 1
        self.frames.append(self._games.observe())
        there = np.array([self._goal.distance_from(state) for state in self._games.save()])
        self._nearest = np.where(self._ended, self._nearest, np.minimum(self._nearest, there))

    def outcome(self) -> Outcome:
        """How it went so far."""
        return Outcome(
            float((self._nearest < self._goal.tolerance).mean()), float(self._nearest.mean())
        )
