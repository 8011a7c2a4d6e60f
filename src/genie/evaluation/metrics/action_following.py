"""Action following: true actions read back from rollouts by the action classifier."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from genie.evaluation.metrics import formulas
from genie.evaluation.metrics.context import Evaluation
from genie.evaluation.metrics.metric import Headline, Metric, Section

if TYPE_CHECKING:
    from genie.evaluation.metrics.action_classifier import ActionClassifier
    from genie.evaluation.metrics.rollouts import Rollouts
    from genie.world.genie import Genie


@dataclass
class ActionFollowing:
    """Reads the true action back from rollouts, batch by batch; `update` is for `rollouts`.

    Attributes:
        world: what plays.
        classifier: reads the actions.
        true: true actions of the steps after the prompt, -1 where unknown; clips in their order.
        prompt_frames: real frames that a rollout starts from.
        predicted: what was read so far, by what was looked at.
    """

    world: Genie
    classifier: ActionClassifier
    true: Int[Tensor, "N S"]
    prompt_frames: int
    predicted: dict[str, list[Tensor]] = field(default_factory=dict)

    def update(self, frames: UInt8[Tensor, "B T H W C"], rollouts: Rollouts) -> None:
        """Reads one batch of clips and what was played after their prompts.

        A rollout is read together with its prompt as the tokenizer gives it back, so that the
        first step shows what moved and not what the tokenizer lost.
        """
        steps = self.true.shape[1]
        prompt = frames[:, : self.prompt_frames]
        rebuilt = self.world.tokenizer.decode(self.world.tokenizer.encode(prompt)).cpu()
        shown = {"real": frames.cpu()}
        for side in ("reconstruction", "inferred", "random"):
            shown[side] = torch.cat([rebuilt, rollouts[side]], dim=1)
        for side, clip in shown.items():
            actions = self.classifier.predict(clip[:, : self.prompt_frames + steps])
            self.predicted.setdefault(side, []).append(actions[:, -steps:])

    def compute(self) -> dict[str, Any]:
        """Returns macro F1 and accuracy of what was read, beside ceiling, chance and guessing.

        `inferred` are rollouts with the actions inferred from the real clip. `real` is the clip
        itself, the ceiling, and `reconstruction` the same after the tokenizer. `random` are
        rollouts with random actions, read against the same true actions, which is chance.
        `majority` always says the most common one. `confusion` counts true (rows) against read
        (columns).
        """
        read = {side: torch.cat(parts) for side, parts in self.predicted.items()}
        true = self.classifier.merge(self.true)
        known = true >= 0
        size = len(self.classifier.groups)
        counts = torch.bincount(true[known], minlength=size)
        read["majority"] = torch.full_like(true, int(counts.argmax()))
        result: dict[str, Any] = {
            "clips": len(self.true),
            "transitions": int(known.sum()),
            "actions": self.classifier.group_names,
        }
        for side, actions in read.items():
            table = formulas.contingency(true[known], actions[known], size, size)
            result[side] = {
                "macro_f1": formulas.macro_f1(table),
                "accuracy": (table.diagonal().sum() / table.sum()).item(),
                "confusion": table.tolist(),
            }
        return result


def observer_of(evaluation: Evaluation) -> ActionFollowing:
    """Returns the observer for the clips of the report."""
    config = evaluation.config
    steps = min(config.closed_loop_steps, config.horizon)
    classifier = evaluation.classifier
    true = evaluation.true_actions(evaluation.clips.starts + config.prompt_frames - 1, steps)
    return ActionFollowing(evaluation.world, classifier, true, config.prompt_frames)


def _gained(section: Section) -> float | None:
    """Where macro F1 lies between random actions (0) and real video (1)."""
    ours, real, chance = (section[name]["macro_f1"] for name in ("inferred", "real", "random"))
    return (ours - chance) / (real - chance) if real > chance else None


ACTION_FOLLOWING = Metric(
    key="action_following",
    order=110,
    title="Action following",
    observer=observer_of,
    when_skipped="Actions were not read back from the picture",
    headlines=(
        Headline(
            name="True action read back from rollouts, macro F1",
            value="inferred.macro_f1",
            baseline=("random actions; real video {real[macro_f1]:.2f}", "random.macro_f1"),
            score=_gained,
            limits=(0.7, 0.3),
            good="Generated frames show the action that was played nearly as real video does.",
            fair="Generated frames show the action that was played, less clearly than real video.",
            poor="Generated frames hardly show which action was played.",
        ),
    ),
)
