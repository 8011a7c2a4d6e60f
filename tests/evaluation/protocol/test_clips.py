import numpy as np
import pytest
import torch

from genie.core.config import UserError
from genie.evaluation.protocol.clips import ClipBatches, select_clips


def episode_of(starts):
    return starts // 40


def test_clips_are_held_out_and_do_not_overlap(game):
    store = game.store()
    starts = select_clips(store, "val", 9, 100, seed=0)
    assert len(starts) == 6 * 4  # 40 // 9 clips of each of 6 episodes, though 100 were asked for
    assert (episode_of(starts) % 2 == 1).all()
    assert (episode_of(starts) == episode_of(starts + 8)).all()
    assert (np.diff(np.sort(starts)) >= 9).all()


def test_clips_are_spread_over_the_episodes(game):
    starts = select_clips(game.store(), "val", 9, 8, seed=3)
    counts = np.bincount(episode_of(starts), minlength=12)[1::2]
    assert sorted(counts) == [1, 1, 1, 1, 2, 2]


def test_more_clips_begin_with_the_same_ones(game):
    few, many = (select_clips(game.store(), "val", 9, n, seed=1) for n in (7, 20))
    assert (many[: len(few)] == few).all()


def test_the_seed_decides(game):
    first, again, other = (select_clips(game.store(), "val", 9, 6, seed=s) for s in (1, 1, 2))
    assert (first == again).all()
    assert not (first == other).all()


def test_no_clip_is_long_enough(game):
    with pytest.raises(UserError, match="no 'val' episode of 41 frames"):
        select_clips(game.store(), "val", 41, 4, seed=0)
    with pytest.raises(UserError, match="no 'test' episode"):
        select_clips(game.store(), "test", 4, 4, seed=0)


def test_batches_hold_the_frames_in_order(game):
    store = game.store()
    clips = ClipBatches(store, np.array([0, 50, 100]), 5, 2, torch.device("cpu"))
    batches = list(clips)
    assert len(clips) == len(batches) == 2
    assert [len(b) for b in batches] == [2, 1]
    assert (batches[1][0].numpy() == store.frames[100:105]).all()
