"""Playing a world many clips at a time: with given actions, with random ones, with held actions."""

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

    Each clip has its own seed. So two calls that differ in their actions only sample the same
    noise, and a clip does not depend on the others in its batch.

    Args:
        world: the world.
        prompt: the frames that are known.
        actions: latent actions; the first leads to the first frame after the prompt.
        seeds: one per clip.
        sampling: settings of MaskGIT; those of the world when left out.
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
    """Samples latent actions uniformly, each clip from its own seed.

    Args:
        num_actions: how many latent actions there are.
        clips: how many clips.
        steps: actions per clip.
        seed: of the report.
        first: number of the first of these clips, so that batches do not matter.
    """
    generators = [np.random.default_rng([seed, first + i, 1]) for i in range(clips)]
    sampled = [generator.integers(num_actions, size=steps) for generator in generators]
    return torch.from_numpy(np.stack(sampled))


def play_all_actions(
    world: Genie,
    prompts: UInt8[Tensor, "N P H W C"],
    repeats: int,
    seed: int,
    batch: int,
    *,
    steps: int = 1,
    same_noise: bool = False,
    sampling: SamplingConfig | None = None,
    on_step: OnStep = ignore_step,
) -> UInt8[Tensor, "N A R steps H W C"]:
    """Holds every latent action from every prompt, R times.

    Args:
        world: the world.
        prompts: frames of N prompts.
        repeats: R, rollouts of each action from each prompt.
        seed: of the report.
        batch: players at once.
        steps: for how many frames an action is held.
        same_noise: the R seeds of a prompt are the same for all actions, so that frames of two
            actions differ by the action alone. Otherwise every rollout has its own noise, so that
            a world that ignores its actions does not generate one frame A times.
        sampling: how frames are sampled; the world's own way when left out.
        on_step: called for every batch and step.
    """
    count, num_actions = len(prompts), world.config.num_actions
    shape = (count, num_actions, repeats)
    if same_noise:
        noise = np.array([clip_seeds(seed, repeats * i, repeats) for i in range(count)])[:, None]
    else:
        noise = np.array(clip_seeds(seed, 0, count * num_actions * repeats)).reshape(shape)
    prompt, action, _ = (part.flatten() for part in np.indices(shape))
    seeds, frames = np.broadcast_to(noise, shape).flatten(), []
    for first in range(0, len(seeds), batch):
        part = slice(first, first + batch)
        held = torch.from_numpy(action[part])[:, None].expand(-1, steps).to(prompts.device)
        start, own = prompts[torch.from_numpy(prompt[part])], seeds[part].tolist()
        frames.append(rollout(world, start, held, own, sampling, on_step))
    return torch.cat(frames).unflatten(0, shape)
