"""Action following: true actions read back from rollouts by the action classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from torch import Tensor

from genie.evaluation.metrics import formulas
from genie.evaluation.metrics.context import Evaluation, RolloutMeasure
from genie.evaluation.metrics.metric import Headline, Metric, Section

if TYPE_CHECKING:
    from genie.models.action_classifier import ActionClassifier


def keep_steps(
    evaluation: Evaluation, sides: Iterable[str], measure: Callable[[Tensor], Tensor]
) -> RolloutMeasure:
    """Returns a function that measures the steps of real clips and of what was played from them.

    A rollout is measured together with its prompt as `rebuilt`.

    Args:
        evaluation: the evaluation.
        sides: of the rollouts; "real" comes first.
        measure: of frames (B, T, H, W, 3) what is kept of each step between them.
    """
    first, steps = read_steps(evaluation)

    def measured(frames: Tensor, rollouts: dict[str, Tensor]) -> dict[str, Tensor]:
        prompt, shown = evaluation.player.rebuilt(frames[:, :first]), {"real": frames}
        shown |= {side: torch.cat([prompt, rollouts[side]], dim=1) for side in sides}
        return {
            side: measure(clip[:, : first + steps].to(frames.device))[:, -steps:].cpu()
            for side, clip in shown.items()
        }

    return measured


def compare_read(
    read: Mapping[str, Int[Tensor, "N S"]], true: Int[Tensor, "N S"], classifier: ActionClassifier
) -> dict[str, Any]:
    """Returns macro F1 and accuracy of what was read, beside ceiling, chance and guessing.

    `inferred` are rollouts with the actions inferred from the real clip. `real` is the clip itself,
    the ceiling, and `reconstruction` the same after the tokenizer. `random` are rollouts with
    random actions, read against the same true actions, which is chance. `majority` always says the
    most common one. `confusion` counts true (rows) against read (columns).

    Args:
        read: what was read of each side.
        true: true actions of the steps after the prompt, -1 where unknown.
        classifier: merges them.
    """
    true, size = classifier.merge(true), len(classifier.groups)
    known = true >= 0
    commonest = int(formulas.code_counts(true[known], size).argmax())
    result: dict[str, Any] = {
        "clips": len(true),
        "transitions": int(known.sum()),
        "actions": classifier.group_names,
    }
    for side, actions in {**read, "majority": torch.full_like(true, commonest)}.items():
        table = formulas.contingency(true[known], actions[known], size, size)
        result[side] = {
            "macro_f1": formulas.macro_f1(table),
            "accuracy": (table.diagonal().sum() / table.sum()).item(),
            "confusion": table.tolist(),
        }
    return result


def action_following(evaluation: Evaluation) -> dict[str, Any]:
    """Compares what was read of the clips of the report with their true actions."""
    classifier, (first, steps) = evaluation.classifier, read_steps(evaluation)
    true = evaluation.true_actions(evaluation.clips.starts + first - 1, steps)
    kept = evaluation.kept["action_following"]
    return compare_read({side: torch.cat(kept[side]) for side in kept}, true, classifier)


def read_steps(evaluation: Evaluation) -> tuple[int, int]:
    """Frames of the prompt, and how many steps are read after it."""
    config = evaluation.config
    return config.prompt_frames, min(config.closed_loop_steps, config.horizon)


def _gained(section: Section) -> float | None:
    """Where macro F1 lies between random actions (0) and real video (1)."""
    ours, real, chance = (section[name]["macro_f1"] for name in ("inferred", "real", "random"))
    return (ours - chance) / (real - chance) if real > chance else None


ACTION_FOLLOWING = Metric(
    key="action_following",
    order=110,
    title="Action following",
    measure=action_following,
    rollout_measure=lambda evaluation: keep_steps(
        evaluation, ("reconstruction", "inferred", "random"), evaluation.classifier.predict
    ),
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
