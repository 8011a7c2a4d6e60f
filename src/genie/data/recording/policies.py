"""Which actions are played while an environment is recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np

from genie.core.config import UserError, require
from genie.data.recording.environments import EnvBatch

PolicyName = Literal["random", "sticky", "restless", "mixture"]
Function = Callable[[np.ndarray], Any]


@runtime_checkable
class Expert(Protocol):
    """A policy that needs to know more of the games than what they show."""

    def attach(self, games: EnvBatch) -> Callable[[np.ndarray, np.ndarray], Any]:
        """Returns the player of some games.

        It takes frames u8 (N,H,W,3) and where an episode begins (N,), and returns actions (N,).
        """
        ...


Policy = Function | Expert


@dataclass(frozen=True)
class PolicyConfig:
    """A policy and its probabilities; `genie.record` says what they mean.

    Raises:
        UserError: no such policy, or a probability outside 0..1.
    """

    policy: PolicyName | Policy = "sticky"
    sticky_action_prob: float = 0.8
    random_action_prob: float = 0.2
    actions: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("sticky_action_prob", "random_action_prob"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"{name} must be within 0..1, got {value}")
        names = get_args(PolicyName)
        known = callable(self.policy) or isinstance(self.policy, Expert) or self.policy in names
        require(known, f"no policy {self.policy!r}; choose {', '.join(names)} or a function")

    @property
    def name(self) -> str:
        """What a sidecar calls the policy: a function has the name of its definition."""
        if isinstance(self.policy, str):
            return self.policy
        return getattr(self.policy, "__name__", type(self.policy).__name__)


class ActionSampler:
    """Chooses the actions of all games.

    Args:
        config: the policy and its probabilities.
        games: the environments that are played.
        seed: of the random choices.

    Raises:
        UserError: the games have no action of a name in `config.actions`.
    """

    def __init__(self, config: PolicyConfig, games: EnvBatch, seed: int) -> None:
        self._config, self._games = config, games
        self._random = np.random.default_rng([seed % 2**63, 1])
        self._allowed_actions = _allowed_actions(config.actions, games.action_names)
        self._held = self._sample()
        self._player = _player_of(config.policy, games)
        self._seen: np.ndarray | None = None

    def __call__(self, frames: np.ndarray, first: np.ndarray) -> np.ndarray:
        """Returns the actions (N,) of the next step.

        Args:
            frames: u8 (N,H,W,3), what the games show.
            first: bool (N,), where an episode begins.

        Raises:
            UserError: a function returned something else than one action for each game.
        """
        policy = self._config.policy
        if policy == "random":
            return self._sample()
        if self._player is not None:
            return self._with_random(self._checked(self._player(frames, first)))
        changes = first | (self._random.random(len(first)) >= self._config.sticky_action_prob)
        if policy == "restless":
            if self._seen is not None:
                changes |= (frames == self._seen).all(axis=(1, 2, 3))
            self._seen = frames.copy()
        self._held = _mix(self._held, self._sample(), changes)
        return self._with_random(self._held) if policy == "mixture" else self._held

    def _sample(self) -> np.ndarray:
        if self._allowed_actions is None:
            return self._games.sample()
        return self._random.choice(self._allowed_actions, size=self._games.num)

    def _with_random(self, actions: np.ndarray) -> np.ndarray:
        replaced = self._random.random(len(actions)) < self._config.random_action_prob
        return _mix(actions, self._sample(), replaced)

    def _checked(self, answer: Any) -> np.ndarray:
        names = self._games.action_names
        if names is None:
            actions = np.empty(self._games.num, object)
            actions[:] = list(answer)
            return actions
        actions = np.asarray(answer).astype(np.int64)
        right = actions.shape == (self._games.num,) and ((actions >= 0) & (actions < len(names)))
        require(
            bool(np.all(right)),
            f"the policy must return {self._games.num} actions within 0..{len(names) - 1}",
        )
        return actions


def _player_of(
    policy: PolicyName | Policy, games: EnvBatch
) -> Callable[[np.ndarray, np.ndarray], Any] | None:
    """What chooses the actions, where that is not left to chance."""
    if isinstance(policy, str):
        return None
    return policy.attach(games) if isinstance(policy, Expert) else lambda frames, _: policy(frames)


def _mix(actions: np.ndarray, others: np.ndarray, where: np.ndarray) -> np.ndarray:
    mixed = actions.copy()
    mixed[where] = others[where]
    return mixed


def _allowed_actions(
    chosen: Sequence[str] | None, names: Sequence[str] | None
) -> np.ndarray | None:
    if chosen is None:
        return None
    if names is None:
        raise UserError("this environment has no named actions; leave actions out")
    for name in chosen:
        require(name in names, f"no action {name!r}; choose {', '.join(names)}")
    require(len(chosen) > 0, f"actions: name at least one of {', '.join(names)}")
    return np.array([names.index(name) for name in chosen])
