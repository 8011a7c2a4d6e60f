from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from recorded import made_recording, played_again

from genie.core.config import UserError
from genie.data.sampler import BatchIndex
from genie.data.store import ClipStore
from genie.training.batches import (
    FrameBatches,
    PrefetchLoader,
    RewardBatches,
    TokenBatches,
    segment_starts,
)
from sharing import once
from small import save_store


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


def test_outcomes_are_those_of_the_real_game(tmp_path_factory):
    """Of the step after each frame, of the last step, and of the first one after a reset."""
    pytest.importorskip("procgen")
    recording = ClipStore.open(once(tmp_path_factory, "recording", made_recording) / "store")
    labels, episodes = recording.labels(last=True), recording.episodes_in_split("train")
    rows = [slice(e.start, e.start + e.length) for e in episodes]
    real = played_again([labels[each].tolist() for each in rows])
    numbers = np.arange(len(recording))[:, None]
    batches = RewardBatches(
        recording,
        frames=4,
        batch=64,
        features=lambda tokens, actions: tokens.float()[..., None],
        tokens=numbers,
        actions=labels,
        evidence=np.zeros((len(recording), 3), np.float32),
        episodes=episodes,
    )
    found = [batches(BatchIndex(seed=0, step=step)) for step in range(40)]
    features, _, rewards, ends, weights, _ = (
        torch.cat(parts) for parts in zip(*found, strict=True)
    )
    told = {
        int(row): (reward, end)
        for row, reward, end in zip(features[:, 0, 0], rewards, ends, strict=True)
    }
    assert (weights > 0).all()
    for each, (frames, earned, ended) in zip(rows, real, strict=True):
        error = np.abs(recording.read(each.start, each.stop - each.start).astype(int) - frames)
        assert error.mean(axis=(1, 2, 3)).max() < 6
        seen = [t for t in range(each.stop - each.start) if each.start + t in told]
        assert {0, len(earned) - 1} <= set(seen)
        assert [told[each.start + t] for t in seen] == [(earned[t], ended[t]) for t in seen]
    assert sum(map(sum, (ended for *_, ended in real))) == len(episodes)
    assert rewards.max() > 0


def test_every_step_counts_alike_though_last_ones_are_sampled_more(tmp_path):
    lengths, rng = (9, 30, 14), np.random.default_rng(0)
    clips = [("train", rng.integers(0, 255, (n, 8, 8, 3), np.uint8)) for n in lengths]
    tagged = save_store(tmp_path, *clips)
    count = sum(lengths)
    np.save(tmp_path / "rewards.npy", np.zeros(count, np.float32))
    np.save(tmp_path / "ends.npy", np.zeros(count, np.int8))
    rows = np.arange(count)[:, None]
    batches = RewardBatches(
        tagged, 4, 32, lambda tokens, actions: tokens.float()[..., None], rows,
        np.zeros(count, np.int64), np.zeros((count, 2), np.float32), tagged.episodes,
    )  # fmt: skip
    total, often = np.zeros(count), np.zeros(count)
    for step in range(120):
        features, *_, weights, _ = batches(BatchIndex(seed=1, step=step))
        np.add.at(total, features[:, 0, 0].long().numpy(), weights.numpy())
        np.add.at(often, features[:, 0, 0].long().numpy(), 1)
    assert abs(total / total.mean() - 1).max() < 0.3
    assert often[8] > 4 * often[0]
