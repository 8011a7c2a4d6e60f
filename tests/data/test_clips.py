from types import SimpleNamespace

import numpy as np
import pytest
import torch

from genie.core.config import UserError
from genie.data.clips import ClipBatches, select_clips

LENGTH = 40
EPISODES = [
    SimpleNamespace(split="val" if i % 2 else "train", start=i * LENGTH, length=LENGTH)
    for i in range(12)
]
FRAMES = (np.arange(12 * LENGTH) % 256).astype(np.uint8)[:, None, None, None].repeat(3, -1)
STORE = SimpleNamespace(
    episodes=EPISODES,
    windows=lambda starts, length: FRAMES[np.asarray(starts)[:, None] + np.arange(length)],
)


def episode_of(starts):
    return starts // LENGTH


def test_clips_are_held_out_and_do_not_overlap():
    starts = select_clips(STORE, "val", 9, 100, seed=0)
    assert len(starts) == 6 * 4  # 40 // 9 clips of each of 6 episodes, though 100 were asked for
    assert (episode_of(starts) % 2 == 1).all()
    assert (episode_of(starts) == episode_of(starts + 8)).all()
    assert (np.diff(np.sort(starts)) >= 9).all()


def test_clips_are_spread_over_the_episodes():
    starts = select_clips(STORE, "val", 9, 8, seed=3)
    counts = np.bincount(episode_of(starts), minlength=12)[1::2]
    assert sorted(counts) == [1, 1, 1, 1, 2, 2]


def test_more_clips_begin_with_the_same_ones():
    few, many = (select_clips(STORE, "val", 9, n, seed=1) for n in (7, 20))
    assert (many[: len(few)] == few).all()


def test_the_seed_decides():
    first, again, other = (select_clips(STORE, "val", 9, 6, seed=s) for s in (1, 1, 2))
    assert (first == again).all()
    assert not (first == other).all()


def test_no_clip_is_long_enough():
    with pytest.raises(UserError, match="no 'val' episode of 41 frames"):
        select_clips(STORE, "val", 41, 4, seed=0)
    with pytest.raises(UserError, match="no 'test' episode"):
        select_clips(STORE, "test", 4, 4, seed=0)


def test_batches_hold_the_frames_in_order():
    clips = ClipBatches(STORE, np.array([0, 50, 100]), 5, 2, torch.device("cpu"))
    batches = list(clips)
    assert len(clips) == len(batches) == 2
    assert [len(b) for b in batches] == [2, 1]
    assert (batches[1][0].numpy() == FRAMES[100:105]).all()
