"""Playing a world many clips at a time: with given actions, with random ones, with held actions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from genie.core.progress import Tick, ignore_tick

if TYPE_CHECKING:
    from genie.world.genie import Genie
    from genie.world.maskgit import SamplingConfig


@dataclass
class RolloutPlayer:
    """Plays a world.

    Each clip has its own seed. So two rollouts that differ in their actions only sample the same
    noise, and a clip does not depend on the others in its batch.

    Attributes:
        world: the world.
        batch: games at once, where many are played.
        sampling: settings of MaskGIT; those of the world when None.
        on_step: called after every step of a batch.
    """

    world: Genie
    batch: int = 16
    sampling: SamplingConfig | None = None
    on_step: Tick = ignore_tick

    def steps(
        self, prompt: UInt8[Tensor, "B P H W C"], actions: Int[Tensor, "B N"], seeds: list[int]
    ) -> Iterator[UInt8[Tensor, "B H W C"]]:
        """Plays one action after the other from each prompt and yields the frames that come.

        Args:
            prompt: the frames that are known.
            actions: latent actions; the first leads to the first frame after the prompt.
            seeds: one per clip.
        """
        state = self.world.start(prompt, seed=seeds)
        for action in actions.to(prompt.device).unbind(1):
            frame, state = self.world.step(state, action, self.sampling)
            self.on_step()
            yield frame

    def rollout(
        self, prompt: UInt8[Tensor, "B P H W C"], actions: Int[Tensor, "B N"], seeds: list[int]
    ) -> UInt8[Tensor, "B N H W C"]:
        """Returns the frames of `steps`, on the CPU."""
        return torch.stack([frame.cpu() for frame in self.steps(prompt, actions, seeds)], 1)

    def games(
        self,
        prompts: UInt8[Tensor, "N P H W C"],
        which: Int[Tensor, " G"],
        actions: Int[Tensor, "G T"],
        seeds: list[int],
        kept: slice | list[int] = slice(None),
    ) -> UInt8[Tensor, "G kept H W C"]:
        """Plays G games, a batch at once; `which` says from which prompt, `kept` what returns."""
        played = list[Tensor]()
        for first in range(0, len(which), self.batch):
            part = slice(first, first + self.batch)
            frames = self.rollout(prompts[which[part]], actions[part], seeds[part])
            played.append(frames[:, kept])
        return torch.cat(played)

    def rebuilt(self, frames: UInt8[Tensor, "B T H W C"]) -> UInt8[Tensor, "B T H W C"]:
        """Returns frames as the tokenizer gives them back, on the CPU.

        Games are looked at beside such prompts, so that their first step shows what moved and not
        what the tokenizer lost.
        """
        return self.world.tokenizer.decode(self.world.tokenizer.encode(frames)).cpu()

    def play_on(
        self, prompts: UInt8[Tensor, "N P H W C"], actions: Int[Tensor, "N T"], seed: int
    ) -> UInt8[Tensor, "N T+1 H W C"]:
        """Returns the last frame of each prompt as `rebuilt`, and those of a game from it."""
        own, seeds = torch.arange(len(prompts)), clip_seeds(seed, 0, len(prompts))
        games = self.games(prompts, own, actions, seeds)
        return torch.cat([self.rebuilt(prompts)[:, -1:], games], dim=1)

    def hold_all(
        self,
        prompts: UInt8[Tensor, "N P H W C"],
        repeats: int,
        seed: int,
        steps: int = 1,
        same_noise: bool = False,
    ) -> UInt8[Tensor, "N A R steps H W C"]:
        """Holds every latent action from every prompt, R times.

        Args:
            prompts: frames of N prompts.
            repeats: R, rollouts of each action from each prompt.
            seed: of the report.
            steps: for how many frames an action is held.
            same_noise: the R seeds of a prompt are the same for all actions, so that frames of two
                actions differ by the action alone. Otherwise every rollout has its own noise, so
                that a world that ignores its actions does not generate one frame A times.
        """
        shape = (len(prompts), self.world.config.num_actions, repeats)
        prompt, action, _ = (torch.from_numpy(part).flatten() for part in np.indices(shape))
        own = (len(prompts), 1, repeats) if same_noise else shape
        noise = np.array(clip_seeds(seed, 0, math.prod(own))).reshape(own)
        seeds = np.broadcast_to(noise, shape).flatten().tolist()
        return self.games(prompts, prompt, action[:, None].expand(-1, steps), seeds).unflatten(
            0, shape
        )


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
