"""How much of a world is measured, and on what: the settings of a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from genie.core.config import require
from genie.core.numbers import seed_of

ProtocolName = Literal["genie", "genieredux"]
PROTOCOLS: Mapping[ProtocolName, Mapping[str, int]] = {
    "genie": {},
    "genieredux": {"prompt_frames": 1, "horizon": 15},
}
"""What is measured, by name, and the settings that belong to it."""


@dataclass(frozen=True)
class SeparationConfig:
    """Size of the test of action separation.

    Attributes:
        states: held-out states from which every action is played; 0 leaves the test out.
        repeats: how often each action is played in each state.
        permutations: how often the frames of a state are assigned to the actions anew.
    """

    states: int = 32
    repeats: int = 4
    permutations: int = 999

    def __post_init__(self) -> None:
        """Refuses values that leave nothing to compare."""
        require(self.states >= 0, "separation.states: must not be negative")
        require(self.repeats >= 2, "separation.repeats: must be at least 2, or noise is not known")
        require(self.permutations >= 19, "separation.permutations: must be at least 19")


@dataclass(frozen=True)
class CoherenceConfig:
    """Size of the long rollouts that measure coherence.

    Attributes:
        rollouts: pairs of a number of games and their steps; none leaves coherence out.
        window: frames over which token statistics and Fréchet distances are taken.
        real_frames: frames of held-out video to compare with, in whole episodes; at least one.
    """

    rollouts: tuple[tuple[int, int], ...] = ((32, 256), (8, 900))
    window: int = 16
    real_frames: int = 20_000

    def __post_init__(self) -> None:
        """Refuses rollouts of nothing."""
        require(self.window >= 2, "coherence.window: must be at least 2")
        for games, steps in self.rollouts:
            fits = games >= 1 and steps >= self.window
            require(fits, f"coherence.rollouts: at least 1 game of {self.window} steps or more")


@dataclass(frozen=True)
class EvaluationConfig:
    """How a world is measured; the values here are the full protocol.

    Attributes:
        split: part of the store; training never sees "val".
        clips: clips measured, fewer where the store has no more; 512, or 64 if quick.
        seeds: how often rollouts are played, each time with other clips, random actions and noise;
            3, or 1 if quick.
        prompt_frames: real frames that a rollout starts from.
        horizon: frames played after them.
        times: steps at which rollouts are quoted; those beyond the horizon are those of the longer
            rollouts, if they go so far.
        long_clips: clips of longer rollouts; 0 leaves them out.
        long_horizon: frames of those.
        seed: chooses clips, random actions and noise; the first of several.
        batch: clips, or players, at once.
        action_prompts: frames from which every action is held; twice as many for pairs of actions.
        action_steps: frames for which it is held.
        supervised_clips: clips whose latent actions are compared with true ones; more than `clips`,
            because mutual information wants many transitions and inferring them is cheap.
        inverse_dynamics_steps: training steps of the inverse-dynamics model; 0 leaves out the
            metrics that need it.
        closed_loop_games: held-out frames from which the action for each true action is held; 256,
            or 64 if quick.
        closed_loop_steps: frames for which it is held, and for which rollouts are read back.
        action_selection_games: training frames from which every action is held to select those.
        figure_clips: clips and prompts shown as figures, at most a batch.
        separation: whether actions lead to different next frames.
        coherence: for how long the world stays coherent.
    """

    split: str = "val"
    clips: int = 512
    seeds: int = 3
    prompt_frames: int = 1
    horizon: int = 16
    times: tuple[int, ...] = (1, 4, 8, 16, 64)
    long_clips: int = 64
    long_horizon: int = 64
    seed: int = 0
    batch: int = 16
    action_prompts: int = 4
    action_steps: int = 8
    supervised_clips: int = 256
    inverse_dynamics_steps: int = 600
    closed_loop_games: int = 256
    closed_loop_steps: int = 16
    action_selection_games: int = 16
    figure_clips: int = 3
    separation: SeparationConfig = field(default_factory=SeparationConfig)
    coherence: CoherenceConfig = field(default_factory=CoherenceConfig)

    def __post_init__(self) -> None:
        """Refuses values that leave nothing to measure."""
        counts = ("clips", "seeds", "prompt_frames", "horizon", "batch", "figure_clips")
        counts += ("closed_loop_games", "closed_loop_steps", "action_selection_games")
        for name in (*counts, "action_prompts", "action_steps"):
            require(getattr(self, name) >= 1, f"{name}: must be at least 1")
        seed_of(self.seed)
        require(self.inverse_dynamics_steps >= 0, "inverse_dynamics_steps: must not be negative")
        require(self.long_clips >= 0, "long_clips: must not be negative")

    @classmethod
    def quick(cls) -> EvaluationConfig:
        """Minutes on two cores: enough to see what is good and what is not."""
        return cls(
            clips=64,
            seeds=1,
            long_clips=16,
            closed_loop_games=64,
            separation=SeparationConfig(states=8),
            coherence=CoherenceConfig(rollouts=((24, 256),)),
        )

    @property
    def clip_frames(self) -> int:
        """Frames per clip."""
        return self.prompt_frames + self.horizon

    @property
    def quoted(self) -> tuple[int, ...]:
        """The times within the horizon; its end when there are none."""
        return tuple(t for t in self.times if 1 <= t <= self.horizon) or (self.horizon,)

    @property
    def long_quoted(self) -> tuple[int, ...]:
        """The times that only the longer rollouts reach, none where there are no such rollouts."""
        last = self.long_horizon if self.long_clips else 0
        return tuple(t for t in self.times if self.horizon < t <= last)
