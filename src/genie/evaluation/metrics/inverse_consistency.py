"""Inverse consistency: an action is held, then another one that takes the game back to its start.

Which action takes another one back is found by trying all, so no true action is needed. A world in
which left undoes right comes back. One that ignores its actions, or that invents what it does not
see, ends elsewhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from genie.evaluation.metrics import formulas
from genie.evaluation.metrics.context import Evaluation, Skipped
from genie.evaluation.metrics.metric import Headline, Metric
from genie.evaluation.protocol.rollouts import clip_seeds
from genie.models.layers.pixels import psnr, squared_error

MAX_GAMES, MAX_ACTIONS = 512, 16
"""Games grow with the square of the actions: many actions have fewer prompts, or no section."""


def play_pairs(evaluation: Evaluation, steps: int) -> tuple[Float[Tensor, "N A A 2"], Tensor]:
    """Holds every action and then every action from held-out prompts, with the same noise.

    Returns:
        The squared errors of the frames after `steps` and twice as many steps against the first,
        as the tokenizer gives it back; and the episode of each prompt.
    """
    config, size = evaluation.config, evaluation.world.config.num_actions
    if size > MAX_ACTIONS:
        raise Skipped(f"{size} actions have too many pairs; it is measured up to {MAX_ACTIONS}.")
    count = max(2, min(2 * config.action_prompts, MAX_GAMES // size**2))
    clips = evaluation.select(config.prompt_frames, count)
    prompts = torch.cat(list(clips))
    owner = torch.arange(len(prompts)).repeat_interleave(size**2)
    pairs = torch.cartesian_prod(torch.arange(size), torch.arange(size)).repeat(len(prompts), 1)
    seeds = np.repeat(clip_seeds(config.seed, 0, len(prompts)), size**2).tolist()
    batches = -(-len(owner) // config.batch)
    with evaluation.playing("Inverse consistency", 2 * steps * batches) as player:
        first = player.rebuilt(prompts)[:, -1:]
        actions, kept = pairs.repeat_interleave(steps, dim=1), [steps - 1, 2 * steps - 1]
        frames = player.games(prompts, owner, actions, seeds, kept)
    errors = [  # a prompt at a time, since floats need much memory
        squared_error(start.expand_as(part), part).mean((-2, -1))
        for start, part in zip(first, frames.split(size**2), strict=True)
    ]
    return torch.stack(errors).unflatten(1, (size, size)), clips.episodes


def inverse_consistency(evaluation: Evaluation, steps: int = 5) -> dict[str, Any]:
    """Measures how much nearer to its start a game comes on the way back.

    Each action is taken back by the one that does so best in the other half of the prompts. `gain`
    is the PSNR against the start at the end minus that at the turning point. It leaves out the
    stillest action, which any action that does nothing takes back. `random_gain` is the same for a
    random second action.
    """
    errors, episodes = play_pairs(evaluation, steps)
    if len(errors) < 2:
        raise Skipped("two prompts are needed, one to find the actions and one to measure.")
    away, back = errors[..., 0].mean(2), errors[..., 1]
    found, odd = torch.empty_like(away), torch.arange(len(away)) % 2 == 1
    for half in (odd, ~odd):
        inverse = back[~half].mean(0).argmin(1)
        found[half] = back[half][:, torch.arange(len(inverse)), inverse]
    moving = torch.arange(away.shape[1]) != away.mean(0).argmin()
    gains = psnr(found) - psnr(away), psnr(back).mean(2) - psnr(away)
    gain, random = (
        formulas.interval_over_episodes(part[:, moving].mean(1), episodes) for part in gains
    )
    columns = (psnr(part.mean(0)).tolist() for part in (away, found, back.mean(2)))
    rows = zip(back.mean(0).argmin(1).tolist(), *columns, strict=True)
    keys = ("taken_back_by", "away", "back", "random")
    return {
        "prompts": len(errors),
        "steps": steps,
        "gain": gain,
        "random_gain": random,
        "actions": [dict(zip(keys, row, strict=True)) for row in rows],
    }


INVERSE_CONSISTENCY = Metric(
    key="inverse_consistency",
    order=45,
    title="There and back",
    measure=inverse_consistency,
    headlines=(
        Headline(
            name="There and back in {steps} steps each, PSNR gained on the way back",
            unit="dB",
            value="gain.mean",
            baseline=("a random way back", "random_gain.mean"),
            certain=lambda section: (
                bool(section["gain"]["low"])
                and section["gain"]["low"] > section["random_gain"]["mean"]
            ),
            limits=(3.0, 0.5),
            good="Actions take back what others did.",
            fair="Actions take back a part of what others did.",
            poor="No action takes back what another did.",
        ),
    ),
)
