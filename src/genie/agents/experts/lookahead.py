"""An expert for CoinRun that tries out what comes of its actions in copies of the game."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genie.agents.planning.procgen_states import agent_position
from genie.core.config import require
from genie.data.recording.environments import EnvBatch, ProcgenBatch

FIRST = ("right+up", "right", "noop", "left", "left+up", "up")
THEN = ("right+up", "right")
DEAD, COIN = -1000.0, 1000.0


@dataclass(frozen=True)
class LookAhead:
    """Chooses the plan that gets furthest to the right, and to the coin, without dying.

    A plan holds one action for some steps and then runs to the right, with or without jumping. All
    plans are tried in copies of the game. It has been made for CoinRun, whose levels go from left
    to right.

    Attributes:
        horizon: steps of a plan.
        holds: for how many steps its first action may be held.
        commit: steps of the best plan that are played before new ones are tried.
        copies: games in which plans are tried, at least as many as there are plans.
    """

    horizon: int = 20
    holds: tuple[int, ...] = (4, 10)
    commit: int = 4
    copies: int = 160

    def attach(self, games: EnvBatch) -> _Planner:
        """Returns the player of some games.

        Raises:
            UserError: they are not Procgen's.
        """
        known = isinstance(games, ProcgenBatch)
        require(known, "the policy lookahead plays procgen:coinrun only: it needs saved states")
        assert isinstance(games, ProcgenBatch)
        return _Planner(self, games)


class _Planner:
    def __init__(self, config: LookAhead, games: ProcgenBatch):
        self._config, self._games = config, games
        self._plans = plans(config, games.action_names or [])
        self._per_round = max(1, config.copies // len(self._plans))
        self._copies = games.another(self._per_round * len(self._plans))
        self._chosen = np.zeros(games.num, int)
        self._played = np.full(games.num, config.commit)

    def __call__(self, frames: np.ndarray, first: np.ndarray) -> np.ndarray:
        due = np.flatnonzero(first | (self._played >= self._config.commit))
        if len(due):
            states = self._games.save()
            for part in range(0, len(due), self._per_round):
                some = due[part : part + self._per_round]
                self._chosen[some] = self._best([states[game] for game in some])
            self._played[due] = 0
        actions = self._plans[self._chosen, self._played]
        self._played += 1
        return actions

    def _best(self, states: list[bytes]) -> np.ndarray:
        """The number of the best plan from each state."""
        padded = states + states[-1:] * (self._per_round - len(states))
        count = len(self._plans)
        self._copies.restore([state for state in padded for _ in range(count)])
        scores = self._scores(np.tile(self._plans, (self._per_round, 1)))
        return scores.reshape(self._per_round, count).argmax(1)[: len(states)]

    def _scores(self, plans: np.ndarray) -> np.ndarray:
        """How good plans (copies, horizon) are."""
        found = np.full(len(plans), np.nan)
        nothing = np.zeros(len(plans), bool)
        for time in range(plans.shape[1]):
            step = self._copies.step(plans[:, time], nothing)
            over = step.terminated & np.isnan(found)
            value = np.where(step.rewards > 0, COIN - time, DEAD + time)
            found = np.where(over, value, found)
        alive = np.flatnonzero(np.isnan(found))
        states = self._copies.save()
        found[alive] = [agent_position(states[copy])[0] for copy in alive]
        return found


def plans(config: LookAhead, names: list[str]) -> np.ndarray:
    """Returns the plans that are tried, int64 (P, horizon), without repeats."""
    found = dict[tuple[int, ...], None]()
    for first in FIRST:
        for then in THEN:
            for hold in config.holds:
                a, b = names.index(first), names.index(then)
                found[(a,) * hold + (b,) * (config.horizon - hold)] = None
    return np.array(list(found))
