import numpy as np
import pytest

from genie.data.clip_features import FEATURES, PAIRS, clip_features, features_of, pairs_of

RANDOM = np.random.default_rng(0)
NOISE = RANDOM.integers(0, 256, (20, 16, 16, 3), np.uint8)


def named(frames):
    def read(starts):
        return np.stack([frames[starts], frames[starts + 1]], 1)

    return dict(zip(FEATURES, features_of(read, 0, len(frames)), strict=True))


def test_what_is_looked_at_is_spread_over_the_clip():
    assert pairs_of(2).tolist() == [0]
    assert pairs_of(4).tolist() == [0, 1, 2]
    long = pairs_of(10_000)
    assert (len(long), long[0], long[-1]) == (PAIRS, 0, 9_998)


def test_shares_of_pixels():
    frames = np.zeros((5, 16, 16, 3), np.uint8)
    frames[:, :4] = 255, 0, 0
    found = named(frames)
    assert found["brightness_0"] == 0.75
    assert found["saturation_3"] == 1 - found["saturation_0"] or found["saturation_3"] == 1
    assert sum(found[f"brightness_{n}"] for n in range(8)) == pytest.approx(1)
    assert (found["edges"], found["flat"], found["never_changed"], found["changed"]) == (0, 1, 1, 0)
    assert found["motion"] == found["motion_spread"] == pytest.approx(np.log(1e-4))


def test_noise_changes_everywhere_and_a_part_that_stands_still_is_seen():
    noise = named(NOISE)
    assert noise["changed"] > 0.95
    assert noise["never_changed"] == 0
    assert noise["edges"] > 0.6
    half = NOISE.copy()
    half[:, 8:] = NOISE[0, 8:]
    assert named(half)["never_changed"] == 0.5


def test_motion_that_stops_has_a_spread():
    stops = NOISE.copy()
    stops[10:] = stops[10]
    assert named(stops)["changed_spread"] > 0.4 > 0.1 > named(NOISE)["changed_spread"]


def test_features_are_finite_for_a_single_pair():
    assert np.isfinite(clip_features(NOISE[None, :2])).all()
