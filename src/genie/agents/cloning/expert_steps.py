"""Steps of expert video, each with the latent action that a world infers and the last frames."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from genie.agents.labelled_steps import LabelledSteps, require_labels, require_size
from genie.core.config import require
from genie.core.progress import Tick, ignore_tick

if TYPE_CHECKING:
    from genie.data.store import ClipStore, Episode
    from genie.world.genie import Genie


@dataclass(frozen=True)
class ExpertSteps:
    """Steps of expert video.

    Attributes:
        store: the video.
        rows: the frame that each step acts on.
        before: how many earlier frames its episode has.
        episodes: the episode of each step.
        latent: inferred latent actions.
        true: true actions, -1 where they are unknown.
        num_actions: A, the number of latent actions.
    """

    store: ClipStore
    rows: Int[np.ndarray, " n"]
    before: Int[np.ndarray, " n"]
    episodes: Int[np.ndarray, " n"]
    latent: Int[Tensor, " n"]
    true: Int[Tensor, " n"]
    num_actions: int

    def __len__(self) -> int:
        """Returns the number of steps."""
        return len(self.rows)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the true actions."""
        return tuple(self.store.action_names or ())

    def take(self, chosen: Int[Tensor, " m"]) -> ExpertSteps:
        """Returns some of the steps."""
        places = chosen.numpy()
        own = {name: getattr(self, name)[places] for name in ("rows", "before", "episodes")}
        return replace(self, **own, latent=self.latent[chosen], true=self.true[chosen])

    def labelled(self, count: int, seed: int) -> ExpertSteps:
        """Returns `count` steps whose true action is known, sampled without repeats.

        Fewer steps of the same seed are the first of more.

        Raises:
            UserError: there are not as many.
        """
        known = torch.from_numpy(np.flatnonzero(self.true.numpy() >= 0))
        require(
            count <= len(known),
            f"labels: {count:,}, but {self.store.path} has {len(known):,} labelled steps to train "
            "on; ask for fewer, or record more",
        )
        generator = torch.Generator().manual_seed(seed)
        return self.take(known[torch.randperm(len(known), generator=generator)[:count]])

    def shuffled(self, seed: int) -> ExpertSteps:
        """Returns the same steps with each other's latent actions."""
        generator = torch.Generator().manual_seed(seed)
        return replace(self, latent=self.latent[torch.randperm(len(self), generator=generator)])

    def stacks(self, chosen: Int[Tensor, " m"], frames: int) -> UInt8[Tensor, "m t h w 3"]:
        """Returns the last frames of some steps; the first of an episode is repeated."""
        places = chosen.numpy()
        back = np.minimum(np.arange(frames)[::-1], self.before[places][:, None])
        rows = (self.rows[places][:, None] - back).flatten()
        found = torch.from_numpy(self.store.windows(rows, 1)[:, 0])
        return found.unflatten(0, (len(places), frames))

    def pairs(self) -> LabelledSteps:
        """Returns the frame that each step acts on and the one it led to, for mappers."""
        frames = torch.from_numpy(self.store.windows(self.rows, 2))
        episodes = torch.from_numpy(self.episodes)
        return LabelledSteps(frames, self.latent, self.true, episodes, self.names, self.num_actions)


def read_expert(
    world: Genie, store: ClipStore, split: str, on_episode: Tick = ignore_tick
) -> ExpertSteps:
    """Infers the latent actions of all steps of a split.

    Args:
        world: whose latent actions are inferred.
        store: expert video.
        split: of the store.
        on_episode: called after each episode.

    Raises:
        UserError: the store has no true actions, or frames of another size than the world's.
    """
    require_size(world, store)
    labels, episodes = require_labels(store), store.episodes_in_split(split)
    parts = [_episode_steps(world, store, labels, episode, on_episode) for episode in episodes]
    rows, before, numbers, latent, true = (
        np.concatenate(part) if part else np.empty(0, np.int64) for part in zip(*parts, strict=True)
    )
    codes, known = torch.from_numpy(latent), torch.from_numpy(true)
    return ExpertSteps(store, rows, before, numbers, codes, known, world.config.num_actions)


def _episode_steps(
    world: Genie, store: ClipStore, labels: np.ndarray, episode: Episode, on_episode: Tick
) -> tuple[np.ndarray, ...]:
    frames = torch.from_numpy(np.array(store.read(episode.start, episode.length)))
    latent = world.actions.infer(frames[None].to(world.device))[0].cpu().numpy()
    before = np.arange(len(latent))
    rows = episode.start + before
    on_episode()
    return rows, before, np.full_like(rows, episode.id), latent, labels[rows].astype(np.int64)
