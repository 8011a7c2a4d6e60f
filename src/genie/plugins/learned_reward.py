"""Learned reward and end of an episode: how they rank and how they are calibrated.

Measured only for a world that has a reward model beside it, which `genie train --stages [reward]`
makes, on a store whose videos had sidecars with rewards.
"""

from __future__ import annotations

from typing import Any

from genie.core.config import UserError
from genie.evaluation.metrics.context import Evaluation, Skipped
from genie.evaluation.metrics.metric import Headline, Metric, Section
from genie.world.reward_figures import measure_reward, require_outcomes
from genie.world.reward_model import FOLDER, RewardModel

STEPS_PER_CLIP = 16


def learned_reward(evaluation: Evaluation) -> dict[str, Any]:
    """Measures the reward model of a world on episodes of the split that is evaluated."""
    world, config = evaluation.world, evaluation.config
    if world.folder is None or not (world.folder / FOLDER).is_dir():
        raise Skipped("There is no reward model beside the world.")
    try:
        require_outcomes(evaluation.store)
        heads = RewardModel.from_pretrained(world.folder, world).heads
    except UserError as error:
        raise Skipped(f"{error}.") from error
    steps = STEPS_PER_CLIP * config.clips
    return measure_reward(
        world, heads, evaluation.store, config.split, steps=steps, seed=config.seed
    )


def _gain(part: str, error: str) -> Any:
    """By how much an error is below that of a constant, as a share of it."""

    def gain(section: Section) -> float | None:
        constant = section[part][f"{error}_constant"]
        return 1 - section[part][error] / constant if constant else None

    return gain


LEARNED_REWARD = Metric(
    key="learned_reward",
    order=160,
    title="Learned reward and end",
    measure=learned_reward,
    headlines=(
        Headline(
            name="A step that ends the episode is rated above one that does not",
            value="end.auc",
            baseline=("chance", 0.5),
            limits=(0.9, 0.75),
            good="The end of an episode is foreseen.",
            fair="The end of an episode is often foreseen.",
            poor="The end of an episode is hardly foreseen.",
        ),
        Headline(
            name="Brier score of the end, below that of a constant",
            value=_gain("end", "brier"),
            baseline=("a constant", 0.0),
            limits=(0.3, 0.1),
            good="Probabilities of the end are far better than a constant.",
            fair="Probabilities of the end are better than a constant.",
            poor="Probabilities of the end are hardly better than a constant.",
        ),
        Headline(
            name="A rewarded step is rated above one that is not",
            value="reward.auc",
            baseline=("chance", 0.5),
            limits=(0.9, 0.75),
            good="Rewards are foreseen.",
            fair="Rewards are often foreseen.",
            poor="Rewards are hardly foreseen.",
        ),
    ),
)
