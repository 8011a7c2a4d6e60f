import numpy as np
import pytest
from sample_videos import moving_square

from genie.data.near_duplicates import NearDuplicates, signature

RANDOM = np.random.default_rng(0)


def textured(seed, frames=24, size=32):
    ground = np.random.default_rng(seed).integers(0, 200, (8, 16, 3)).astype(np.uint8)
    ground = ground.repeat(size // 8, 0).repeat(size // 8, 1)
    return np.stack([np.roll(ground, 2 * t, 1)[:, :size] for t in range(frames)])


def moving(seed, frames):
    return moving_square(frames, seed=seed)


def row(frames):
    return {"signature": signature(frames), "length": len(frames)}


ALTERED = {
    "same": lambda clip: clip,
    "noise": lambda clip: (clip + RANDOM.normal(0, 4, clip.shape)).clip(0, 255).astype(np.uint8),
    "darker": lambda clip: (clip * 0.8).astype(np.uint8),
    "larger": lambda clip: clip.repeat(2, 1).repeat(2, 2),
}


@pytest.mark.parametrize("alter", ALTERED.values(), ids=ALTERED)
def test_an_altered_copy_is_a_duplicate(alter):
    seen = NearDuplicates()
    clip = textured(1)
    assert seen.is_new(row(clip))
    assert not seen.is_new(row(alter(clip)))


@pytest.mark.parametrize("make", [textured, moving])
def test_other_clips_are_new(make):
    seen = NearDuplicates()
    clips = [row(make(seed, 8)) for seed in range(66)]  # more than are reserved at first
    assert seen.without(clips) == clips
    assert seen.without(clips) == []


def test_a_clip_of_another_length_is_new():
    seen = NearDuplicates()
    still = np.repeat(textured(1)[:1], 40, 0)
    assert seen.is_new(row(still))
    assert not seen.is_new(row(still[:38]))
    assert seen.is_new(row(still[:20]))
