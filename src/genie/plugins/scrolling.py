"""Scrolling: a held action moves the scene, in games whose camera follows the avatar.

Where the camera follows the avatar, going left makes the scene move right, and a jump makes it move
down. This needs no network and no true actions of single steps. So it also checks the closed loop
that the action classifier reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from genie.data.labelled import action_runs, stretches
from genie.evaluation.metrics.closed_loop import (
    REAL_GAMES,
    RealGame,
    hold_towards,
    measure_stretches,
    select_actions,
)
from genie.evaluation.metrics.context import Evaluation, Skipped
from genie.evaluation.metrics.metric import Headline, Metric, Section

DIRECTIONS = {"left": ("left",), "right": ("right",), "jump": ("up", "jump")}
"""Directions that are looked for, and what the names of their true actions contain."""

MAX_SHIFT = 1 / 8
"""Largest shift of a step that is looked for, as a fraction of the frame."""

MIN_DISTANCE = 1 / 16
"""Fraction of the frame that the scene must have moved."""

STANDING = 0.01
"""Cost of a pixel of shift in grey levels, so that nothing moves where nothing is visible."""

SCROLLS = 0.5
"""Fraction of real stretches that must scroll, or the camera does not follow the avatar."""


def scroll(frames: UInt8[Tensor, "b t h w 3"]) -> Int[Tensor, "b t-1 2"]:
    """Returns by how many rows and columns the scene moved in each step, down and right.

    Block matching: the shift, of whole pixels, with which the middle of a frame is found in the one
    before with the least mean absolute difference.
    """
    b, t, h, w, _ = frames.shape
    reach = max(1, round(MAX_SHIFT * min(h, w)))
    grey = frames.float().mean(-1)
    now = grey[:, 1:, reach : h - reach, reach : w - reach]
    shifts = [(y, x) for y in range(-reach, reach + 1) for x in range(-reach, reach + 1)]
    shifts.sort(key=lambda shift: abs(shift[0]) + abs(shift[1]))
    best = torch.full((b, t - 1), torch.inf)
    found = torch.zeros(b, t - 1, 2, dtype=torch.int64)
    for y, x in shifts:
        before = grey[:, :-1, reach - y : h - reach - y, reach - x : w - reach - x]
        error = (now - before).abs().mean((2, 3)) + STANDING * (abs(y) + abs(x))
        better = error < best
        best = torch.where(better, error, best)
        found[better] = torch.tensor([y, x])
    return found


def followed(shifts: Int[Tensor, "n t 2"], far: float) -> dict[str, Bool[Tensor, " n"]]:
    """Returns which games went each way: the sum to a side, the highest rise for a jump."""
    down, right = shifts[..., 0].cumsum(1), shifts[..., 1].sum(1)
    start = torch.zeros(len(down), 1, dtype=down.dtype)
    height = torch.cat([start, down], dim=1)
    rise = (height - height.cummin(1).values).amax(1)
    return {"left": right >= far, "right": right <= -far, "jump": rise >= far}


def scrolling(evaluation: Evaluation) -> dict[str, Any]:
    """Holds the action of each direction and counts the games that scroll; see `hold_towards`.

    The real game is held-out video in which the player held a true action of that name as long. A
    direction is left out where fewer than half of such stretches scroll, or where there are fewer
    than `REAL_GAMES` of them.
    """
    real, steps = _directions(evaluation), evaluation.config.closed_loop_steps
    distance = min_distance(evaluation)

    def reached(shifts: Tensor) -> Bool[Tensor, "N goals"]:
        games = followed(shifts, distance)
        return torch.stack([games[name] for name in real], dim=1)

    found = hold_towards(evaluation, "scrolling", real, reached, real_steps=steps, stream=5)
    directions = found.pop("actions")
    return found | {"directions": directions, "pixels": distance}


def real_directions(evaluation: Evaluation) -> dict[str, RealGame]:
    """Returns the directions in which the real game scrolls when their action is held."""
    store, steps = evaluation.store, evaluation.config.closed_loop_steps
    labels, names = store.labels(), store.action_names
    if labels is None or names is None:
        return {}
    found = {}
    for direction in DIRECTIONS:
        runs = action_runs(store, towards(direction, labels, names), evaluation.config.split)
        starts = stretches(runs, 1, steps)
        if len(starts) < REAL_GAMES:
            continue
        games = followed(
            measure_stretches(evaluation, starts, steps, scroll), min_distance(evaluation)
        )
        share = games[direction].float().mean().item()
        if share >= SCROLLS:
            found[direction] = RealGame(len(starts), share)
    return found


def towards(
    direction: str, labels: Int[np.ndarray, " frames"], names: Sequence[str]
) -> Int[np.ndarray, " frames"]:
    """Returns 1 where the true action is one of a direction, and 0 elsewhere."""
    words = DIRECTIONS[direction]
    meant = [i for i, name in enumerate(names) if any(word in name for word in words)]
    return np.isin(labels, meant).astype(int)


def direction_actions(evaluation: Evaluation) -> dict[str, int]:
    """Returns the action with which most games on training levels go each way.

    These games are those that `scrolling` chooses with. So directions are known, too, that no
    player held for long enough to compare with.

    Raises:
        Skipped: the real game does not scroll, or there are no training levels.
    """
    _directions(evaluation)
    if not any(episode.split == "train" for episode in evaluation.store.episodes):
        raise Skipped("there is no 'train' split to select actions on.")
    config, held, distance = evaluation.config, evaluation.held_games, min_distance(evaluation)
    known = evaluation.select(config.prompt_frames, config.action_selection_games, split="train")
    actions = range(evaluation.world.config.num_actions)
    with evaluation.playing("Directions", len(actions) * len(known) * held.steps):
        tried = [held.hold("scrolling", known, action) for action in actions]
    chosen = select_actions(
        tried, lambda shifts: torch.stack(list(followed(shifts, distance).values()), dim=1)
    )
    return dict(zip(DIRECTIONS, chosen, strict=True))


def _directions(evaluation: Evaluation) -> dict[str, RealGame]:
    found = evaluation.once("scrolling", lambda: real_directions(evaluation))
    if not found:
        raise Skipped(
            "no true action is called left, right or up and was held for "
            f"{evaluation.config.closed_loop_steps} steps in {REAL_GAMES} stretches that scroll "
            "that way."
        )
    return found


def _held_measure(evaluation: Evaluation) -> Any:
    _directions(evaluation)
    return scroll


def min_distance(evaluation: Evaluation) -> float:
    """Returns by how many pixels the scene must have moved."""
    return MIN_DISTANCE * min(evaluation.store.height, evaluation.store.width)


def _chance(section: Section) -> float:
    return section["mean"]["chance"] / section["mean"]["real"]


SCROLLING = Metric(
    key="scrolling",
    order=130,
    title="Held actions move the avatar their way",
    measure=scrolling,
    held_measure=_held_measure,
    cells=(
        (
            "games that scroll the way of an action held {steps} steps (random action, real)",
            "mean.share",
            "mean.chance",
            "mean.real",
        ),
    ),
    headlines=(
        Headline(
            name=lambda section: (
                f"Actions held {section['steps']} steps: {', '.join(section['directions'])}, "
                "relative to the real game"
            ),
            value="mean.relative",
            baseline=("a random action", _chance),
            certain=lambda section: section["mean"]["relative"] > _chance(section),
            limits=(0.8, 0.5),
            good="A held action moves the avatar its way as often as in the real game, or nearly.",
            fair="A held action moves the avatar its way, less often than in the real game.",
            poor="A held action seldom moves the avatar its way.",
        ),
    ),
)
