from types import SimpleNamespace

import numpy as np
import pytest
import torch

from genie.plugins import avatar
from genie.plugins.avatar import find_avatar, train_detector

SIDE = 32


def store(followed):
    """Moving ground; an avatar in the middle of every frame, or anywhere."""
    rng = np.random.default_rng(0)
    ground = rng.integers(60, 120, size=(400, SIDE, SIDE, 3), dtype=np.uint8)
    for frame in ground:
        y, x = (SIDE // 2 - 2,) * 2 if followed else rng.integers(SIDE - 4, size=2)
        frame[y : y + 4, x : x + 4] = (240, 230, 20)
    episodes = [SimpleNamespace(split=s, start=200 * i, length=200) for i, s in enumerate("tv")]
    return SimpleNamespace(
        height=SIDE, width=SIDE, episodes=episodes,
        windows=lambda starts, length: ground[np.asarray(starts)[:, None] + np.arange(length)],
    )  # fmt: skip


def test_an_avatar_in_the_middle_is_found_and_missed_when_it_is_gone():
    data = store(followed=True)
    detector, found = find_avatar(data, "t", "v", 0, "cpu")
    assert found["balanced_accuracy"] > 0.95
    assert found["control"] < 0.9
    assert "skipped" not in found
    frames = torch.from_numpy(data.windows([200], 50))
    assert detector.visible(frames).float().mean() > 0.95
    gone = frames.clone()
    gone[..., 12:20, 12:20, :] = frames[..., :8, :8, :]
    assert detector.visible(gone).float().mean() < 0.05


def test_a_camera_that_stands_still_is_found_out():
    detector, found = find_avatar(store(followed=False), "t", "v", 0, "cpu")
    assert detector is None
    assert found["balanced_accuracy"] < 0.9
    assert "does not seem to follow" in found["skipped"]


def test_where_every_place_can_be_learned_nothing_is_said(monkeypatch):
    monkeypatch.setattr(avatar, "train_detector", lambda *args, **kwargs: (None, 0.97))
    detector, found = find_avatar(store(followed=True), "t", "v", 0, "cpu")
    assert detector is None
    assert "beside the middle does as well" in found["skipped"]


def test_without_training_episodes_there_is_nothing_to_learn_from():
    assert "no 'x' split" in find_avatar(store(followed=True), "x", "v", 0, "cpu")[1]["skipped"]


def test_training_repeats_and_leaves_the_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    accuracies = [train_detector(store(True), "t", "v", steps=5)[1] for _ in range(2)]
    assert accuracies[0] == pytest.approx(accuracies[1])
    assert torch.equal(torch.rand(3), expected)
