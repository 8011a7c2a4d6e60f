"""Batches in an order that is a pure function of the step, prefetched by threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from genie.data.cache import Rows
from genie.data.sampler import BatchIndex
from genie.data.store import ClipStore, Episode
from genie.presets.schedule import Augmentation
from genie.training import augment
from genie.training.balance import BalancedClips

Batch = tuple[Tensor, ...]

ReadBatch = Callable[[BatchIndex], Batch]
"""Gives the batch of an index; always the same one."""


@dataclass(frozen=True)
class FrameBatches:
    """Clips of frames for the tokenizer and the latent action model.

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

    def __call__(self, index: BatchIndex) -> Batch:
        """Returns (frames u8 (B,T,H,W,3),)."""
        starts = index.clip_starts(self.windows, self.batch)
        if self.augmentation == Augmentation():
            return (torch.from_numpy(self.store.windows(starts, self.frames)),)
        sampled = augment.sample_augmentations(self.augmentation, index, self.batch)
        frames = self._strided(starts, sampled.strides)
        if self.augmentation.flip_prob:
            frames = augment.flip(frames, sampled.flips)
        if self.augmentation.color_jitter:
            frames = augment.jitter_color(frames, sampled.colors)
        return (torch.from_numpy(frames),)

    def _strided(self, starts: np.ndarray, strides: np.ndarray) -> np.ndarray:
        """Clips of every k-th frame, with a smaller k where the episode would end before."""
        steps = self.frames - 1
        strides = np.minimum(strides, self._frames_left(starts) // steps)
        frames = np.empty(
            (len(starts), self.frames, self.store.height, self.store.width, 3), np.uint8
        )
        for stride in np.unique(strides).tolist():
            alike = strides == stride
            frames[alike] = self.store.windows(starts[alike], steps * stride + 1)[:, ::stride]
        return frames

    def _frames_left(self, starts: np.ndarray) -> np.ndarray:
        """How many frames each start has after it in its episode."""
        firsts = [episode.start for episode in self.store.episodes]
        ends = np.array([episode.start + episode.length for episode in self.store.episodes])
        return ends[np.searchsorted(firsts, starts, side="right") - 1] - starts - 1


@dataclass(frozen=True)
class TokenBatches:
    """Clips of cached tokens and actions for the dynamics: no pixel is read.

    Args:
        store: where the episodes are.
        frames: T, frames per clip.
        batch: clips per optimizer step.
        episode_tokens: (N,S) tokens that were encoded with their past.
        prompt_tokens: (N,S) tokens of segments of T frames, each encoded alone, as prompts are;
            None where tokens do not depend on the past.
        actions: (N,) action from each frame to the next; None where they are inferred on the fly.
        prompt_fraction: fraction of the clips taken from `prompt_tokens`.
        with_frames: also return the frames, for joint training.
        balanced_actions: fraction of the clips that are chosen by their last action.
        split: the split to train on.
    """

    store: ClipStore
    frames: int
    batch: int
    episode_tokens: Rows
    prompt_tokens: Rows | None
    actions: np.ndarray | None
    prompt_fraction: float = 0.25
    with_frames: bool = False
    balanced_actions: float = 0.0
    split: str = "train"
    windows: np.ndarray = field(init=False, repr=False)
    segments: np.ndarray = field(init=False, repr=False)
    balanced: BalancedClips | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        object.__setattr__(self, "windows", self.store.window_starts(self.frames, self.split))
        if self.balanced_actions and self.actions is not None:
            clips = BalancedClips(self.windows, self.actions, self.frames, self.balanced_actions)
            object.__setattr__(self, "balanced", clips)
        segments = segment_starts(self.store, self.frames, self.split)
        object.__setattr__(self, "segments", segments)

    def __call__(self, index: BatchIndex) -> Batch:
        """Returns (tokens (B,T,S), actions (B,T-1)), or (tokens, frames) for joint training."""
        starts = index.clip_starts(self.windows, self.batch)
        if self.balanced:
            starts = self.balanced(index, starts, self.batch)
        prompts = self._are_prompts(index)
        if prompts.any():
            segments = index.clip_starts(self.segments, self.batch, salt=1)
            starts = np.where(prompts, segments, starts)
        rows = starts[:, None] + np.arange(self.frames)
        tokens = np.asarray(self.episode_tokens[rows])
        if self.prompt_tokens is not None and prompts.any():
            tokens[prompts] = self.prompt_tokens[rows[prompts]]
        batch = [torch.from_numpy(tokens.astype(np.int64))]
        if self.actions is not None:
            batch.append(torch.from_numpy(self.actions[rows[:, :-1]].astype(np.int64)))
        if self.with_frames:
            batch.append(torch.from_numpy(self.store.windows(starts, self.frames)))
        return tuple(batch)

    def _are_prompts(self, index: BatchIndex) -> np.ndarray:
        # The running number of a clip decides, so small batches keep the fraction as well.
        numbers = index.clip_numbers(self.batch)
        if self.prompt_tokens is None:
            return np.zeros(len(numbers), bool)
        fraction = self.prompt_fraction
        return np.floor((numbers + 1) * fraction) > np.floor(numbers * fraction)


@dataclass(frozen=True)
class RewardBatches:
    """Steps of a store with what they earned, for the heads of reward and end.

    A game ends once an episode, and in many games that is where the reward is. So half of the clips
    are the last ones of their episodes. The weights make up for that, and for the fewer clips that
    hold the first and last steps of episodes: each step counts alike in the expected loss.

    Args:
        store: where the episodes are; its rewards and ends are known.
        frames: T, frames per clip.
        batch: clips per optimizer step.
        features: gives the dynamics' features (B,T,S,F) of tokens (B,T,S) and actions (B,T-1).
        tokens: (N,S) of all frames.
        actions: (N,) latent action from each frame to the next; -1 at the last of an episode.
        evidence: (N,A) see `RewardHeads.loss`.
        episodes: to learn from; shorter ones than a clip are left out.
    """

    store: ClipStore
    frames: int
    batch: int
    features: Callable[[Tensor, Tensor], Tensor]
    tokens: Rows
    actions: np.ndarray
    evidence: np.ndarray
    episodes: Sequence[Episode]
    outcomes: tuple[np.ndarray, np.ndarray] = field(init=False, repr=False)
    windows: np.ndarray = field(init=False, repr=False)
    last: np.ndarray = field(init=False, repr=False)
    holders: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        rewards, ends = self.store.rewards(), self.store.ends()
        assert rewards is not None
        assert ends is not None
        object.__setattr__(self, "outcomes", (rewards, ends))
        spans = [(e.start, e.start + e.length - self.frames + 1) for e in self.episodes]
        starts = [np.arange(*span) for span in spans if span[0] < span[1]]
        object.__setattr__(self, "windows", np.concatenate(starts))
        object.__setattr__(self, "last", np.array([clips[-1] for clips in starts]))
        begun = np.bincount(self.windows, minlength=len(self.store))
        over = np.concatenate([np.zeros(self.frames, begun.dtype), begun])[: len(begun)]
        object.__setattr__(self, "holders", np.cumsum(begun - over))

    def __call__(self, index: BatchIndex) -> Batch:
        """Returns features (N,S,F), latent actions, rewards, ends, weights (N,) and evidence (N,A).

        A step leads on from the frame that its features are of. Where no frame follows, its action
        is -1. Where its outcome is unknown, its weight is 0.
        """
        starts, weights = self._clips(index)
        rows = starts[:, None] + np.arange(self.frames)
        rewards, ends = (known[rows] for known in self.outcomes)
        weights = weights[:, None] / self.holders[rows]
        weights = np.where(np.isfinite(rewards) & (ends >= 0), weights, 0)
        tokens, actions = (
            torch.from_numpy(part[rows].astype(np.int64)) for part in (self.tokens, self.actions)
        )
        with torch.no_grad():
            features = self.features(tokens, actions[:, :-1])
        told = (np.nan_to_num(rewards), (ends == 1).astype(np.float32), weights.astype(np.float32))
        steps = [torch.from_numpy(part).flatten() for part in told]
        evidence = torch.from_numpy(self.evidence[rows]).flatten(0, 1)
        return features.flatten(0, 1), actions.flatten(), *steps, evidence

    def _clips(self, index: BatchIndex) -> tuple[np.ndarray, np.ndarray]:
        evenly = index.clip_starts(self.windows, self.batch)
        ending = index.clip_starts(self.last, self.batch, salt=1)
        starts = np.where(np.arange(len(evenly)) % 2 == 0, evenly, ending)
        often = 1 + len(self.windows) / len(self.last)
        return starts, np.where(np.isin(starts, self.last), 2 / often, 2.0)


def segment_starts(store: ClipStore, frames: int, split: str | None = None) -> np.ndarray:
    """Returns where whole segments of `frames` frames start, from each episode's start on."""
    spans = [
        np.arange(e.start, e.start + e.length - frames + 1, frames)
        for e in store.episodes_in_split(split)
    ]
    return np.concatenate([np.empty(0, np.int64), *spans]).astype(np.int64)


class PrefetchLoader:
    """Endless batches from an index on, some of them prefetched by threads.

    Threads, because the reads wait for a disk or copy memory, and one cache of frames serves all.
    Their number does not change what is read.

    Args:
        read: gives the batch of an index.
        first: index of the first batch.
        threads: how many batches are read at a time.
    """

    def __init__(self, read: ReadBatch, first: BatchIndex, threads: int = 2) -> None:
        self.read, self.first, self.threads = read, first, threads

    def __iter__(self) -> Iterator[Batch]:
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="clips")
        waiting: deque[Future[Batch]] = deque()
        try:
            for index in _batch_indices(self.first):
                waiting.append(pool.submit(self.read, index))
                if len(waiting) > self.threads:
                    yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _batch_indices(index: BatchIndex) -> Iterator[BatchIndex]:
    while True:
        for micro_batch in range(index.micro_batches):
            yield replace(index, micro_batch=micro_batch)
        index = replace(index, step=index.step + 1)
