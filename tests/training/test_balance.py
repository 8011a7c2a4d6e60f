from collections import Counter

import numpy as np
import pytest

from genie.core.config import UserError
from genie.data.sampler import BatchIndex
from genie.presets.schedule import TrainConfig
from genie.training.balance import BalancedClips
from genie.training.batches import TokenBatches

ACTIONS = np.where(np.arange(400) % 40 == 0, 2, np.arange(400) % 2)  # 2 is rare
WINDOWS = np.arange(0, 390)


def last_actions(share: float, steps: int = 60) -> Counter:
    clips, found = BalancedClips(WINDOWS, ACTIONS, 5, share), Counter()
    for step in range(steps):
        index = BatchIndex(0, step)
        starts = clips(index, index.clip_starts(WINDOWS, 6), 6)
        assert np.isin(starts, WINDOWS).all()
        found.update(ACTIONS[starts + 3].tolist())
    return found


def test_all_actions_are_as_frequent_where_all_clips_are_balanced():
    assert last_actions(1.0) == {0: 120, 1: 120, 2: 120}
    assert last_actions(0.0)[2] < 15
    assert 50 < last_actions(0.5)[2] < 75


def test_it_depends_on_the_step_only():
    clips = BalancedClips(WINDOWS, ACTIONS, 5, 1.0)
    index = BatchIndex(3, 7)
    starts = index.clip_starts(WINDOWS, 6)
    assert np.array_equal(clips(index, starts, 6), clips(index, starts, 6))
    parts = [BatchIndex(3, 7, micro_batch=i, micro_batches=2) for i in range(2)]
    found = [clips(part, part.clip_starts(WINDOWS, 6), 6) for part in parts]
    assert sorted(ACTIONS[np.concatenate(found) + 3].tolist()) == [0, 0, 1, 1, 2, 2]


def test_clips_of_tokens_are_balanced_where_it_is_asked_for(store):
    actions = np.zeros(len(store), np.int64)
    actions[::7] = 1
    for episode in store.episodes:
        actions[episode.start + episode.length - 1] = -1
    tokens = np.zeros((len(store), 1), np.int32)
    counts = []
    for share in (0.0, 1.0):
        batches = TokenBatches(store, 4, 8, tokens, None, actions, balanced_actions=share)
        last = np.concatenate([batches(BatchIndex(0, step))[1][:, -1] for step in range(10)])
        counts.append(int((last == 1).sum()))
    assert counts[0] < 30
    assert counts[1] == 40


def test_it_is_off_by_default_and_not_for_joint_training():
    assert TrainConfig().balanced_actions == 0
    with pytest.raises(UserError, match="balanced_actions"):
        TrainConfig(joint=True, balanced_actions=0.5)
    with pytest.raises(UserError, match="balanced_actions"):
        TrainConfig(balanced_actions=1.5)
