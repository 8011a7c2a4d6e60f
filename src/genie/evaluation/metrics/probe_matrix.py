"""Probe matrix: what a probe learned of actions in the world holds in real video, and the reverse.

A probe reads the true action off a transition. One is trained on real transitions and one on
generated ones, and each is tested on both (Chen 2026, arXiv 2606.09028, section 3). Where the world
moves as the game does, a probe of either serves both. A probe that reads generated video well and
real video badly says that actions differ in the world, but not as in the game.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from genie.evaluation.metrics import formulas
from genie.evaluation.metrics.action_following import keep_steps, read_steps
from genie.evaluation.metrics.context import Evaluation, Skipped
from genie.evaluation.metrics.metric import Headline, Metric, Section
from genie.models.linear_probe import train_probe

SIDES = {"real": "real video", "inferred": "generated video", "random": "random actions"}
FOLDS, DRAWS = 5, 500


def probe_matrix(evaluation: Evaluation) -> dict[str, Any]:
    """Returns macro F1 of a probe trained on each kind of video (rows), tested on each (columns).

    `inferred` are rollouts with the actions inferred from the real clips. `random` are rollouts
    with random actions, whose labels are still those of the clips, which is chance. A probe is
    tested on episodes that it was not trained on. Intervals of 95 % are of a bootstrap over
    episodes.
    """
    classifier, (first, steps) = evaluation.classifier, read_steps(evaluation)
    clips, seed = evaluation.clips, evaluation.config.seed
    true = classifier.merge(evaluation.true_actions(clips.starts + first - 1, steps))
    _, owner = clips.episodes.unique(return_inverse=True)
    episodes, known = int(owner.max()) + 1, true >= 0
    if episodes < FOLDS:
        raise Skipped(f"{FOLDS} held-out episodes are needed to train probes and test them.")
    order = torch.from_numpy(np.random.default_rng([seed, 31]).permutation(episodes))
    owner, true = owner[:, None].expand_as(true)[known], true[known]
    kept = evaluation.kept["probe_matrix"]
    features = {side: torch.cat(kept[side])[known] for side in SIDES}
    size, folds = len(classifier.groups), order[owner] % FOLDS
    read = {pair: torch.zeros_like(true) for pair in product(SIDES, repeat=2)}
    for fold, source in product(range(FOLDS), SIDES):
        held_out = folds == fold
        probe = train_probe(features[source][~held_out], true[~held_out], size)
        for side in SIDES:
            read[source, side][held_out] = probe(features[side][held_out]).argmax(1)
    matrix = {source: dict[str, Any]() for source in SIDES}
    for (source, side), actions in read.items():
        pairs = (owner * size + true) * size + actions
        tables = formulas.code_counts(pairs, episodes * size**2).reshape(episodes, size, size)
        matrix[source][side] = _f1_with_interval(tables, seed)
    return {
        "transitions": len(true),
        "episodes": episodes,
        "actions": classifier.group_names,
        "matrix": matrix,
    }


def _f1_with_interval(tables: Int[Tensor, "E k k"], seed: int) -> Section:
    weights = formulas.bootstrap_weights(len(tables), [seed, 37], DRAWS)
    drawn = formulas.macro_f1_each((weights @ tables.flatten(1)).unflatten(1, tables.shape[1:]))
    low, high = drawn.quantile(torch.tensor([0.025, 0.975])).tolist()
    return {"mean": formulas.macro_f1(tables.sum(0)), "low": low, "high": high}


def _carried_over(section: Section) -> float | None:
    """Where a probe of generated video lies between chance (0) and one of real video (1)."""
    real, ours, chance = (section["matrix"][name]["real"]["mean"] for name in SIDES)
    return (ours - chance) / (real - chance) if real > chance else None


PROBE_MATRIX = Metric(
    key="probe_matrix",
    order=115,
    title="Probes of real and of generated video",
    measure=probe_matrix,
    # The features of all probes are of a network that was trained on real video.
    rollout_measure=lambda evaluation: keep_steps(
        evaluation, ("inferred", "random"), evaluation.classifier.network.features
    ),
    values={"sides": SIDES},
    headlines=(
        Headline(
            name="Probe trained on generated video, tested on real video, macro F1",
            value="matrix.inferred.real.mean",
            baseline=("trained on real video", "matrix.real.real.mean"),
            score=_carried_over,
            limits=(0.7, 0.3),
            good="Actions look in the world as they do in the game.",
            fair="Actions look in the world partly as they do in the game.",
            poor="What actions do in the world says little about the game.",
        ),
    ),
)
