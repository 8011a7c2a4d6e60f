"""Steps of a clip store whose true action is known, with the latent action that a world infers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from genie.core.config import UserError, require
from genie.core.progress import Tick, ignore_tick

if TYPE_CHECKING:
    from genie.data.store import ClipStore
    from genie.world.genie import Genie

BATCH = 128


@dataclass(frozen=True)
class LabelledSteps:
    """Labelled steps.

    Attributes:
        frames: the frame that was acted on and the one it led to.
        latent: inferred latent actions.
        true: true actions.
        episodes: the episode of each step.
        names: of the true actions.
        num_actions: A, the number of latent actions.
    """

    frames: UInt8[Tensor, "n 2 h w 3"]
    latent: Int[Tensor, " n"]
    true: Int[Tensor, " n"]
    episodes: Int[Tensor, " n"]
    names: tuple[str, ...]
    num_actions: int

    def __len__(self) -> int:
        """Returns the number of steps."""
        return len(self.true)

    def take(self, chosen: Int[Tensor, " m"]) -> LabelledSteps:
        """Returns some of the steps."""
        parts = ("frames", "latent", "true", "episodes")
        return replace(self, **{name: getattr(self, name)[chosen] for name in parts})

    def first(self, count: int) -> LabelledSteps:
        """Returns the first `count` of the steps."""
        return self.take(torch.arange(count))

    def sample(self, count: int, number: int) -> LabelledSteps:
        """Returns `count` of the steps, other ones for each number.

        Samples share no step as long as there are enough, and as few as can be otherwise.
        """
        first = number * count
        return self.take(torch.arange(first, first + count) % len(self))

    @property
    def counts(self) -> Int[Tensor, "a k"]:
        """How many steps have each latent action beside each true one."""
        size = len(self.names)
        both = torch.bincount(self.latent * size + self.true, minlength=self.num_actions * size)
        return both.reshape(self.num_actions, size)


def require_labels(store: ClipStore) -> np.ndarray:
    """Returns the true actions of a store.

    Raises:
        UserError: its videos had no sidecars.
    """
    labels = store.labels()
    words = f"{store.path}: this store has no true actions; prepare videos that have sidecar files"
    require(labels is not None, f"{words}, such as those of `genie record`")
    assert labels is not None
    return labels


def held_out_split(store: ClipStore) -> str:
    """Returns the split to measure on: val, or else test.

    Raises:
        UserError: there is neither.
    """
    for split in ("val", "test"):
        if split in store.splits:
            return split
    raise UserError(f"{store.path}: there is no held-out split; prepare more videos")


def require_size(world: Genie, store: ClipStore) -> None:
    """Raises `UserError` for a store whose frames have another size than the world's."""
    config = world.config
    fits = (store.height, store.width) == (config.height, config.width)
    sizes = f"{store.width}x{store.height}, those of the world {config.width}x{config.height}"
    require(fits, f"{store.path}: its frames are {sizes}; prepare the videos in that size")


def read_steps(
    world: Genie,
    store: ClipStore,
    split: str,
    count: int,
    seed: int = 0,
    on_step: Tick = ignore_tick,
) -> LabelledSteps:
    """Samples labelled steps of a split and infers their latent actions.

    Args:
        world: whose latent actions are inferred.
        store: frames and true actions.
        split: of the store.
        count: how many steps.
        seed: of the choice and the order. Fewer steps of the same seed are the first of more.
        on_step: called after each batch, of which there are `count` / `BATCH`, rounded up.

    Raises:
        UserError: the store has no true actions, or not as many, or its frames have another size.
    """
    config, labels = world.config, require_labels(store)
    require_size(world, store)
    rows, episodes, before = _labelled_rows(store, labels, split)
    require(
        count <= len(rows),
        f"labels: {count:,}, but the {split!r} split of {store.path} has {len(rows):,} labelled "
        "steps; ask for fewer, or record more",
    )
    chosen = np.random.default_rng([seed, 21]).permutation(len(rows))[:count]
    rows, episodes, before = rows[chosen], episodes[chosen], before[chosen]
    frames, latent = _frames_and_latents(world, store, rows, before, on_step)
    names = store.action_names or [str(number) for number in range(int(labels.max()) + 1)]
    true = torch.from_numpy(labels[rows].astype(np.int64))
    return LabelledSteps(
        frames, latent, true, torch.from_numpy(episodes), tuple(names), config.num_actions
    )


def _labelled_rows(
    store: ClipStore, labels: np.ndarray, split: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns frame, episode and number of earlier frames of each labelled step of a split."""
    parts = [np.empty((3, 0), np.int64)]
    for episode in store.episodes:
        if episode.split == split:
            before = np.arange(episode.length - 1)
            rows = episode.start + before
            parts.append(np.stack([rows, np.full_like(rows, episode.id), before]))
    rows, episodes, before = np.concatenate(parts, axis=1)
    known = labels[rows] >= 0
    return rows[known], episodes[known], before[known]


def _frames_and_latents(
    world: Genie, store: ClipStore, rows: np.ndarray, before: np.ndarray, on_step: Tick
) -> tuple[Tensor, Tensor]:
    actions = world.actions
    seen = np.minimum(before, actions.past)
    frames = torch.empty((len(rows), 2, store.height, store.width, 3), dtype=torch.uint8)
    latent = torch.empty(len(rows), dtype=torch.int64)
    for batch in _batches(seen):
        length = int(seen[batch[0]])
        clips = np.array(store.windows(rows[batch] - length, length + 2))
        tensor = torch.from_numpy(clips)
        frames[batch] = tensor[:, -2:]
        latent[batch] = actions.infer(tensor.to(world.device))[:, -1].cpu()
        on_step()
    return frames, latent


def _batches(seen: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the steps that have equally many frames before them, in batches."""
    for length in np.unique(seen):
        same = np.flatnonzero(seen == length)
        yield from np.array_split(same, -(-len(same) // BATCH))
