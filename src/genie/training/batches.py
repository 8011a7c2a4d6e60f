"""Batches in an order that is a pure function of the step, read ahead by threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from genie.data.sampler import Place
from genie.data.store import ClipStore
from genie.presets.schedule import Augmentation
from genie.training import augment

Batch = tuple[Tensor, ...]


@dataclass(frozen=True)
class FrameClips:
    """Clips of frames for the tokenizer and the latent actions.

    Args:
        store: where the frames are.
        frames: T, frames per clip.
        batch: clips per optimizer step.
        augmentation: what is changed about them.
        split: the split to train on.
    """

    store: ClipStore
    frames: int
    batch: int
    augmentation: Augmentation = field(default_factory=Augmentation)
    split: str = "train"
    windows: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "windows", self.store.window_starts(self.frames, self.split))

    def __call__(self, place: Place) -> Batch:
        """Returns (frames u8 (B,T,H,W,3),)."""
        starts = place.starts(self.windows, self.batch)
        if self.augmentation == Augmentation():
            return (torch.from_numpy(self.store.windows(starts, self.frames)),)
        draws = augment.draw(self.augmentation, place, self.batch)
        frames = self._strided(starts, draws.strides)
        if self.augmentation.flip_prob:
            frames = augment.mirrored(frames, draws.flips)
        if self.augmentation.color_jitter:
            frames = augment.recoloured(frames, draws.colours)
        return (torch.from_numpy(frames),)

    def _strided(self, starts: np.ndarray, strides: np.ndarray) -> np.ndarray:
        """Clips of every so many frames, of fewer where the episode would end before."""
        steps = self.frames - 1
        strides = np.minimum(strides, self._left(starts) // steps)
        frames = np.empty(
            (len(starts), self.frames, self.store.height, self.store.width, 3), np.uint8
        )
        for stride in np.unique(strides).tolist():
            alike = strides == stride
            frames[alike] = self.store.windows(starts[alike], steps * stride + 1)[:, ::stride]
        return frames

    def _left(self, starts: np.ndarray) -> np.ndarray:
        """How many frames each start has after it in its episode."""
        firsts = [episode.start for episode in self.store.episodes]
        ends = np.array([episode.start + episode.length for episode in self.store.episodes])
        return ends[np.searchsorted(firsts, starts, side="right") - 1] - starts - 1


@dataclass(frozen=True)
class TokenClips:
    """Clips of cached tokens and actions for the dynamics: no pixel is touched.

    Args:
        store: where the episodes are.
        frames: T, frames per clip.
        batch: clips per optimizer step.
        whole: (N,S) tokens that know their past.
        fresh: (N,S) tokens of segments of T frames encoded alone, as prompts are; None where
            tokens do not depend on the past.
        actions: (N,) action from each frame to the next; None where they are inferred on the fly.
        fresh_share: share of the clips taken from `fresh`.
        with_frames: also return the frames, for joint training.
        split: the split to train on.
    """

    store: ClipStore
    frames: int
    batch: int
    whole: np.ndarray
    fresh: np.ndarray | None
    actions: np.ndarray | None
    fresh_share: float = 0.25
    with_frames: bool = False
    split: str = "train"
    windows: np.ndarray = field(init=False, repr=False)
    segments: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "windows", self.store.window_starts(self.frames, self.split))
        segments = segment_starts(self.store, self.frames, self.split)
        object.__setattr__(self, "segments", segments)

    def __call__(self, place: Place) -> Batch:
        """Returns (tokens (B,T,S), actions (B,T-1)), or (tokens, frames) for joint training."""
        starts = place.starts(self.windows, self.batch)
        fresh = self._fresh(place, len(starts))
        if fresh.any():
            segments = place.starts(self.segments, self.batch, salt=1)
            starts = np.where(fresh, segments, starts)
        rows = starts[:, None] + np.arange(self.frames)
        tokens = np.asarray(self.whole[rows])
        if self.fresh is not None and fresh.any():
            tokens[fresh] = self.fresh[rows[fresh]]
        batch = [torch.from_numpy(tokens.astype(np.int64))]
        if self.actions is not None:
            batch.append(torch.from_numpy(self.actions[rows[:, :-1]].astype(np.int64)))
        if self.with_frames:
            batch.append(torch.from_numpy(self.store.windows(starts, self.frames)))
        return tuple(batch)

    def _fresh(self, place: Place, clips: int) -> np.ndarray:
        # The running number of a clip decides, so that the share is kept over small batches too.
        if self.fresh is None:
            return np.zeros(clips, bool)
        first = (place.step * place.world_size + place.rank) * clips * place.parts + place.part
        numbers = first + np.arange(clips) * float(place.parts)
        return np.floor((numbers + 1) * self.fresh_share) > np.floor(numbers * self.fresh_share)


def segment_starts(store: ClipStore, frames: int, split: str | None = None) -> np.ndarray:
    """Returns where whole segments of `frames` frames start, from each episode's start on."""
    spans = [
        np.arange(e.start, e.start + e.length - frames + 1, frames)
        for e in store.episodes_in_split(split)
    ]
    return np.concatenate([np.empty(0, np.int64), *spans]).astype(np.int64)


class Ahead:
    """Endless batches from a step on, some of them read ahead by threads.

    Threads, because the reads wait for a disk or copy memory, and one cache of frames serves all.
    Their number does not change what is read.

    Args:
        read: gives the batch of a place.
        place: the first batch.
        threads: how many batches are read at a time.
    """

    def __init__(self, read: Callable[[Place], Batch], place: Place, threads: int = 2) -> None:
        self.read, self.place, self.threads = read, place, threads

    def __iter__(self) -> Iterator[Batch]:
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="clips")
        waiting: deque[Future[Batch]] = deque()
        try:
            for place in _places(self.place):
                waiting.append(pool.submit(self.read, place))
                if len(waiting) > self.threads:
                    yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _places(place: Place) -> Iterator[Place]:
    while True:
        for part in range(place.parts):
            yield replace(place, part=part)
        place = replace(place, step=place.step + 1)
