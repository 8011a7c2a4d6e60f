"""Whether a held button moves the avatar its way, seen by how the scene scrolls.

Where the camera follows the avatar, going left makes the scene move right, and a jump makes it move
down. That needs no network and no labels of single steps, so it is also a check of what the
inverse-dynamics network reads (`obedience`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from genie.evaluation.metrics import formulas
from genie.evaluation.protocol.clips import ClipBatches
from genie.evaluation.protocol.held_actions import HeldActionGames
from genie.evaluation.protocol.rollouts import OnStep, ignore_step

if TYPE_CHECKING:
    from genie.data.store import ClipStore

SHIFTS = "shifts"
"""Name of the look at held games that sees them scroll."""

DIRECTIONS = {"left": ("left",), "right": ("right",), "jump": ("up", "jump")}
"""Ways that are looked for, and what the names of their true actions contain."""

MAX_SHIFT = 1 / 8
"""Largest shift of a step that is looked for, as a share of the frame."""

MIN_DISTANCE = 1 / 16
"""Share of the frame that the scene must have moved."""

STANDING = 0.01
"""What a pixel of shift costs, in grey levels, so that nothing moves where nothing is seen."""

REAL_GAMES = 20
"""Real stretches that are needed of a way."""

SCROLLS = 0.5
"""Share of real stretches that must go their way, or the camera does not follow the avatar."""


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


def scrolling(
    held: HeldActionGames,
    real: Mapping[str, tuple[int, float]],
    *,
    split: str,
    games: int,
    choosing_games: int,
    on_step: OnStep = ignore_step,
) -> dict[str, Any]:
    """Holds the button of each way and counts the games that go it.

    On training levels every button is held; a way gets the button with which most games go it.
    Those are then held from held-out frames. Chance is the same count over games with buttons drawn
    at random. The real game is held-out video in which the player held a true action of that name
    as long; a way that it goes in fewer than half of such stretches, or for which there are fewer
    than `REAL_GAMES` of them, is left out.

    Args:
        held: plays; its look `SHIFTS` is `scroll`.
        real: the ways of the real game, from `real_directions`.
        split: held out.
        games: held-out frames from which a button is held.
        choosing_games: training frames from which every button is held to choose among them.
        on_step: called after every batch and step, `HeldActionGames.max_steps` times at the most.

    Returns:
        For every way `share`, `chance`, `real` and `relative`, ours over the real one, and the
        means of them; or why this was `skipped`.
    """
    if not real:
        return {
            "skipped": "no true action is called left, right or up and was held for "
            f"{held.steps} steps in {REAL_GAMES} stretches that scroll that way."
        }
    far = _min_distance(held.store)
    known, prompts = held.prompts("train", choosing_games), held.prompts(split, games)

    def outcomes(clips: ClipBatches, buttons: int | Tensor) -> dict[str, Tensor]:
        return followed(held.hold(SHIFTS, clips, buttons, on_step), far)

    tried = [outcomes(known, button) for button in range(held.world.config.num_actions)]
    chosen = {
        way: int(torch.stack([one[way].float().mean() for one in tried]).argmax()) for way in real
    }
    ours = {way: outcomes(prompts, button)[way].float() for way, button in chosen.items()}
    random = outcomes(prompts, held.random_actions(prompts, 5))
    directions = {
        way: {
            "action": chosen[way],
            "share": ours[way].mean().item(),
            "chance": random[way].float().mean().item(),
            "real": share,
            "real_games": stretches,
            "relative": ours[way].mean().item() / share,
        }
        for way, (stretches, share) in real.items()
    }
    keys = ("share", "chance", "real", "relative")
    return {
        "games": len(prompts.starts),
        "steps": held.steps,
        "choosing_games": choosing_games,
        "pixels": far,
        "directions": directions,
        "mean": {key: float(np.mean([line[key] for line in directions.values()])) for key in keys},
        "share_interval": formulas.interval_over_episodes(
            torch.stack(list(ours.values())).mean(0), prompts.episodes
        ),
    }


def real_directions(
    store: ClipStore, split: str, steps: int, batch: int
) -> dict[str, tuple[int, float]]:
    """Returns in how many real stretches each way was held, and the share that went it.

    Args:
        store: frames and true actions.
        split: held out.
        steps: length of the stretches.
        batch: stretches at once.
    """
    labels, names = store.labels(), store.action_names
    if labels is None or names is None:
        return {}
    found = {}
    for way, words in DIRECTIONS.items():
        meant = [i for i, name in enumerate(names) if any(word in name for word in words)]
        starts = _find_stretches(store, np.isin(labels, meant), split, steps)
        if len(starts) < REAL_GAMES:
            continue
        clips = ClipBatches(store, np.array(starts), steps + 1, batch, torch.device("cpu"))
        shifts = torch.cat([scroll(frames) for frames in clips])
        share = followed(shifts, _min_distance(store))[way].float().mean().item()
        if share >= SCROLLS:
            found[way] = (len(starts), share)
    return found


def _min_distance(store: ClipStore) -> float:
    return MIN_DISTANCE * min(store.height, store.width)


def _find_stretches(store: ClipStore, held: np.ndarray, split: str, steps: int) -> Sequence[int]:
    """First frames of stretches, one after the other, in which an action is held throughout."""
    starts = list[int]()
    for episode in store.episodes:
        if episode.split == split:
            inside = held[episode.start : episode.start + episode.length - 1]
            edges = np.flatnonzero(np.diff(inside, prepend=False, append=False)).tolist()
            for first, end in list(pairwise(edges))[::2]:
                starts += range(episode.start + first, episode.start + end - steps + 1, steps)
    return starts
