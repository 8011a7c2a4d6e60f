"""Playing a world many clips at a time: with given actions, with random ones, with held buttons."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

if TYPE_CHECKING:
    from genie.world.genie import Genie
    from genie.world.maskgit import SamplingConfig

OnStep = Callable[[], None]


def ignore_step() -> None:
    """Does nothing; for callers that show no progress."""


def rollout(
    world: Genie,
    prompt: UInt8[Tensor, "B P H W C"],
    actions: Int[Tensor, "B N"],
    seeds: list[int],
    sampling: SamplingConfig | None = None,
    on_step: OnStep = ignore_step,
) -> UInt8[Tensor, "B N H W C"]:
    """Plays one action after the other from each prompt and returns the frames that came.

    Each clip has its own seed, so that two calls that differ in their actions only draw the same
    noise, and so that a clip does not depend on which others are in its batch.

    Args:
        world: the world.
        prompt: the frames that are known.
        actions: latent actions; the first leads to the first frame after the prompt.
        seeds: one per clip.
        sampling: how frames are drawn; the world's own way when left out.
        on_step: called after every frame.
    """
    state = world.start(prompt, seed=seeds)
    frames = []
    for action in actions.unbind(1):
        frame, state = world.step(state, action, sampling)
        frames.append(frame.cpu())
        on_step()
    return torch.stack(frames, 1)


def clip_seeds(seed: int, first: int, count: int) -> list[int]:
    """Returns a seed for each of `count` clips, the first of which is clip number `first`."""
    return [int(np.random.default_rng([seed, first + i]).integers(2**31)) for i in range(count)]


def random_actions(
    num_actions: int, clips: int, steps: int, seed: int, first: int = 0
) -> Int[Tensor, "clips steps"]:
    """Draws latent actions uniformly, each clip from its own seed.

    Args:
        num_actions: how many latent actions there are.
        clips: how many clips.
        steps: actions per clip.
        seed: of the report.
        first: number of the first of these clips, so that batches do not matter.
    """
    generators = [np.random.default_rng([seed, first + i, 1]) for i in range(clips)]
    drawn = [generator.integers(num_actions, size=steps) for generator in generators]
    return torch.from_numpy(np.stack(drawn))


def hold_actions(
    world: Genie,
    prompts: UInt8[Tensor, "N P H W C"],
    steps: int,
    seed: int,
    batch: int,
    sampling: SamplingConfig | None = None,
    on_step: OnStep = ignore_step,
) -> UInt8[Tensor, "N A 2 steps H W C"]:
    """Holds each latent action for `steps` frames from each prompt, under two seeds.

    The seeds of a prompt are the same for every action, so that pictures of two actions differ by
    the action alone. `batch` bounds how many players step at once; `on_step` is called once for
    every batch and step.
    """
    count, num_actions = len(prompts), world.config.num_actions
    seeds = np.array([clip_seeds(seed, 2 * i, 2) for i in range(count)])
    players = [(n, a, s) for n in range(count) for a in range(num_actions) for s in range(2)]
    held = []
    for first in range(0, len(players), batch):
        prompt, action, twin = (
            list(part) for part in zip(*players[first : first + batch], strict=True)
        )
        actions = torch.tensor(action)[:, None].expand(-1, steps)
        noise = seeds[prompt, twin].tolist()
        held.append(rollout(world, prompts[prompt], actions, noise, sampling, on_step))
    return torch.cat(held).unflatten(0, (count, num_actions, 2))
