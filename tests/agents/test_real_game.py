from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from square_game import LENGTH, SQUARE, expert

from genie.agents.real_game import RealGameConfig, Returns, action_names, measure, random_player
from genie.core.config import UserError

GAME = RealGameConfig(SQUARE, levels=5, seeds=3, num_envs=4)


def play_well(frames, games, first):
    return expert(frames)


def test_every_level_is_played_as_often():
    ticks = []
    found = measure(
        lambda frames, games, first: expert(frames), GAME, on_game=lambda: ticks.append(1)
    )
    assert torch.equal(found.returns, torch.full((5, 3), float(LENGTH)))
    assert torch.equal(found.lengths, torch.full((5, 3), LENGTH))
    assert len(ticks) == 15
    assert found.interval() == (LENGTH, LENGTH)


def test_random_play_is_worse_and_differs_by_seed():
    player = random_player(GAME)
    found = measure(player, GAME)
    assert 0 < found.mean < LENGTH / 2
    assert found.returns.std(1).max() > 0
    low, high = found.interval()
    assert low < found.mean < high
    assert measure(random_player(GAME), GAME).mean == found.mean
    best = measure(play_well, GAME)
    more = best.above(found)
    assert 0 < more["low"] < more["mean"] < more["high"]


def test_a_game_that_does_not_end_is_cut_off():
    game = replace(GAME, options={"length": 50}, max_steps=4)
    found = measure(play_well, game)
    assert torch.equal(found.lengths, torch.full((5, 3), 4))
    assert torch.equal(found.returns, torch.full((5, 3), 4.0))


def test_a_player_is_told_where_games_begin():
    begun = []

    def player(frames, games, first):
        begun.extend(games[first].tolist())
        return expert(frames)

    measure(player, GAME)
    assert len(begun) == 15


def test_procgen_plays_the_levels_that_are_asked_for():
    pytest.importorskip("procgen")
    game = RealGameConfig("procgen:coinrun", levels=3, seeds=2, max_steps=6, num_envs=4)
    names = action_names(game)
    assert len(names) == 15
    assert "right+up" in names
    frames_of = {}

    def player(frames, games, first):
        for frame in frames[first]:
            frames_of[frame.tobytes()] = frames_of.get(frame.tobytes(), 0) + 1
        return np.full(len(games), names.index("noop"))

    found = measure(player, game)
    assert found.lengths.max() <= 6
    assert sorted(frames_of.values()) == [2, 2, 2]  # three levels, each begun twice


def test_the_interval_is_over_levels():
    """Games of one level that all end alike are one observation."""
    levels = torch.tensor([0.0, 10.0] * 10)[:, None]
    once, often = (Returns(r, r.long()) for r in (levels, levels.expand(-1, 50)))
    assert once.interval() == often.interval()
    low, high = once.interval()
    assert high - low == pytest.approx(2 * 1.96 * 5 / 20**0.5, rel=0.2)


def test_bad_numbers_are_said():
    with pytest.raises(UserError, match="levels: must be at least 1"):
        RealGameConfig(levels=0)
    with pytest.raises(UserError, match="first_level: must not be negative"):
        RealGameConfig(first_level=-1)
    with pytest.raises(UserError, match="its actions are not a list of choices"):
        action_names(RealGameConfig(SQUARE, options={"space": Box(-1, 1)}))
