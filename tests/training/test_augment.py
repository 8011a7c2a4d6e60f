from dataclasses import replace

import numpy as np
import pytest
import torch
from schedules import small_schedule

from genie.core.config import UserError
from genie.data.sampler import BatchIndex
from genie.data.store import ClipStore
from genie.presets.schedule import Augmentation
from genie.training.augment import flip, jitter_color, sample_augmentations
from genie.training.batches import FrameBatches
from genie.training.checkpointing import read_checkpoint
from genie.training.pipeline import train

ALL = Augmentation(flip_prob=0.5, color_jitter=1.0, max_stride=3)


def numbers(store, starts, length):
    """In batch_index of a store's windows: frames that are their own numbers."""
    frames = (np.asarray(starts)[:, None] + np.arange(length)).astype(np.uint8)
    return np.broadcast_to(frames[..., None, None, None], (*frames.shape, 16, 16, 3))


def test_off_changes_nothing(store):
    for step in range(5):
        (frames,) = FrameBatches(store, 4, 6)(BatchIndex(1, step))
        starts = BatchIndex(1, step).clip_starts(store.window_starts(4, "train"), 6)
        assert np.array_equal(frames, store.windows(starts, 4))


def test_flips_flip_whole_clips(store):
    plain, flipping = (
        FrameBatches(store, 4, 8),
        FrameBatches(store, 4, 8, Augmentation(flip_prob=0.5)),
    )
    flips = 0
    for step in range(20):
        for before, after in zip(
            plain(BatchIndex(0, step))[0], flipping(BatchIndex(0, step))[0], strict=True
        ):
            flip = not torch.equal(before, after)
            flips += flip
            assert torch.equal(after, before.flip(2) if flip else before)
    assert 50 < flips < 110


def test_colors_are_the_same_over_a_clip_and_differ_between_clips():
    colors = sample_augmentations(ALL, BatchIndex(0), 16).colors
    frame = np.random.default_rng(0).integers(0, 256, (1, 1, 8, 8, 3), dtype=np.uint8)
    made = jitter_color(np.broadcast_to(frame, (16, 3, 8, 8, 3)).copy(), colors)
    assert made.dtype == np.uint8
    assert (made == made[:, :1]).all()
    means = made.mean(axis=(1, 2, 3))
    assert np.unique(means, axis=0).shape == (16, 3)
    assert means.std() > 10
    # Not so much that nothing could be told any more.
    assert made.std(axis=(1, 2, 3, 4)).min() > 20


def test_no_strength_leaves_colors_and_grey_stays_grey():
    frames = np.random.default_rng(0).integers(0, 256, (4, 2, 8, 8, 3), dtype=np.uint8)
    assert np.array_equal(
        jitter_color(frames, sample_augmentations(Augmentation(), BatchIndex(0), 4).colors), frames
    )
    grey = np.broadcast_to(frames[..., :1], frames.shape).copy()
    made = jitter_color(grey, sample_augmentations(ALL, BatchIndex(0), 4).colors).astype(int)
    assert np.ptp(made, axis=-1).max() <= 1


def test_every_kth_frame_of_one_episode(store, monkeypatch):
    monkeypatch.setattr(ClipStore, "windows", numbers)
    read = FrameBatches(store, 4, 16, Augmentation(max_stride=3))
    episode = {i: e for e in store.episodes for i in range(e.start, e.start + e.length)}
    strides = set()
    for step in range(12):
        clips = read(BatchIndex(0, step))[0][:, :, 0, 0, 0].numpy().astype(int)
        starts = BatchIndex(0, step).clip_starts(read.windows, 16)
        assert np.array_equal(clips[:, 0], starts)
        for clip in clips:
            (stride,) = set(np.diff(clip))
            strides.add(int(stride))
            assert {episode[i].start for i in clip} == {episode[clip[0]].start}
            assert episode[clip[0]].split == "train"
    assert strides == {1, 2, 3}


def test_the_same_place_gives_the_same_clips(store):
    read = FrameBatches(store, 4, 8, ALL)
    one, again = read(BatchIndex(2, 7))[0], FrameBatches(store, 4, 8, ALL)(BatchIndex(2, 7))[0]
    assert torch.equal(one, again)
    assert not torch.equal(one, read(BatchIndex(2, 8))[0])
    other = (
        sample_augmentations(ALL, BatchIndex(3, 7), 8),
        sample_augmentations(ALL, BatchIndex(2, 7), 8),
    )
    assert not np.array_equal(other[0].colors, other[1].colors)


def test_parts_and_ranks_make_up_the_batch(store):
    read = FrameBatches(store, 4, 8, ALL)
    whole = read(BatchIndex(3, 5))[0]
    micro_batches = [read(BatchIndex(3, 5, micro_batch, 2))[0] for micro_batch in range(2)]
    assert torch.equal(torch.stack(micro_batches, dim=1).flatten(0, 1), whole)
    ranks = [read(BatchIndex(3, 5, rank=rank, world_size=2))[0] for rank in range(2)]
    assert torch.equal(torch.cat(ranks), whole)


def test_what_was_given_is_not_written_to():
    frames = np.arange(2 * 2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 2, 4, 4, 3)
    before = frames.copy()
    assert not np.array_equal(flip(frames, np.array([True, False])), before)
    assert np.array_equal(frames, before)


@pytest.mark.parametrize("change", [{"flip_prob": 1.5}, {"color_jitter": -0.1}, {"max_stride": 0}])
def test_impossible_changes_are_refused_by_name(change):
    with pytest.raises(UserError, match=next(iter(change))):
        Augmentation(**change)


def test_a_run_that_was_stopped_sees_the_same(store, small_world, console, tmp_path):
    whole = small_schedule(augmentation=ALL)
    half = replace(whole, tokenizer=replace(whole.tokenizer, steps=4, lr_schedule="constant"))
    whole = replace(whole, tokenizer=replace(whole.tokenizer, steps=8, lr_schedule="constant"))
    states = []
    for name, schedules in (("a", (whole,)), ("b", (half, whole))):
        for schedule in schedules:
            train(
                store,
                tmp_path / name,
                world=small_world,
                train=schedule,
                stages=("tokenizer",),
                console=console,
            )
        path = tmp_path / name / "checkpoints" / "tokenizer.ckpt"
        states.append(read_checkpoint(path)["model"])
    one, other = states
    assert all(torch.equal(one[key], other[key]) for key in one)
