from types import SimpleNamespace

import numpy as np
import pytest

from genie.core.config import UserError
from genie.data.labelled import (
    action_runs,
    in_one_episode,
    judged_windows,
    labelled_batches,
    split_episodes,
    stretches,
)

LENGTH = 10


def store(episodes=40, known=None):
    """Episodes of frames that show their own number, every second one held out."""
    frames = np.arange(episodes * LENGTH)
    labels = np.where(frames % LENGTH == LENGTH - 1, -1, frames % 5)
    return SimpleNamespace(
        episodes=[
            SimpleNamespace(
                id=i, split="val" if i % 2 else "train", start=i * LENGTH, length=LENGTH
            )
            for i in range(episodes)
        ],
        labels=lambda: labels if known is None else np.where(known(frames), labels, -1),
        windows=lambda starts, n: (
            frames[np.asarray(starts)[:, None] + np.arange(n), None, None, None]
            .repeat(3, -1)
            .astype(np.uint8)
        ),
    )


def test_judged_episodes_are_not_trained_on():
    trained, judged = split_episodes(store(), "train", seed=1)
    assert (len(trained), len(judged)) == (18, 2)
    assert not {e.id for e in trained} & {e.id for e in judged}
    assert {e.split for e in [*trained, *judged]} == {"train"}
    assert [len(part) for part in split_episodes(store(2), "train", 0)] == [1, 1]


def test_batches_hold_frames_and_what_was_pressed_between_them():
    video = store(20)
    _, judged = split_episodes(video, "train", 0)
    batches = list(labelled_batches(video, "train", window=4, batch=6, steps=5, seed=0))
    assert len(batches) == 5
    for frames, true in batches:
        numbers = frames[..., 0, 0, 0].long()
        assert (frames.shape, true.shape) == ((6, 4, 1, 1, 3), (6, 3))
        assert ((numbers[:, :-1] % 5 == true) | (true == -1)).all()
        assert (numbers // LENGTH % 2 == 0).all()
        assert not {e.id for e in judged} & set((numbers // LENGTH).flatten().tolist())


def test_every_clip_has_a_known_action():
    video = store(20, known=lambda frames: frames % LENGTH == 3)
    for _, true in labelled_batches(video, "train", window=3, batch=8, steps=4, seed=0):
        assert ((true >= 0).sum(1) == 1).all()


def test_without_known_actions_it_says_so():
    video = store(4, known=lambda frames: frames < 0)
    with pytest.raises(UserError, match="no true action of the 'train' split"):
        next(labelled_batches(video, "train", window=4, batch=2, steps=1, seed=0))


def test_windows_to_judge_by_do_not_overlap():
    video = store(40)
    starts, length = judged_windows(video, "train", window=3, count=100, seed=1)
    _, judged = split_episodes(video, "train", 1)
    assert length == 3
    assert sorted(starts) == sorted(e.start + 3 * i for e in judged for i in range(3))
    few, whole = judged_windows(video, "train", window=17, count=1, seed=1)
    assert (len(few), whole) == (1, LENGTH)


def test_stretches_of_an_action_lie_within_episodes():
    held = np.array([1, 1, 1, 1, 1, 0, 1, 1, 1, 1], bool)
    episodes = [
        SimpleNamespace(split="val", start=0, length=5),
        SimpleNamespace(split="val", start=5, length=5),
        SimpleNamespace(split="train", start=0, length=5),
    ]
    video = SimpleNamespace(episodes=episodes)
    runs = action_runs(video, held.astype(int), "val")
    assert runs == [(1, 0, 4), (0, 5, 1), (1, 6, 3)]
    assert list(stretches(runs, 1, 2)) == [0, 2, 6]
    assert in_one_episode(video, 5, 9)
    assert not in_one_episode(video, 4, 5)
