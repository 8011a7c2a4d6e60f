"""Do the actions lead to different frames? Held for a while, and in one step by a permutation test.

In the test every action is played several times from one state, each time with its own noise. The
next frames are A groups. Their pseudo-F is the variance between groups over the variance within.
Assigning the frames to the actions at random says how large it is by chance (PERMANOVA: Anderson
2001, Austral Ecology 26:32-46).
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from genie.evaluation.figures import action_figure
from genie.evaluation.metrics.context import Evaluation, Skipped
from genie.evaluation.metrics.metric import Headline, Metric

MIN_VARIANCE = 1e-9
"""Squares smaller than this fraction of all of them are rounding."""
DISTANCE_FLOOR = 0.05
"""What frames must differ by, in grey levels of 255, before a ratio of distances means anything."""


# --- held actions ---------------------------------------------------------------------------


def action_effects(
    held: UInt8[Tensor, "N A 2 T H W C"], prompts: UInt8[Tensor, "N H W C"]
) -> dict[str, Any]:
    """Compares what the held actions do, from frames of `RolloutPlayer.hold_all`.

    `between_actions` and `between_seeds` are mean absolute differences in grey levels of 255, over
    prompts and steps. Both sides of every pair have different seeds, so a world that ignores its
    actions has the same distance everywhere and a `ratio` of about 1. `distances[a][b]` is the
    distance of actions a and b over that of two seeds. The stillest action is the one after which
    the frame is nearest the prompt.
    """
    first, second = held.unbind(2)
    pairs = [[frame_distance(a, b).mean() for b in second.unbind(1)] for a in first.unbind(1)]
    distances, size = torch.tensor(pairs), len(pairs)
    same = distances.diagonal().mean().item()
    others = (distances.sum() - distances.diagonal().sum()).item()
    different = others / max(1, size * (size - 1))
    chance = max(same, DISTANCE_FLOOR)
    change = frame_distance(held, prompts[:, None, None, None]).mean((0, 2, 3))
    return {
        "between_actions": different,
        "between_seeds": same,
        "ratio": max(different, DISTANCE_FLOOR) / chance,
        "prompts": len(held),
        "steps": held.shape[3],
        "change_from_prompt": change.tolist(),
        "stillest_action": int(change.argmin()),
        "distances": (distances / chance).tolist(),
    }


def frame_distance(a: Tensor, b: Tensor) -> Tensor:
    """Returns the mean absolute difference of frames `(..., H, W, C)` in grey levels of 255."""
    return (a.float() - b.float()).abs().mean((-3, -2, -1))


def _held_actions(evaluation: Evaluation) -> dict[str, Any]:
    config, world = evaluation.config, evaluation.world
    starts = evaluation.clips.starts[: config.action_prompts]
    prompts = torch.cat(list(evaluation.batches(starts, config.prompt_frames)))
    batches = -(-len(prompts) * world.config.num_actions * 2 // config.batch)
    with evaluation.playing("Held actions", batches * config.action_steps) as player:
        held = player.hold_all(prompts, 2, config.seed, config.action_steps, same_noise=True)
    last = prompts[:, -1].cpu()
    found = action_effects(held, last)
    for i in range(min(config.figure_clips, len(last))):
        figure = action_figure(i + 1, last[i], held[i, :, 0], found["stillest_action"])
        evaluation.figures.append(figure)
    return found


HELD_ACTIONS = Metric(
    key="held_actions",
    order=10,
    title="What each action does",
    measure=_held_actions,
    headlines=(
        Headline(
            name="Held actions, distance between actions over distance between seeds",
            value="ratio",
            baseline=("a world that ignores its actions", 1.0),
            limits=(1.5, 1.1),
            good="Holding different actions leads to clearly different frames.",
            fair="Holding different actions changes more than chance does, but not by much.",
            poor="Holding different actions changes no more than chance does.",
        ),
    ),
)


# --- permutation test -----------------------------------------------------------------------


def separation(
    frames: UInt8[Tensor, "N A R H W C"], permutations: int = 999, seed: int = 0
) -> dict[str, Any]:
    """Tests whether frames of different actions differ by more than noise.

    `ratio` is the pseudo-F of all states together: the mean square between actions over the mean
    square within, each summed over states. It is about 1 for a world that ignores its actions.
    `null_95` is what 95 % of permutations stay below. `p` is the share of them that reach the
    ratio, the true order counted among them. `share_separated` is the share of states whose own p
    is below 0.05, and `explained` the share of all variance that the action explains.

    Args:
        frames: of N states, A actions and R repeats, as from `RolloutPlayer.hold_all`.
        permutations: within each state.
        seed: of the permutations.
    """
    states, actions, repeats = frames.shape[:3]
    generator = torch.Generator().manual_seed(seed)
    found = [_squares(state, permutations, generator) for state in frames]
    sums, all_squares = (torch.stack(part) for part in zip(*found, strict=True))
    own = _p_values(sums, all_squares)
    pooled, overall = sums.sum(0, keepdim=True), all_squares.sum(0, keepdim=True)
    least = MIN_VARIANCE * overall.clamp_min(1)
    within = (overall - pooled).clamp_min(least) / (states * actions * (repeats - 1))
    ratios = (pooled / (states * max(1, actions - 1)) / within)[0]
    still = overall.item() == 0
    return {
        "states": states,
        "repeats": repeats,
        "permutations": permutations,
        "ratio": 1.0 if still else ratios[0].item(),
        "null_95": 1.0 if still else ratios[1:].quantile(0.95).item(),
        "p": _p_values(pooled, overall).item(),
        "share_separated": (own < 0.05).double().mean().item(),
        "explained": 0.0 if still else (pooled[0, 0] / overall).item(),
    }


def _squares(
    state: UInt8[Tensor, "A R H W C"], permutations: int, generator: torch.Generator
) -> tuple[Float[Tensor, " orders"], Float[Tensor, ""]]:
    """Sums of squares between actions, in the true order and in others, and that of all frames."""
    actions, repeats = state.shape[:2]
    rows = state.flatten(0, 1).flatten(1).double().cpu()
    rows = rows - rows.mean(0)
    products = rows @ rows.mT
    count = actions * repeats
    orders = [torch.randperm(count, generator=generator) for _ in range(permutations)]
    groups = torch.stack([torch.arange(count), *orders]).unflatten(1, (actions, repeats))
    # The sum of products within a group is the square of the sum of its rows.
    inside = products[groups[..., :, None], groups[..., None, :]].sum((-3, -2, -1))
    return inside / repeats, products.trace()


def _p_values(
    between: Float[Tensor, "N orders"], total: Float[Tensor, " N"]
) -> Float[Tensor, " N"]:
    reached = between >= between[:, :1] - MIN_VARIANCE * total[:, None].clamp_min(1)
    return reached.double().mean(1)


def _separation(evaluation: Evaluation) -> dict[str, Any]:
    config, settings = evaluation.config, evaluation.config.separation
    if settings.states == 0:
        raise Skipped("no state was asked for.")
    prompts = torch.cat(list(evaluation.select(config.prompt_frames, settings.states)))
    players = len(prompts) * evaluation.world.config.num_actions * settings.repeats
    with evaluation.playing("Separation", -(-players // config.batch)) as player:
        frames = player.hold_all(prompts, settings.repeats, config.seed)
    return separation(frames[:, :, :, 0], settings.permutations, config.seed)


SEPARATION = Metric(
    key="separation",
    order=40,
    title="Does each action lead somewhere else?",
    measure=_separation,
    headlines=(
        Headline(
            name="Next frames, variance between actions over within",
            value="ratio",
            baseline=("chance, 95 % below", "null_95"),
            score="share_separated",
            certain=lambda section: section["ratio"] > section["null_95"] and section["p"] < 0.05,
            limits=(0.5, 0.0),
            good="In most states each action leads somewhere else, beyond what noise does.",
            fair="Actions lead somewhere else, but in fewer than half of the states for certain.",
            poor="Next frames of different actions differ no more than those of one action.",
        ),
    ),
)
