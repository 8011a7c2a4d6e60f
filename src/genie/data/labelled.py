"""Where the true actions of a store are: windows to learn from, and runs of one action."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from genie.core.config import require

if TYPE_CHECKING:
    from genie.data.store import ClipStore, Episode

HELD_OUT_FRACTION = 0.1
"""Share of the training episodes that a network is not trained on but judged by."""


def split_episodes(store: ClipStore, split: str, seed: int) -> tuple[list[Episode], list[Episode]]:
    """Returns the episodes of a split to train on and those to judge by, a tenth, at least one.

    A lone episode is both.
    """
    episodes = [e for e in store.episodes if e.split == split and e.length >= 2]
    if len(episodes) < 2:
        return episodes, episodes
    order = np.random.default_rng([seed, 7]).permutation(len(episodes))
    judged = set(order[: max(1, round(HELD_OUT_FRACTION * len(episodes)))].tolist())
    return (
        [e for i, e in enumerate(episodes) if i not in judged],
        [e for i, e in enumerate(episodes) if i in judged],
    )


def labelled_batches(
    store: ClipStore, split: str, *, window: int, batch: int, steps: int, seed: int
) -> Iterator[tuple[UInt8[Tensor, "b t h w 3"], Int[Tensor, "b t-1"]]]:
    """Yields frames and the true actions between them, from the episodes to train on.

    Args:
        store: frames and true actions.
        split: of the store.
        window: frames of each clip; fewer where no episode has so many.
        batch: clips, each with at least one known action. An unknown one is -1.
        steps: how many batches, each drawn anew.
        seed: of the episodes and the draws.

    Raises:
        UserError: no true action of the split is known.
    """
    labels, (episodes, _) = store.labels(), split_episodes(store, split, seed)
    assert labels is not None
    length = min(window, max((e.length for e in episodes), default=window))
    spans = [np.arange(e.start, e.start + e.length - length + 1) for e in episodes]
    starts, offsets = np.concatenate([np.empty(0, np.int64), *spans]), np.arange(length - 1)
    starts = starts[(labels[starts[:, None] + offsets] >= 0).any(axis=1)]
    require(len(starts) > 0, f"no true action of the {split!r} split is known")
    rng = np.random.default_rng([seed, 8])
    for _ in range(steps):
        drawn = rng.choice(starts, batch)
        frames = torch.from_numpy(np.array(store.windows(drawn, length)))
        yield frames, torch.from_numpy(labels[drawn[:, None] + offsets]).long()


def judged_windows(
    store: ClipStore, split: str, *, window: int, count: int, seed: int
) -> tuple[Int[np.ndarray, " n"], int]:
    """Returns first frames, and the length, of windows of the episodes to judge by.

    They do not overlap. There are at most `count`, in a random order.
    """
    _, episodes = split_episodes(store, split, seed)
    length = min(window, max(e.length for e in episodes))
    spans = [np.arange(e.start, e.start + e.length - length + 1, length) for e in episodes]
    order = np.random.default_rng([seed, 9])
    return order.permutation(np.concatenate(spans))[:count], length


def action_runs(
    store: ClipStore, actions: Int[np.ndarray, " frames"], split: str
) -> list[tuple[int, int, int]]:
    """Returns action, first frame and length of each run of one action, within episodes."""
    found = list[tuple[int, int, int]]()
    for episode in store.episodes:
        if episode.split == split:
            inside = actions[episode.start : episode.start + episode.length - 1]
            edges = np.flatnonzero(np.diff(inside, prepend=-2, append=-2)).tolist()
            found += [(int(inside[a]), episode.start + a, b - a) for a, b in pairwise(edges)]
    return found


def stretches(runs: list[tuple[int, int, int]], action: int, length: int) -> Int[np.ndarray, " n"]:
    """Returns the first frames of stretches of one action that do not overlap."""
    own = [(first, count // length) for held, first, count in runs if held == action]
    return np.array([first + length * i for first, n in own for i in range(n)], dtype=np.int64)


def in_one_episode(store: ClipStore, first: int, last: int) -> bool:
    """Whether two frames are of the same episode."""
    return any(e.start <= first <= last < e.start + e.length for e in store.episodes)
