from __future__ import annotations

import numpy as np
import pytest

from genie.core.config import UserError
from genie.data.sampler import permute, sample_clips


@pytest.mark.parametrize("n", [1, 2, 3, 7, 16, 17, 100, 4097])
def test_an_order_is_one_to_one(n):
    for epoch in range(3):
        assert sorted(permute(np.arange(n), n, (5, epoch))) == list(range(n))


def test_each_epoch_visits_each_clip_once_over_all_ranks():
    starts = np.arange(100, 196)
    for epoch in range(3):
        seen = [
            sample_clips(starts, seed=1, step=epoch * 8 + step, rank=rank, world_size=3, batch=4)
            for step in range(8)
            for rank in range(3)
        ]
        assert sorted(np.concatenate(seen)) == list(starts)


def test_a_batch_over_the_end_of_an_epoch():
    starts = np.arange(10)
    draws = np.concatenate([sample_clips(starts, seed=0, step=step, batch=4) for step in range(5)])
    assert sorted(draws[:10]) == sorted(draws[10:]) == list(range(10))
    assert list(draws[:10]) != list(draws[10:])


def test_any_step_can_be_asked_alone():
    starts = np.arange(1000) * 3
    run = [sample_clips(starts, seed=7, step=step, batch=8) for step in range(300)]
    assert all(
        np.array_equal(run[step], sample_clips(starts, seed=7, step=step, batch=8))
        for step in (299, 0, 150)
    )
    assert not np.array_equal(run[0], sample_clips(starts, seed=8, step=0, batch=8))
    assert set(np.concatenate(run[:100])) <= set(starts)


def test_neighbours_are_spread():
    order = permute(np.arange(10_000), 10_000, (3, 0))
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.05
    assert abs(np.corrcoef(np.arange(10_000), order)[0, 1]) < 0.05


def test_impossible_requests():
    with pytest.raises(UserError, match="no clips"):
        sample_clips(np.empty(0, np.int64), seed=0, step=0, batch=2)
    with pytest.raises(UserError, match="rank"):
        sample_clips(np.arange(5), seed=0, step=0, rank=2, world_size=2, batch=2)
