"""Telling true actions apart by what they do, and reading them off frames.

Many presses are invisible or alike: in the air right and right-up look the same, and several keys
do nothing at all. So that a world is not blamed for what no picture shows, true actions that the
inverse-dynamics network cannot tell apart are merged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from genie.models.inverse_dynamics import InverseDynamics, count_parameters

MERGE_THRESHOLD = 0.75
"""Pairwise accuracy below which two actions count as one: half way from guessing to certainty."""


@dataclass(frozen=True)
class MergedActions:
    """Two groups of true actions that became one, and how well they could be told apart."""

    first: list[int]
    second: list[int]
    accuracy: float


@dataclass(frozen=True)
class ActionClassifier:
    """Reads merged true actions off frames.

    Attributes:
        network: reads the true actions.
        past: the same kind of network, which does not see the frame that an action led to.
        groups: which true actions count as one; those that never occur are in none.
        names: of all true actions.
        facts: how it was made and how good it is, for the report.
    """

    network: InverseDynamics
    past: InverseDynamics
    groups: list[list[int]]
    names: list[str]
    facts: dict[str, Any]

    @classmethod
    def judged(
        cls,
        network: InverseDynamics,
        past: InverseDynamics,
        names: list[str],
        logits: Float[Tensor, "n k"],
        true: Int[Tensor, " n"],
    ) -> ActionClassifier:
        """Makes a classifier of networks, by steps that these were not trained on.

        Args:
            network: reads the true actions.
            past: the same kind of network, which does not see the frame that an action led to.
            names: of all true actions.
            logits: of the network, for these steps.
            true: their true actions.
        """
        groups, merges = merge_actions(logits, true)
        told_apart = pairwise_accuracy(group_logits(logits, groups), merge(true, groups))

        def named(groups: list[list[int]]) -> list[list[str]]:
            return [[names[action] for action in group] for group in groups]

        facts = {
            "name": network.name,
            "parameters": count_parameters(network),
            "evaluated_transitions": len(true),
            "evaluated_accuracy": (logits.argmax(-1) == true).float().mean().item(),
            "merge_threshold": MERGE_THRESHOLD,
            "merges": [
                {
                    "actions": named([merged.first, merged.second]),
                    "pairwise_accuracy": merged.accuracy,
                }
                for merged in merges
            ],
            "groups": named(groups),
            "pairwise_accuracy": told_apart.tolist(),
        }
        return cls(network, past, groups, names, facts)

    @property
    def group_names(self) -> list[str]:
        """A name for each group, such as `right/right+up`."""
        return ["/".join(self.names[action] for action in group) for group in self.groups]

    def merge(self, true: Int[Tensor, "*n"]) -> Int[Tensor, "*n"]:
        """The group of each true action; -1 for one that is unknown or in no group."""
        return merge(true, self.groups)

    def predict(self, frames: UInt8[Tensor, "b t h w 3"]) -> Int[Tensor, "b t-1"]:
        """The likeliest group of each step between frames, on the CPU."""
        device = self.network.to_logits.weight.device
        return group_logits(self.network(frames.to(device)), self.groups).argmax(-1).cpu()


def merge(true: Int[Tensor, "*n"], groups: list[list[int]]) -> Int[Tensor, "*n"]:
    """The group that each action is in, -1 where it is in none."""
    found = torch.full_like(true, -1)
    for number, group in enumerate(groups):
        found[torch.isin(true, torch.tensor(group, device=true.device))] = number
    return found


def group_logits(logits: Float[Tensor, "*n k"], groups: list[list[int]]) -> Float[Tensor, "*n g"]:
    """Logits of groups: the probability of a group is the sum of those of its actions."""
    return torch.stack([logits[..., group].logsumexp(-1) for group in groups], dim=-1)


def pairwise_accuracy(
    logits: Float[Tensor, "n k"], true: Int[Tensor, " n"]
) -> Float[Tensor, "k k"]:
    """Returns how well each two actions are told apart: 0.5 by guessing, 1 without mistakes.

    The mean, over the two, of the share of their steps at which the likelier of the two is the
    right one, were both pressed equally often (balanced accuracy). 1 where one never occurs.
    """
    size = logits.shape[1]
    counts = torch.bincount(true, minlength=size)
    fair = logits - counts.clamp_min(1).log()
    right = torch.ones(size, size)
    for a in range(size):
        for b in range(size):
            if a != b and counts[a] and counts[b]:
                ours = fair[true == a]
                # A tie, as between two actions that look exactly alike, is half right.
                margin = (ours[:, a] - ours[:, b]).sign()
                right[a, b] = (margin.mean() + 1) / 2
    return (right + right.mT) / 2


def merge_actions(
    logits: Float[Tensor, "n k"], true: Int[Tensor, " n"], below: float = MERGE_THRESHOLD
) -> tuple[list[list[int]], list[MergedActions]]:
    """Merges the two actions that are hardest to tell apart, until all pairs can be.

    Args:
        logits: of a network that was not trained on these steps.
        true: their true actions.
        below: the pairwise accuracy that does not suffice.

    Returns:
        The groups, and what was merged in that order. Actions that do not occur are in no group.
    """
    groups = [[int(action)] for action in true.unique()]
    merges = list[MergedActions]()
    while len(groups) > 1:
        told = pairwise_accuracy(group_logits(logits, groups), merge(true, groups))
        a, b = sorted(divmod(int(told.argmin()), len(groups)))
        if told[a, b] >= below:
            break
        merges.append(MergedActions(list(groups[a]), groups[b], told[a, b].item()))
        groups[a] = sorted(groups[a] + groups.pop(b))
    return groups, merges
