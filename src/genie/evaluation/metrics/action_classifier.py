"""Telling true actions apart by what they do, and reading them off frames.

Many presses are invisible or alike: in the air right and right-up look the same, and several keys
do nothing at all. So that a world is not blamed for what no picture shows, true actions that the
inverse-dynamics network cannot tell apart are merged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from genie.core.config import require
from genie.core.progress import Tick, ignore_tick
from genie.data.labelled import judged_windows
from genie.evaluation.metrics.inverse_dynamics import train_inverse_dynamics
from genie.models.inverse_dynamics import InverseDynamics, count_parameters, encoder_parameters

if TYPE_CHECKING:
    from genie.data.store import ClipStore

MERGE_THRESHOLD = 0.75
"""Pairwise accuracy below which two actions count as one: half way from guessing to certainty."""
EVALUATION_CLIPS, EVALUATION_FRAMES = 256, 17


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


def train_action_classifier(
    store: ClipStore,
    actions: torch.nn.Module,
    *,
    steps: int,
    seed: int,
    device: str | torch.device,
    on_step: Tick = ignore_tick,
) -> ActionClassifier:
    """Trains both networks on training episodes; merges actions by those they were not trained on.

    Args:
        store: frames and true actions.
        actions: the latent action model, whose encoder says how large the network should be.
        steps: of training.
        seed: of the training.
        device: where to train and read.
        on_step: called after every step of training, of which there are twice `steps`.

    Raises:
        UserError: no true action of the training split is known, or of the episodes to judge by.
    """
    parameters = encoder_parameters(actions)
    network, past = (
        train_inverse_dynamics(
            store,
            steps=steps,
            seed=seed,
            parameters=parameters,
            future_frames=future_frames,
            device=device,
            on_step=on_step,
        )
        for future_frames in (True, False)
    )
    logits, true = _evaluation_logits(network, store, seed)
    require(len(true) > 0, "no true action is known in the training episodes to judge by")
    groups, merges = merge_actions(logits, true)
    size = network.to_logits.out_features
    names = list(store.action_names or map(str, range(size)))
    facts = {
        "name": network.name,
        "parameters": count_parameters(network),
        "encoder_parameters": parameters,
        "steps": steps,
        "evaluated_transitions": len(true),
        "evaluated_accuracy": (logits.argmax(-1) == true).float().mean().item(),
        "merge_threshold": MERGE_THRESHOLD,
        "merges": [
            {
                "actions": [[names[a] for a in part] for part in (merge.first, merge.second)],
                "pairwise_accuracy": merge.accuracy,
            }
            for merge in merges
        ],
        "groups": [[names[a] for a in group] for group in groups],
        "pairwise_accuracy": pairwise_accuracy(
            group_logits(logits, groups), merge(true, groups)
        ).tolist(),
    }
    return ActionClassifier(network, past, groups, names, facts)


def _evaluation_logits(
    network: InverseDynamics, store: ClipStore, seed: int
) -> tuple[Float[Tensor, "n k"], Int[Tensor, " n"]]:
    """Logits and true actions of steps from the training episodes that were held back."""
    labels = store.labels()
    assert labels is not None
    starts, length = judged_windows(
        store, "train", window=EVALUATION_FRAMES, count=EVALUATION_CLIPS, seed=seed
    )
    true = torch.from_numpy(labels[starts[:, None] + np.arange(length - 1)]).long()
    device = network.to_logits.weight.device
    logits = [
        network(torch.from_numpy(np.array(store.windows(part, length))).to(device)).cpu()
        for part in np.array_split(starts, -(-len(starts) // 16))
    ]
    known = true >= 0
    return torch.cat(logits)[known], true[known]
