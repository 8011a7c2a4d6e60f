"""Composition: to one side and back again, in games whose camera follows the avatar.

After eight steps to the left and eight to the right the picture should be about the one before.
Held-out video in which a player did that is the real game, and the world plays from its frames.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from genie.data.labelled import action_runs, in_one_episode
from genie.evaluation.metrics import formulas
from genie.evaluation.metrics.context import Evaluation, Skipped
from genie.evaluation.metrics.metric import Headline, Metric, Section
from genie.models.layers.pixels import psnr, squared_error
from genie.plugins.scrolling import direction_actions, scroll, towards

SIDES = ("left", "right")
STEPS, MIN_STEPS = 8, 4
REAL_TURNS = 8
"""Real stretches that are needed; with fewer, shorter ones are taken."""


def composition(evaluation: Evaluation) -> dict[str, Any]:
    """Goes to a side and back as a player did, and compares with the first frame.

    The actions are those with which most games on training levels go to each side. PSNR is against
    the first frame, as the tokenizer gives it back: `away` at the turning point and `back` at the
    end. `gain` is the difference, which is 0 where nothing moves. `far` is by how many pixels the
    scene has moved to a side at the turning point, and `shift` at the end. `real` is the video
    itself, in which the player may also have jumped, and `random` has a random action in place of
    the way back.
    """
    config, (starts, side, steps) = evaluation.config, find_turns(evaluation)
    turns = evaluation.batches(starts, config.prompt_frames + 2 * steps)
    prompts = evaluation.batches(starts, config.prompt_frames)
    found = direction_actions(evaluation)
    actions = torch.tensor([found[name] for name in SIDES])
    size = evaluation.world.config.num_actions
    drawn = np.random.default_rng([config.seed, 23]).integers(size, size=len(starts))
    ways = {"world": actions[1 - side], "random": torch.from_numpy(drawn)}
    with evaluation.playing("Composition", len(ways) * 2 * steps * len(prompts)) as player:
        games = {
            name: player.play_on(
                torch.cat(list(prompts)),
                torch.stack([actions[side], back], 1).repeat_interleave(steps, dim=1),
                config.seed,
            )
            for name, back in ways.items()
        }
    games["real"] = torch.cat(list(turns)).cpu()[:, config.prompt_frames - 1 :]
    return {
        "games": len(starts),
        "steps": steps,
        "actions": dict(zip(SIDES, actions.tolist(), strict=True)),
        **{name: _summary(frames, turns.episodes) for name, frames in games.items()},
    }


def find_turns(
    evaluation: Evaluation,
) -> tuple[Int[np.ndarray, " N"], Int[Tensor, " N"], int]:
    """Finds where players went to a side and then to the other one for as many steps.

    Returns:
        First frames of the prompts; the first side, 0 or 1; and the steps: up to `STEPS`, as many
        as leave `REAL_TURNS` places.
    """
    store, config = evaluation.store, evaluation.config
    labels, names = store.labels(), store.action_names
    if labels is None or names is None:
        raise Skipped("the true actions of this store, or their names, are not known.")
    code = sum((i + 1) * towards(name, labels, names) for i, name in enumerate(SIDES))
    runs, before = action_runs(store, np.asarray(code), config.split), config.prompt_frames - 1
    turns = [
        (min(n, m), turn, first - 1)
        for (first, start, n), (second, turn, m) in pairwise(runs)
        if {first, second} == {1, 2} and turn == start + n
    ]
    turns = np.random.default_rng([config.seed, 29]).permutation(np.reshape(turns, (-1, 3)))
    found = list[tuple[int, int]]()
    for steps in range(STEPS, MIN_STEPS - 1, -1):
        found = [
            (turn - steps - before, side)
            for length, turn, side in turns.tolist()
            if length >= steps and in_one_episode(store, turn - steps - before, turn)
        ]
        if len(found) >= REAL_TURNS:
            starts, side = np.array(found[: max(REAL_TURNS, config.closed_loop_games // 4)]).T
            return starts, torch.from_numpy(side), steps
    raise Skipped(
        f"players went to a side and back for {MIN_STEPS} steps {len(found)} times; "
        f"{REAL_TURNS} are needed."
    )


def _summary(frames: UInt8[Tensor, "N T H W 3"], episodes: Int[Tensor, " N"]) -> Section:
    """What differs from the first frame at the turning point and at the end."""
    middle = frames.shape[1] // 2
    ends = frames[:, [middle, -1]]
    error = squared_error(frames[:, :1].expand_as(ends), ends).mean((-2, -1))
    moved = scroll(frames)[..., 1].cumsum(1)[:, [middle - 1, -1]].abs().float()
    away, back = psnr(error).unbind(1)
    values = {
        "away": away,
        "back": back,
        "gain": back - away,
        "far": moved[:, 0],
        "shift": moved[:, 1],
    }
    return {
        name: formulas.interval_over_episodes(value, episodes) for name, value in values.items()
    }


def _real_game_comes_back(section: Section) -> bool:
    return (section["real"]["gain"]["low"] or 0) > 0


def _gain_of_the_real_game(section: Section) -> float | None:
    """The gain as a share of the real game's, where it lies above that of a random action."""
    world, real, random = (section[side]["gain"]["mean"] for side in ("world", "real", "random"))
    return world / real if world > random and real > 0 else None


COMPOSITION = Metric(
    key="composition",
    order=134,
    title="To a side and back",
    measure=composition,
    headlines=(
        Headline(
            name="{steps} steps to a side and {steps} back, PSNR against the start",
            unit="dB",
            value="world.back.mean",
            baseline=(
                "a random way back {random[back][mean]:.1f}; the real game",
                "real.back.mean",
            ),
            score=_gain_of_the_real_game,
            shown=_real_game_comes_back,
            limits=(0.8, 0.4),
            good="The way back leads back, as in the real game.",
            fair="The way back leads nearer to the start, less than in the real game.",
            poor="The way back does not lead back.",
        ),
    ),
)
