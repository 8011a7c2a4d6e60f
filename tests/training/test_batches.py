from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from genie.core.config import UserError
from genie.data.sampler import BatchIndex
from genie.training.batches import FrameBatches, PrefetchLoader, TokenBatches, segment_starts


@pytest.fixture
def tokens(store):
    """Tokens that are frame numbers, negative where they come from the fresh array."""
    whole = np.arange(len(store), dtype=np.int32)[:, None]
    actions = np.arange(len(store))
    for e in store.episodes:
        actions[e.start + e.length - 1] = -1
    return TokenBatches(store, 4, 8, whole, -whole, actions, prompt_fraction=0.25)


def test_frames_come_from_the_training_split(store):
    clips = FrameBatches(store, 5, 3)
    (frames,) = clips(BatchIndex(0))
    assert frames.shape == (3, 5, 16, 16, 3)
    held_out = set(store.frames_in_split("val").tolist())
    assert not held_out & set(np.add.outer(clips.windows, np.arange(5)).ravel().tolist())


def test_a_share_of_the_clips_is_fresh_and_starts_on_segments(store, tokens):
    segments = set(segment_starts(store, 4).tolist())
    fresh = 0
    for step in range(40):
        clip, actions = tokens(BatchIndex(0, step))
        assert clip.shape == (8, 4, 1)
        assert (actions >= 0).all()
        assert torch.equal(clip[:, :-1, 0].abs(), actions)
        negative = clip[:, 1, 0] < 0
        assert (clip[negative] <= 0).all()
        assert set(clip[negative, 0, 0].abs().tolist()) <= segments
        fresh += int(negative.sum())
    assert fresh == 40 * 8 * 0.25


def test_without_a_past_all_clips_are_whole(tokens):
    clip, _ = replace(tokens, prompt_tokens=None)(BatchIndex(0))
    assert (clip >= 0).all()


def test_joint_training_gets_the_frames_of_the_tokens(store, tokens):
    clip, frames = replace(tokens, actions=None, with_frames=True)(BatchIndex(0))
    for numbers, pictures in zip(clip[:, :, 0].abs(), frames, strict=True):
        assert torch.equal(pictures, torch.from_numpy(store.read(int(numbers[0]), 4)))


def test_parts_and_ranks_make_up_the_batch(tokens):
    whole = tokens(BatchIndex(3, 5))[0]
    micro_batches = torch.cat(
        [tokens(BatchIndex(3, 5, micro_batch, 4))[0] for micro_batch in range(4)]
    )
    ranks = torch.cat([tokens(BatchIndex(3, 5, rank=rank, world_size=2))[0] for rank in range(2)])
    for other in (micro_batches, ranks):
        assert sorted(whole[:, 0, 0].tolist()) == sorted(other[:, 0, 0].tolist())


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(UserError, match="3 micro-batches on 2 devices"):
        BatchIndex(0, micro_batches=3, world_size=2).clip_starts(np.arange(9), 8)


@pytest.mark.parametrize("threads", [1, 5])
def test_reading_ahead_keeps_the_order(threads):
    positions = list(
        islice(PrefetchLoader(lambda index: index, BatchIndex(0, 7, 0, 2), threads), 5)
    )
    assert [(p.step, p.micro_batch) for p in positions] == [(7, 0), (7, 1), (8, 0), (8, 1), (9, 0)]


def test_errors_while_reading_arrive():
    def broken(batch_index):
        raise UserError("the disk is gone")

    with pytest.raises(UserError, match="gone"):
        next(iter(PrefetchLoader(broken, BatchIndex(0))))
