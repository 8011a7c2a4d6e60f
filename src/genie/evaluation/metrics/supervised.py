"""Supervised metrics: latent actions beside the true ones of the sidecar files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import compress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genie.core.progress import ticking
from genie.evaluation.metrics import formulas
from genie.evaluation.metrics.action_alignment import (
    CONDITIONS,
    SupervisedTransitions,
    action_alignment,
    action_maps,
)
from genie.evaluation.metrics.context import Evaluation, Skipped
from genie.evaluation.metrics.metric import Headline, Metric, Section, beside, format_value


def compare_with_true(
    latent: Tensor,
    true: Tensor,
    num_actions: int,
    names: list[str],
    seed: int,
    permutations: int = 100,
) -> dict[str, Any]:
    """Compares latent actions with the true ones of the sidecar files.

    Every figure stands beside what shuffled latent actions give, because mutual information of
    finite samples is never zero. Purity also stands beside always guessing the commonest true
    action, which it cannot fall below.

    Args:
        latent: (n,) inferred actions.
        true: (n,) true actions of the same transitions.
        num_actions: how many latent actions there are.
        names: of the true actions.
        seed: of the shuffles.
        permutations: how many shuffles.

    Returns:
        The figures; `table[a][b]` counts the transitions of latent action a and true action b, and
        `true_actions[b]` is the name of b, also of one that never occurs.
    """
    latent, true = latent.cpu(), true.cpu()
    shape = num_actions, len(names)
    table = formulas.contingency(latent, true, *shape)
    figures, true_entropy = formulas.agreement(table), formulas.entropy(table.sum(0))
    share = figures["mutual_information"] / true_entropy if true_entropy > 0 else 0.0
    return figures | {
        "transitions": len(latent),
        "share_of_true_entropy": share,
        "true_entropy": true_entropy,
        "most_common_true_action": (table.sum(0).max() / table.sum()).item(),
        "chance": chance_figures(latent, true, shape, permutations, seed),
        "table": table.tolist(),
        "true_actions": names,
    }


def chance_figures(
    latent: Tensor, true: Tensor, shape: tuple[int, int], permutations: int, seed: int
) -> dict[str, float]:
    """Returns the figures after shuffling the latent actions: what chance alone gives."""
    generator = torch.Generator().manual_seed(seed)
    orders = (torch.randperm(len(latent), generator=generator) for _ in range(permutations))
    tables = (formulas.contingency(latent[order], true, *shape) for order in orders)
    drawn = [formulas.agreement(table) for table in tables]
    information = torch.tensor([each["mutual_information"] for each in drawn])
    return {
        "permutations": permutations,
        **{key: float(np.mean([each[key] for each in drawn])) for key in drawn[0]},
        "mutual_information": information.mean().item(),
        "mutual_information_95": information.quantile(0.95).item(),
    }


def _supervised(evaluation: Evaluation) -> dict[str, Any]:
    config, num_actions = evaluation.config, evaluation.world.config.num_actions
    held_out = _transitions(evaluation, config.split)
    try:
        known = _transitions(evaluation, "train") if config.split != "train" else None
    except Skipped:
        known = None
    true = torch.cat([held_out.true, *([known.true] if known else ())])
    names = list(evaluation.store.action_names or map(str, range(int(true.max()) + 1)))
    found = compare_with_true(held_out.latent, held_out.true, num_actions, names, config.seed)
    if known is not None:
        few, many = ((part.latent, part.true) for part in (known, held_out))
        found["action_maps"] = action_maps(few, many, num_actions, len(names), config.seed)
    if (classifier := evaluation.known_classifier) is not None:
        known = known or held_out
        found["inverse_dynamics"] = classifier.facts
        found |= action_alignment(known, held_out, classifier, num_actions, config.seed)
    return found


def _transitions(evaluation: Evaluation, split: str) -> SupervisedTransitions:
    """The steps of a split whose true action is known."""
    config, length = evaluation.config, evaluation.config.clip_frames
    if evaluation.store.labels() is not None and not any(
        e.split == split and e.length >= length for e in evaluation.store.episodes
    ):
        raise Skipped(f"the {split!r} split has no episode of {length} frames.")
    clips = evaluation.select(length, max(config.clips, config.supervised_clips), split=split)
    true = evaluation.true_actions(clips.starts, length - 1)
    world, classifier = evaluation.world, evaluation.known_classifier
    with evaluation.bars(f"True actions, {split}", len(clips)) as on_step:
        return SupervisedTransitions.from_clips(world, classifier, ticking(clips, on_step), true)


def _kmeans_share(section: Section) -> float | None:
    conditions = section["action_alignment"]["raw"]["conditions"]
    ours, most = (conditions[name]["mutual_information"] for name in ("kmeans", "ceiling"))
    return ours / most if most > 0 else None


def _cells(section: Section) -> dict[str, str]:
    label = "mutual information with true actions, nats (chance)"
    cells = {label: beside(section["mutual_information"], section["chance"]["mutual_information"])}
    for line in section.get("action_maps", []):
        label = f"steps named right with {line['labels']} labels (the commonest)"
        cells[label] = beside(line["accuracy"], line["most_common"])
    for kind, part in section.get("action_alignment", {}).items():
        conditions = [part["conditions"][name] for name in CONDITIONS]
        for key, name in (
            ("mutual_information", "mutual information, nats"),
            ("normalised_mutual_information", "normalised mutual information"),
        ):
            label = f"{name}, {kind} true actions (random codes, k-means, the past, ceiling)"
            cells[label] = beside(*(condition[key] for condition in conditions))
        label = f"share of the ceiling, {kind} true actions"
        cells[label] = format_value(part["share_of_ceiling"])
    return cells


def counts_of_observed(part: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Returns how often latent and true actions fell together: `actions`, and `rows` of counts.

    True actions that never occur, of which a game with many keys has some, have no column.
    """
    observed = [any(column) for column in zip(*part["table"], strict=True)]

    def kept(values: Iterable[Any]) -> list[Any]:
        return list(compress(values, observed))

    return {"actions": kept(part["true_actions"]), "rows": [kept(row) for row in part["table"]]}


