from dataclasses import replace

import pytest
import torch

from genie.evaluation.metrics.observations import (
    Observer,
    first_run,
    longest_run,
    reference,
    restricted_mean,
    token_distance,
)
from genie.models.external_networks import Pixels


def flags(text):
    return torch.tensor([letter == "x" for letter in text])


def test_spells_by_hand():
    assert first_run(flags("..x.xxx.xxx"), 3) == 4
    assert first_run(flags("xx.xx"), 3) is None
    assert first_run(flags("xx"), 3) is None
    assert first_run(flags("xxx"), 3) == 0
    assert longest_run(flags("x.xxx.xx")) == 3
    assert longest_run(flags("...")) == 0


def test_token_distance_by_hand():
    reference = torch.tensor([10, 10, 0, 0])
    counts = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]])
    same, half, other = token_distance(counts, reference, 2).tolist()
    assert same == pytest.approx(0)
    # Shares 1/4 each against halves: H(3/8, 3/8, 1/8, 1/8) - 2 / 2 - 1 / 2.
    assert half == pytest.approx(1.8112781 - 1.5, abs=1e-6)
    assert other == pytest.approx(1)


def test_the_mean_time_to_the_end():
    assert restricted_mean([2, 4, 6, 8], [True] * 4, 8) == 5
    assert restricted_mean([2, 8, 8, 8], [True, False, False, False], 8) == 6.5
    # One is last seen at 2 and one ends at 4, when three are watched.
    assert restricted_mean([2, 4, 8, 8], [False, True, False, False], 8) == pytest.approx(
        4 + 4 * 2 / 3
    )
    assert restricted_mean([3, 3], [False, False], 3) == 3


def test_an_avatar_that_is_gone_for_more_than_a_second_ends_a_game(grey_world, grey_store):
    observer = Observer(grey_world, Pixels(), None, 8)
    real = reference(observer, grey_store, "val", 2000, 0, 4)
    assert real.second == 10
    episode, seen = next(iter(real.observations.items()))
    assert (
        sum(len(s.frozen) for s in real.observations.values()) == 720
    )  # 9 windows of 8 in each of 10 episodes
    away = torch.zeros(72, dtype=torch.bool)
    away[[*range(3, 13), *range(20, 31)]] = True
    distance = real.distance(seen, episode)
    assert real.ends(replace(seen, visible=~away), distance)[2] == 20
    assert real.ends(seen, distance)[2] == 72


def test_real_video_is_whole_episodes_within_bounds(grey_world, grey_store):
    observer = Observer(grey_world, Pixels(), None, 8)
    assert len(reference(observer, grey_store, "val", 200, 0, 4).observations) == 2
    assert len(reference(observer, grey_store, "val", 1, 0, 4).observations) == 1
