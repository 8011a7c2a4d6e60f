"""Held jump: what goes up comes down, in games whose camera follows the avatar.

A jump that is held lifts the avatar for some steps and then lets it fall. A world that saw the
action only where it works may rise for ever. Video in which a player held a jump is the real game,
and the world plays on from the same frames.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from genie.data.clips import ClipBatches
from genie.data.labelled import action_runs, in_one_episode
from genie.evaluation.metrics import formulas
from genie.evaluation.metrics.context import Evaluation, Skipped
from genie.evaluation.metrics.metric import Headline, Metric, Section
from genie.plugins.scrolling import (
    direction_actions,
    min_distance,
    scroll,
    towards,
)

STEPS = 40
MIN_HOLD = 12
"""Steps that a player must have held a jump, so that the real game had time to fall."""
REAL_FALLS = 8
"""Real games that must fall, and games that a point of a mean curve needs."""


def held_jump(evaluation: Evaluation, steps: int = STEPS) -> dict[str, Any]:
    """Holds the jump where a player held it, and compares the heights with the real ones.

    The action is the one with which most games on training levels rise. The longest held jumps of
    the split are taken. There, the player may also have gone to a side. A game falls when it drops
    by the distance of `scrolling` after a rise as high. `falls` counts only games in which the real
    one falls, and `falls_in_time` only falls within the steps that the player held. `distance` is
    the mean distance in pixels from the real height over these steps. The baselines are a random
    action, held in the same games, and an avatar that stands still.
    """
    prompts, lengths = find_held_jumps(evaluation, steps)
    real, far = real_heights(evaluation, prompts, lengths, steps), min_distance(evaluation)
    real_falls = falls(real, far)
    if real_falls.sum() < REAL_FALLS:
        raise Skipped(
            f"{int(real_falls.sum())} real games fall while a jump is held for {MIN_HOLD} steps; "
            f"{REAL_FALLS} are needed."
        )
    jump, size = direction_actions(evaluation)["jump"], evaluation.world.config.num_actions
    seed = evaluation.config.seed
    drawn = np.random.default_rng([seed, 17]).integers(size, size=len(lengths))
    held = {"world": torch.full_like(lengths, jump), "random": torch.from_numpy(drawn)}
    with evaluation.playing("Held jump", len(held) * steps * len(prompts)) as player:
        frames = {
            name: player.play_on(torch.cat(list(prompts)), actions[:, None].expand(-1, steps), seed)
            for name, actions in held.items()
        }
    heights = {name: scroll(part)[..., 0].cumsum(1) for name, part in frames.items()}
    known = torch.arange(1, steps + 1) <= lengths[:, None]
    sides = {**heights, "still": torch.zeros_like(real)}
    return {
        "games": len(lengths),
        "steps": steps,
        "action": jump,
        "pixels": far,
        "real_falls": real_falls.float().mean().item(),
        "games_that_fall": int(real_falls.sum()),
        **{
            name: _compared(height, real, known, real_falls, far, prompts.episodes)
            for name, height in sides.items()
        },
        "curves": {
            "real": _mean_curve(real, known),
            **{name: height.float().mean(0).tolist() for name, height in heights.items()},
        },
    }


def _compared(
    height: Int[Tensor, "N T"],
    real: Int[Tensor, "N T"],
    known: Bool[Tensor, "N T"],
    real_falls: Bool[Tensor, " N"],
    far: float,
    episodes: Int[Tensor, " N"],
) -> dict[str, Any]:
    until_known = torch.where(known, height, height.gather(1, known.sum(1, keepdim=True) - 1))
    distance = ((height - real).abs() * known).sum(1) / known.sum(1)
    down, in_time = (falls(part, far)[real_falls].float() for part in (height, until_known))
    return {
        "falls": formulas.interval_over_episodes(down, episodes[real_falls]),
        "falls_in_time": formulas.interval_over_episodes(in_time, episodes[real_falls]),
        "distance": formulas.interval_over_episodes(distance, episodes),
    }


def _mean_curve(height: Int[Tensor, "N T"], known: Bool[Tensor, "N T"]) -> list[float | None]:
    """The sum of the mean changes of the games known at each step; None where these are few.

    A mean of heights would jump wherever a high or low game ends.
    """
    change, count = height.diff(dim=1, prepend=torch.zeros_like(height[:, :1])), known.sum(0)
    mean = ((change * known).sum(0) / count.clamp_min(1)).cumsum(0)
    return [m if n >= REAL_FALLS else None for m, n in zip(mean.tolist(), count, strict=True)]


def find_held_jumps(evaluation: Evaluation, steps: int) -> tuple[ClipBatches, Int[Tensor, " N"]]:
    """Returns the prompts before the longest held jumps, and for how many steps each was held."""
    store, config = evaluation.store, evaluation.config
    labels, names = store.labels(), store.action_names
    if labels is None or names is None:
        raise Skipped("the true actions of this store, or their names, are not known.")
    runs = action_runs(store, towards("jump", labels, names), config.split)
    before = config.prompt_frames - 1
    usable = [
        (min(count, steps), start - before)
        for held, start, count in runs
        if held and count >= MIN_HOLD and in_one_episode(store, start - before, start)
    ]
    usable = sorted(usable, reverse=True)[: max(REAL_FALLS, config.closed_loop_games // 4)]
    lengths, starts = np.array(usable, np.int64).reshape(-1, 2).T
    return evaluation.batches(starts, config.prompt_frames), torch.from_numpy(lengths)


def real_heights(
    evaluation: Evaluation, prompts: ClipBatches, lengths: Int[Tensor, " N"], steps: int
) -> Int[Tensor, "N steps"]:
    """Returns the rise of the real avatar in pixels; where the jump ended it stays what it was."""
    found = torch.zeros(len(lengths), steps, dtype=torch.int64)
    starts = prompts.starts + prompts.length - 1
    for game, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
        clip = np.array(evaluation.store.windows(np.array([start]), length + 1))
        found[game, :length] = scroll(torch.from_numpy(clip))[0, :, 0]
    return found.cumsum(1)


def falls(height: Int[Tensor, "N T"], far: float) -> Bool[Tensor, " N"]:
    """Returns which games rise by a distance and fall by it afterwards."""
    height = torch.cat([torch.zeros_like(height[:, :1]), height], dim=1)
    rise = height - height.cummin(1).values
    drop = height - height.flip(1).cummin(1).values.flip(1)
    return ((rise >= far) & (drop >= far)).any(1)


def _falls_more_than_chance(section: Section) -> float | None:
    share = section["world"]["falls"]["mean"]
    return share if share > section["random"]["falls"]["mean"] else None


HELD_JUMP = Metric(
    key="held_jump",
    order=132,
    title="What goes up comes down",
    measure=held_jump,
    headlines=(
        Headline(
            name="A jump held {steps} steps: games that fall, of those in which the real one falls",
            value="world.falls.mean",
            baseline=("a random action", "random.falls.mean"),
            score=_falls_more_than_chance,
            limits=(0.8, 0.5),
            good="A held jump comes down where the real one does.",
            fair="A held jump often comes down where the real one does.",
            poor="A held jump seldom comes down, or no more often than after a random action.",
        ),
    ),
)