INFORMATION = {
    "mutual_information": "mutual information (nats)",
    "normalised_mutual_information": "normalised (0 to 1)",
    "purity": "purity",
}

SUPERVISED = Metric(
    key="supervised",
    order=100,
    title="Latent against true actions",
    measure=_supervised,
    when_skipped="Latent actions were not compared with true ones",
    cells=_cells,
    values={
        "information": INFORMATION,
        "counts_of_observed": counts_of_observed,
        "label_counts": lambda section: [
            f"{line['labels']} labels" for line in section["action_maps"]
        ],
    },
    headlines=(
        Headline(
            name="Latent against true actions, mutual information",
            unit="nats",
            value="mutual_information",
            baseline=("chance, 95 % of shuffles below", "chance.mutual_information_95"),
            score="share_of_true_entropy",
            certain=lambda section: (
                section["mutual_information"] > section["chance"]["mutual_information_95"]
            ),
            limits=(0.3, 0.0),
            good="Latent actions agree well with the true ones.",
            fair="Latent actions agree with the true ones more than chance does. Many leave "
            "no trace in the picture, so full agreement is out of reach.",
            poor="Latent actions tell nothing about the true ones.",
        ),
        Headline(
            name="Latent against true actions, share of what can be read off the picture",
            value="share_of_ceiling.raw",
            baseline=("k-means on frame differences", _kmeans_share),
            limits=(0.7, 0.35),
            good="The latent actions tell most of what a network trained with the true actions can "
            "read off the picture.",
            fair="The latent actions tell a part of what a network trained with the true actions "
            "can read off the picture.",
            poor="A network trained with the true actions reads much more off the picture.",
            shown=lambda section: "share_of_ceiling" in section,
        ),
    ),
)
