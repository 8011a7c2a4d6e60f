"""Planning: a search for the actions that lead to a goal, over a function that scores plans.

The cross-entropy method with a categorical distribution for each step. Sizes are those of AdaWorld
(Gao et al. 2025, arXiv 2503.18938), which plans in latent actions towards a goal picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genie.core.config import require

Score = Callable[[Int[Tensor, "n t"]], Float[Tensor, " n"]]
"""Plans of actions, one row each, to how good they are: more is better."""


@dataclass(frozen=True)
class SearchConfig:
    """How plans are searched for.

    Attributes:
        iterations: how often plans are sampled and the distribution is fitted to the best of them.
        samples: plans in each iteration.
        elites: the best plans, which the distribution is fitted to.
        horizon: steps that a plan looks ahead.
        hold: steps that an action is held for.
        smoothing: plans that an even distribution counts for beside the elites, so that no action
            gets the probability 0.
    """

    iterations: int = 2
    samples: int = 100
    elites: int = 10
    horizon: int = 15
    hold: int = 1
    smoothing: float = 1.0

    def __post_init__(self) -> None:
        """Refuses sizes that search nothing."""
        for name in ("iterations", "samples", "elites", "horizon", "hold"):
            require(getattr(self, name) >= 1, f"{name}: must be at least 1")
        fits = self.elites <= self.samples
        require(fits, f"elites: {self.elites}, but there are only {self.samples} samples")
        require(self.smoothing >= 0, "smoothing: must not be negative")

    def shooting(self) -> SearchConfig:
        """Random shooting with as many plans: one iteration, and the best of them is taken."""
        return replace(self, iterations=1, samples=self.iterations * self.samples)

    def within(self, steps: int) -> SearchConfig:
        """The same with a horizon of at most `steps`."""
        return replace(self, horizon=min(self.horizon, steps))


@dataclass(frozen=True)
class Plan:
    """What a search found.

    Attributes:
        actions: (T,) of the best plan of all iterations.
        score: of it.
    """

    actions: Int[Tensor, " t"]
    score: float


def search(score: Score, choices: int, config: SearchConfig, generator: torch.Generator) -> Plan:
    """Searches for the best plan.

    Args:
        score: of plans.
        choices: how many actions there are.
        config: sizes.
        generator: of the plans that are sampled.
    """
    chunks = -(-config.horizon // config.hold)
    chances = torch.full((chunks, choices), 1 / choices)
    best = Plan(torch.zeros(config.horizon, dtype=torch.int64), -torch.inf)
    for _ in range(config.iterations):
        drawn = torch.multinomial(chances, config.samples, replacement=True, generator=generator).T
        plans = drawn.repeat_interleave(config.hold, dim=1)[:, : config.horizon]
        scores = score(plans)
        order = scores.argsort(descending=True, stable=True)
        if scores[order[0]] > best.score:
            best = Plan(plans[order[0]], scores[order[0]].item())
        chances = refit(drawn[order[: config.elites]], choices, config.smoothing)
    return best


def refit(elites: Int[Tensor, "n t"], choices: int, smoothing: float) -> Float[Tensor, "t choices"]:
    """Returns the distribution of each step that the best plans have."""
    counts = torch.nn.functional.one_hot(elites, choices).float().sum(0)
    return (counts + smoothing / choices) / (len(elites) + smoothing)
