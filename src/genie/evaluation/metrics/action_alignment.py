"""Latent against true actions, between chance and the most that can be read off the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from genie.evaluation.metrics.formulas import (
    action_map,
    agreement,
    code_counts,
    contingency,
    entropy,
)
from genie.models.action_classifier import ActionClassifier, group_logits, merge
from genie.models.external_networks import Pixels
from genie.models.layers.kmeans import kmeans, kmeans_plus_plus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from genie.world.genie import Genie

GRID = 8
"""Frame differences are averaged over a grid of so many cells each way before k-means."""
LABELS, DRAWS = (50, 100, 200, 500, 1000, 2000), 20
"""Numbers of labelled steps, and how often so many are drawn, for a mean."""
Codes = tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]
"""True actions, the code of each condition, and the logits of those that are networks."""
CONDITIONS = ("latent", "random", "kmeans", "past", "ceiling")


@dataclass(frozen=True)
class SupervisedTransitions:
    """Transitions between frames whose true action is known.

    Attributes:
        true: their true actions.
        latent: inferred latent actions.
        change: how a small version of the picture changed.
        logits: of the inverse-dynamics network; none (n, 0) where there is no network.
        past: of the one that does not see what the action led to.
    """

    true: Int[Tensor, " n"]
    latent: Int[Tensor, " n"]
    change: Float[Tensor, "n d"]
    logits: Float[Tensor, "n k"]
    past: Float[Tensor, "n k"]

    @classmethod
    def from_clips(
        cls,
        world: Genie,
        classifier: ActionClassifier | None,
        clips: Iterable[UInt8[Tensor, "B T H W C"]],
        true: Int[Tensor, "N S"],
    ) -> SupervisedTransitions:
        """Looks at clips whose true actions are `true`, -1 where unknown."""
        found: list[list[Tensor]] = []
        for frames in clips:
            latent = world.actions.infer(frames)
            read = 2 * [torch.zeros(*latent.shape, 0)]
            if classifier:
                read = [classifier.network(frames), classifier.past(frames)]
            seen = (latent, frame_difference_features(frames), *read)
            found.append([part.cpu() for part in seen])
        known = true >= 0
        return cls(true[known], *(torch.cat(part)[known] for part in zip(*found, strict=True)))


def frame_difference_features(frames: UInt8[Tensor, "B T H W C"]) -> Float[Tensor, "B T-1 D"]:
    """Returns differences of consecutive frames, averaged over a coarse grid."""
    return Pixels(GRID).features(torch.cat([frames[:, :1], frames], dim=1)).diff(dim=1)


def cluster(points: Float[Tensor, "n d"], size: int, seed: int) -> Float[Tensor, "size d"]:
    """Returns centres by k-means, the best of four k-means++ starts."""
    generator = torch.Generator().manual_seed(seed)

    def start() -> Tensor:
        first = points[torch.randint(len(points), (1,), generator=generator)]
        return kmeans_plus_plus(points, first, size, generator)

    return kmeans(points, start, iterations=20, starts=4)


def action_alignment(
    known: SupervisedTransitions,
    held_out: SupervisedTransitions,
    classifier: ActionClassifier,
    num_actions: int,
    seed: int,
) -> dict[str, Any]:
    """Compares latent actions with true ones beside random codes, k-means and the ceiling.

    k-means groups coarse frame differences of training steps into as many codes as there are latent
    actions: what needs no model at all. The ceiling takes what the inverse-dynamics network reads
    as the code: about the most that a model of this size can read off three frames, since it was
    trained with the true actions. The past is the same without the frame that the action led to:
    what could be told beforehand, because players hold an action. A latent action is to say what is
    new, so what can be asked of it lies nearer to the ceiling less the past.

    All on the same held-out steps, once with the true actions as they are (`raw`) and once with
    those merged that cannot be told apart (`merged`).

    Args:
        known: training steps, which place the clusters and name the codes.
        held_out: the steps that are measured.
        classifier: the network, and what is merged.
        num_actions: A, how many latent actions there are.
        seed: of random codes, clusters and draws.

    Returns:
        For `raw` and `merged` the figures of `agreement` and the `action_maps` of each condition.
        The ceiling also has `accuracy` and `information`: the true entropy minus its cross-entropy,
        which counts its uncertainty. `share_of_ceiling` is the mutual information of the latent
        actions divided by that of the ceiling.
    """
    centres = cluster(known.change, num_actions, seed)
    raw = [[action] for action in range(len(classifier.names))]
    result: dict[str, Any] = {}
    for name, groups in (("raw", raw), ("merged", classifier.groups)):
        few, many = (_codes(part, groups, centres, seed) for part in (known, held_out))
        result[name] = _compared(few, many, len(groups), num_actions, seed)
    share = {name: part["share_of_ceiling"] for name, part in result.items()}
    return {"action_alignment": result, "share_of_ceiling": share}


def action_maps(
    known: tuple[Tensor, Tensor],
    held_out: tuple[Tensor, Tensor],
    num_actions: int,
    truths: int,
    seed: int,
) -> list[dict[str, float]]:
    """Measures how many labelled steps it takes to name the latent actions.

    As for imitation in the paper (section 3.3): the true action that stands most often beside a
    latent one among a few labelled training steps becomes its name. The accuracy is the share of
    held-out steps whose name is right. The baseline gives every step the most common name.

    Args:
        known: (m,) latent and true actions of training steps.
        held_out: (n,) latent and true actions of other steps.
        num_actions: how many latent actions there are.
        truths: how many true ones.
        seed: of the draws.

    Returns:
        For each of `LABELS` up to m the mean `accuracy`, its standard deviation `std` over draws,
        and that of the baseline, `most_common`.
    """
    latent, true = (part.cpu() for part in held_out)
    generator = torch.Generator().manual_seed(seed)
    found = []
    for count in (c for c in LABELS if c <= len(known[0])):
        right, commonest = [], []
        for _ in range(DRAWS):
            drawn = torch.randperm(len(known[0]), generator=generator)[:count]
            few_latent, few_true = (part.cpu()[drawn] for part in known)
            table = contingency(few_latent, few_true, num_actions, truths)
            right.append((action_map(table)[latent] == true).float().mean())
            commonest.append((table.sum(0).argmax() == true).float().mean())
        accuracy = torch.stack(right)
        found.append(
            {
                "labels": count,
                "accuracy": accuracy.mean().item(),
                "std": accuracy.std().item(),
                "most_common": torch.stack(commonest).mean().item(),
            }
        )
    return found


def _codes(
    steps: SupervisedTransitions, groups: list[list[int]], centres: Tensor, seed: int
) -> Codes:
    """Merged true actions of the steps that have one, and what each condition says of them."""
    true, size = merge(steps.true, groups), len(centres)
    kept, generator = true >= 0, torch.Generator().manual_seed(seed)
    logits = {
        "past": group_logits(steps.past, groups)[kept],
        "ceiling": group_logits(steps.logits, groups)[kept],
    }
    codes = {
        "latent": steps.latent[kept],
        "random": torch.randint(size, true.shape, generator=generator)[kept],
        "kmeans": torch.cdist(steps.change, centres).argmin(1)[kept],
        **{side: part.argmax(1) for side, part in logits.items()},
    }
    return true[kept], codes, logits


def _compared(
    known: Codes, held_out: Codes, truths: int, num_actions: int, seed: int
) -> dict[str, Any]:
    few_true, few_codes, _ = known
    true, codes, logits = held_out
    conditions = dict[str, Any]()
    for side in CONDITIONS:
        size = truths if side in logits else num_actions
        conditions[side] = agreement(contingency(codes[side], true, size, truths))
        few, many = (few_codes[side], few_true), (codes[side], true)
        conditions[side]["action_maps"] = action_maps(few, many, size, truths, seed)
    counts = code_counts(true, truths)
    for side, part in logits.items():
        conditions[side] |= {
            "accuracy": (codes[side] == true).float().mean().item(),
            "information": entropy(counts) - F.cross_entropy(part, true).item(),
        }
    ours, most = (conditions[side]["mutual_information"] for side in ("latent", "ceiling"))
    return {
        "transitions": len(true),
        "conditions": conditions,
        "true_entropy": entropy(counts),
        "most_common": (counts.max() / counts.sum()).item(),
        "share_of_ceiling": ours / most if most > 0 else None,
    }
